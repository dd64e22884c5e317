// expect: moe: experts as a function need forward\(Index expert, ConstMatrixView<Real> rows
#include "moe/expert/bank/function.hpp"

#if defined(MOE_MUST_COMPILE)
inline constexpr auto kForward = [](moe::Index, moe::ConstMatrixView<float>, moe::MatrixView<float>) {};
#else
inline constexpr auto kForward = [](moe::ConstMatrixView<float>, moe::MatrixView<float>) {};
#endif
using Bank = moe::FunctionExperts<float, decltype(kForward)>;
using Tape = Bank::Tape;
