// Reference of the primitives in kernel/math.hpp: scalars, by the C library (called by its C names, so that
// no inline wrapper of <cmath> is emitted with this translation unit's instruction set).
#pragma once

#include <math.h>

#include <concepts>

#include "moe/config.hpp"

MOE_NAMESPACE_BEGIN
namespace math {

template <std::floating_point T>
constexpr T select(bool condition, T yes, T no) noexcept {
  return condition ? yes : no;
}

inline float abs(float x) noexcept {
  return ::fabsf(x);
}
inline double abs(double x) noexcept {
  return ::fabs(x);
}

inline float exp_nonpositive(float x) noexcept {
  return ::expf(x);
}
inline double exp_nonpositive(double x) noexcept {
  return ::exp(x);
}

inline float expm1_nonpositive(float x) noexcept {
  return ::expm1f(x);
}
inline double expm1_nonpositive(double x) noexcept {
  return ::expm1(x);
}

inline float log1p_unit(float x) noexcept {
  return ::log1pf(x);
}
inline double log1p_unit(double x) noexcept {
  return ::log1p(x);
}

inline float square_root(float x) noexcept {
  return ::sqrtf(x);
}
inline double square_root(double x) noexcept {
  return ::sqrt(x);
}

inline float log_positive(float x) noexcept {
  return ::logf(x);
}
inline double log_positive(double x) noexcept {
  return ::log(x);
}

/// A result a * b, left to the caller to multiply out or to pass to fma.
template <class V>
struct Factors {
  V a, b;
};

inline Factors<float> normal_tail_factors(float x) noexcept {
  return {0.5f, ::erfcf(x * 0.707106781f)};
}
inline Factors<double> normal_tail_factors(double x) noexcept {
  return {0.5, ::erfc(x * 0.70710678118654752)};
}

}  // namespace math
MOE_NAMESPACE_END
