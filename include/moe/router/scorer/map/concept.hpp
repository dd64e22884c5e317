// What some routers do to a row of logits before the score function: soft caps, a fixed spread. A scorer with
// such a map behind it is a MappedScorer.
#pragma once

#include <concepts>

#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

/// Rows of n logits. `backward` turns the gradient of the mapped row into that of the raw one, in place.
template <class M>
concept LogitMap = std::copy_constructible<M> &&
    requires(const M& m, const double* raw, double* row, Index n) {
  m.forward(row, n);
  m.backward(raw, row, n);
};

namespace impl {

/// A map chosen at run time may be none.
template <class M>
bool is_identity(const M& map) noexcept {
  if constexpr (requires { map.is_identity(); }) {
    return map.is_identity();
  } else {
    return false;
  }
}

}  // namespace impl

MOE_NAMESPACE_END
