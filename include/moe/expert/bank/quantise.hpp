// From one storage of a bank's weights to another.
#pragma once

#include <cstddef>
#include <utility>

#include "moe/expert/bank/any.hpp"
#include "moe/expert/bank/composite.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/expert/bank/zero_computation.hpp"

MOE_NAMESPACE_BEGIN

/// The experts of `bank` with weights stored as To: BFloat16, Int8Groups<>, Int4Groups<>, or float to unpack
/// them again. Each number is rounded to the nearest that its group can hold; biases and the activation stay.
/// Needs one expert's float matrices of scratch memory. Throws numeric_error naming the matrix and the place
/// of a number that is not finite or too large.
template <class To, class Act, class From>
Glu<Act, To> quantise(const Glu<Act, From>& bank) {
  return Glu<Act, To>(bank);
}
template <class To, class Act, class From>
Mlp<Act, To> quantise(const Mlp<Act, From>& bank) {
  return Mlp<Act, To>(bank);
}

/// Their vectors stay as they are.
template <class To, class Real>
ZeroComputation<Real> quantise(const ZeroComputation<Real>& bank) {
  return bank;
}

/// Each bank of a composite, and the bank that a OneBank holds.
template <class To, class... Banks>
auto quantise(const Composite<Banks...>& bank) {
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    return Composite(quantise<To>(bank.template bank<I>())...);
  }
  (std::index_sequence_for<Banks...>{});
}
template <class To, class... Banks>
auto quantise(const OneBank<Banks...>& bank) {
  using Result = OneBank<decltype(quantise<To>(std::declval<const Banks&>()))...>;
  return bank.visit([](const auto& own) { return Result(quantise<To>(own)); });
}

MOE_NAMESPACE_END
