// The beta distribution: its distribution function (the regularised incomplete beta function) and its
// density.
#pragma once

#include <math.h>

#include "moe/config.hpp"

MOE_NAMESPACE_BEGIN
namespace math {

/// Beta(a, b), a, b in [1e-3, 1e6].
class BetaDistribution {
 public:
  BetaDistribution(double a, double b) noexcept
      : a_(a), b_(b), log_norm_(log_gamma(a) + log_gamma(b) - log_gamma(a + b)) {}

  /// P(X <= x); 0 below 0, 1 above 1. Absolute error about 1e-14 (1 + |ln B(a, b)|).
  double cdf(double x) const noexcept {
    if (!(x > 0)) return 0;
    if (!(x < 1)) return 1;
    const double front = ::exp(a_ * ::log(x) + b_ * ::log1p(-x) - log_norm_);
    // Where the fraction converges fast; the other tail by I_x(a, b) = 1 - I_{1-x}(b, a).
    return x < (a_ + 1) / (a_ + b_ + 2) ? front * fraction(a_, b_, x) / a_
                                        : 1 - front * fraction(b_, a_, 1 - x) / b_;
  }
  /// x^(a-1) (1-x)^(b-1) / B(a, b), for x in (0, 1).
  double density(double x) const noexcept {
    return ::exp((a_ - 1) * ::log(x) + (b_ - 1) * ::log1p(-x) - log_norm_);
  }

 private:
  static double log_gamma(double x) noexcept {
    int sign = 0;
    return ::lgamma_r(x, &sign);  // lgamma writes a global
  }
  /// The continued fraction of DLMF 8.17.22 by Lentz's method. Its steps are O(sqrt(max(a, b))).
  static double fraction(double a, double b, double x) noexcept {
    const auto off_zero = [](double v) noexcept { return v < 1e-300 && v > -1e-300 ? 1e-300 : v; };
    double c = 1, d = 1 / off_zero(1 - (a + b) * x / (a + 1)), h = d;
    for (int m = 1; m <= 10000; ++m) {
      const double k = m, even = k * (b - k) * x / ((a + 2 * k - 1) * (a + 2 * k));
      d = 1 / off_zero(1 + even * d);
      c = off_zero(1 + even / c);
      h *= d * c;
      const double odd = -(a + k) * (a + b + k) * x / ((a + 2 * k) * (a + 2 * k + 1));
      d = 1 / off_zero(1 + odd * d);
      c = off_zero(1 + odd / c);
      h *= d * c;
      if (::fabs(d * c - 1) < 1e-15) break;
    }
    return h;
  }

  double a_, b_, log_norm_;
};

}  // namespace math
MOE_NAMESPACE_END
