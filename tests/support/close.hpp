// Comparison with an error bound. The bound comes from an error analysis, never from trying; NaN matches
// nothing.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>

#include "moe/kernel/finite.hpp"

namespace test {

/// Unit roundoff of T: 2^-24 or 2^-53.
template <class T>
inline constexpr long double kRoundoff = std::numeric_limits<T>::epsilon() / 2;

/// Smallest normal number of T: what a result flushed to zero may be off by.
template <class T>
inline constexpr long double kTiny = std::numeric_limits<T>::min();

/// Higham's gamma_n = n u / (1 - n u): the relative error of n roundings in a row.
template <class T>
constexpr long double gamma(std::ptrdiff_t n) {
  const long double nu = static_cast<long double>(n) * kRoundoff<T>;
  return nu / (1 - nu);
}

/// |actual - expected| <= bound. Infinities match only themselves; a NaN anywhere, or a bound that is
/// negative or infinite, is false.
template <class T>
bool within(T actual, long double expected, long double bound) {
  if (moe::is_nan(actual) || std::isnan(expected) || !(bound >= 0) || std::isinf(bound)) return false;
  if (!moe::is_finite(actual) || std::isinf(expected)) return static_cast<long double>(actual) == expected;
  return std::fabs(static_cast<long double>(actual) - expected) <= bound;
}

/// Index of the first actual[j] that is not within bound(j) of expected(j), or -1: one assertion a row.
template <class T, class Expected, class Bound>
std::ptrdiff_t first_outside(const T* actual, std::ptrdiff_t n, const Expected& expected,
                             const Bound& bound) {
  for (std::ptrdiff_t j = 0; j < n; ++j) {
    if (!within(actual[j], expected(j), bound(j))) return j;
  }
  return -1;
}

/// Index of the first element whose bits differ (so -0 is not +0 and a NaN is itself), or -1.
template <class T>
std::ptrdiff_t first_bit_difference(const T* a, const T* b, std::ptrdiff_t n) {
  for (std::ptrdiff_t j = 0; j < n; ++j) {
    if (std::memcmp(a + j, b + j, sizeof(T)) != 0) return j;
  }
  return -1;
}

}  // namespace test
