#include "moe/kernel/beta.hpp"

#include <cmath>

#include "support/catch.hpp"

using moe::math::BetaDistribution;

TEST_CASE("beta distributions with a closed form", "[kernel]") {
  for (const double x : {0.0, 1e-300, 1e-9, 0.003, 0.1, 0.3, 0.5, 0.77, 0.999, 1 - 1e-12, 1.0}) {
    INFO("x = " << x);
    const auto near = [](double a, double b) { return std::abs(a - b) <= 1e-13; };
    CHECK(near(BetaDistribution(1, 1).cdf(x), x));
    CHECK(near(BetaDistribution(3.5, 1).cdf(x), std::pow(x, 3.5)));
    CHECK(near(BetaDistribution(1, 7).cdf(x), -std::expm1(7 * std::log1p(-x))));
    const double arc = x < 0.5 ? std::asin(std::sqrt(x)) : std::acos(-1.0) / 2 - std::asin(std::sqrt(1 - x));
    CHECK(near(BetaDistribution(0.5, 0.5).cdf(x), 2 / std::acos(-1.0) * arc));
    CHECK(near(BetaDistribution(2, 3).cdf(x), x * x * (6 - 8 * x + 3 * x * x)));
    if (x > 0 && x < 1) {
      const double density = 12 * x * (1 - x) * (1 - x);
      CHECK(std::abs(BetaDistribution(2, 3).density(x) - density) <= 1e-13 * density);
    }
  }
  CHECK((BetaDistribution(2, 3).cdf(-1) == 0 && BetaDistribution(2, 3).cdf(2) == 1));
}

TEST_CASE("the density is the slope of the distribution, and both tails agree, for small and large a and b",
          "[kernel]") {
  for (const double a : {0.001, 0.3, 1.0, 4.0, 60.0, 5000.0}) {
    for (const double b : {0.001, 0.7, 2.5, 60.0, 70000.0}) {
      const BetaDistribution of(a, b), mirrored(b, a);
      for (const double deviations : {-2.0, -0.3, 0.0, 1.0}) {
        const double mean = a / (a + b), spread = std::sqrt(mean * (1 - mean) / (a + b + 1));
        const double x = std::min(std::max(mean + deviations * spread, 1e-3), 1 - 1e-3);
        INFO("a " << a << ", b " << b << ", x " << x);
        // Logarithms of gamma functions of this size lose as many units as they have.
        const double rounding = 1e-14 * (10 + (a + b) * std::log(2 + a + b));
        CHECK(std::abs(of.cdf(x) + mirrored.cdf(1 - x) - 1) <= rounding);
        const double h = 1e-2 * std::min({spread, x, 1 - x});
        const auto slope = [&](double step) {
          return (8 * (of.cdf(x + step) - of.cdf(x - step)) - (of.cdf(x + 2 * step) - of.cdf(x - 2 * step))) /
                 (12 * step);
        };
        const double coarse = slope(h), fine = slope(h / 2);
        CHECK(std::abs(of.density(x) - fine) <= std::abs(coarse - fine) + 8 * rounding / h);
      }
    }
  }
}
