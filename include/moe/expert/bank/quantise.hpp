// From one storage of a bank's weights to another.
#pragma once

#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/mlp.hpp"

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

MOE_NAMESPACE_END
