// Which type the weights of a bank are stored in, and which type it computes in.
#pragma once

#include "moe/config.hpp"

MOE_NAMESPACE_BEGIN

/// `Real`: the type of rows, results and gradients of a bank whose weights are stored as `Storage`; at least
/// float. Specialised once per storage format.
template <class Storage>
struct StorageTraits;

template <>
struct StorageTraits<float> {
  using Real = float;
};
template <>
struct StorageTraits<double> {
  using Real = double;
};

MOE_NAMESPACE_END
