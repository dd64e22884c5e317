// Elementary functions on V = float, double or a batch of them: what activations and softmax are made of.
// Scalars use the C library (kernel/ref/math.hpp), batches polynomials (kernel/simd/math.hpp).
//
// Errors, relative to the exact result, in units of u = 2^-24 (float) or 2^-53 (double); added to each is one
// smallest normal number, because batches give 0 for an e^x below it. NaN gives NaN.
//   exp_nonpositive(x)    e^x                  x <= 0; -inf gives exactly 0     2 u
//   expm1_nonpositive(x)  e^x - 1              x <= 0                           3 u
//   log1p_unit(x)         ln(1 + x)            0 <= x <= 1                      5 u
//   normal_tail_factors(x)  a * b = Phi(-x)    x >= 0                           (12 + 2 x^2) u
//   sigmoid_pair(x)       1 / (1 + e^(-+x))                                     5 u
//   tanh(x)                                                                     5 u
//   softplus(x)           ln(1 + e^x)                                           7 u
//   normal_cdf(x)         Phi(x)                                                (13 + 2 x^2) u
//   normal_density(x)     e^(-x^2/2)/sqrt(2pi)                                  (5 + x^2 / 2) u
//   log_positive(x)       ln(x)                scalars only                     as the C library
//   square_root(x)        sqrt(x)                                               1 u
#pragma once

#include <concepts>
#include <limits>

#include "moe/kernel/arch.hpp"
#include "moe/kernel/ref/math.hpp"
#include "moe/kernel/simd/math.hpp"

MOE_NAMESPACE_BEGIN
namespace math {

namespace impl {
template <class V>
struct ScalarOf {
  using type = typename V::value_type;
};
template <std::floating_point V>
struct ScalarOf<V> {
  using type = V;
};
}  // namespace impl

/// float or double, whether V is that or a batch of it.
template <class V>
using Scalar = typename impl::ScalarOf<V>::type;

/// c in every lane.
template <class V>
MOE_ALWAYS_INLINE V constant(double c) noexcept {
  return V(static_cast<Scalar<V>>(c));
}

/// Bounds that let NaN through: min(x, high), min(max(x, low), high), max(x, 0) (+0 for -0).
template <class V>
MOE_ALWAYS_INLINE V at_most(const V& x, double high) noexcept {
  return select(x > constant<V>(high), constant<V>(high), x);
}
template <class V>
MOE_ALWAYS_INLINE V clamp(const V& x, double low, double high) noexcept {
  return select(x < constant<V>(low), constant<V>(low), at_most(x, high));
}
template <class V>
MOE_ALWAYS_INLINE V positive_part(const V& x) noexcept {
  return select(x <= constant<V>(0), constant<V>(0), x);
}

/// y where x > 0, else 0. y where x <= high, else 0.
template <class V>
MOE_ALWAYS_INLINE V where_positive(const V& x, const V& y) noexcept {
  return select(x > constant<V>(0), y, constant<V>(0));
}
template <class V>
MOE_ALWAYS_INLINE V where_at_most(const V& x, double high, const V& y) noexcept {
  return select(x <= constant<V>(high), y, constant<V>(0));
}

/// x, or 0 where it is below the smallest normal number: most processors take a hundred times as long for
/// such numbers, and what shrinks by a factor from step to step stays one of them for ever.
template <class V>
MOE_ALWAYS_INLINE V without_subnormal(const V& x) noexcept {
  constexpr double kSmallest = (std::numeric_limits<Scalar<V>>::min)();
  return select(abs(x) < constant<V>(kSmallest), constant<V>(0), x);
}

/// 1 / (1 + e^-x) and 1 / (1 + e^x), both to full relative accuracy: no 1 - s, no overflow.
template <class V>
struct SigmoidPair {
  V of_x, of_minus_x;
};

template <class V>
MOE_ALWAYS_INLINE SigmoidPair<V> sigmoid_pair(const V& x) noexcept {
  const V e = exp_nonpositive(V(-abs(x)));
  const V large = constant<V>(1) / (constant<V>(1) + e);
  const V small = e * large;
  const auto negative = x < constant<V>(0);
  return {select(negative, small, large), select(negative, large, small)};
}

/// tanh(x) = sign(x) * -m / (2 + m), m = e^(-2|x|) - 1.
template <class V>
MOE_ALWAYS_INLINE V tanh(const V& x) noexcept {
  const V m = expm1_nonpositive(V(constant<V>(-2) * abs(x)));
  const V magnitude = -m / (constant<V>(2) + m);
  return select(x < constant<V>(0), V(-magnitude), magnitude);
}

/// ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|).
template <class V>
MOE_ALWAYS_INLINE V softplus(const V& x) noexcept {
  return positive_part(x) + log1p_unit(V(exp_nonpositive(V(-abs(x)))));
}

/// Phi(x), the standard normal distribution function.
template <class V>
MOE_ALWAYS_INLINE V normal_cdf(const V& x) noexcept {
  const Factors<V> tail = normal_tail_factors(V(abs(x)));  // of Phi(-|x|)
  return select(x < constant<V>(0), V(tail.a * tail.b), moe::fma(V(-tail.a), tail.b, constant<V>(1)));
}

/// Its density e^(-x^2/2) / sqrt(2 pi).
template <class V>
MOE_ALWAYS_INLINE V normal_density(const V& x) noexcept {
  return constant<V>(0.39894228040143268) * exp_nonpositive(V(V(x * x) * constant<V>(-0.5)));
}

}  // namespace math
MOE_NAMESPACE_END
