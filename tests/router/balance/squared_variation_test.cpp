#include "moe/router/balance/squared_variation.hpp"

#include <cmath>
#include <vector>

#include "support/catch.hpp"

using moe::Index;
using moe::impl::SquaredVariation;

namespace {

SquaredVariation variation(const std::vector<double>& x) {
  return {x.data(), static_cast<Index>(x.size())};
}

}  // namespace

TEST_CASE("CV^2 is the population variance by the squared mean", "[router]") {
  CHECK(variation({1.5, 0.5}).value == 0.25);
  CHECK(variation({4, 0, 0, 0}).value == 3);  // all on one of n: n - 1
  CHECK(variation({0.5, 0.5, 0.5}).value == 0);
  CHECK(variation({7}).value == 0);
  CHECK(variation({0, 0, 0}).value == 0);
}

TEST_CASE("CV^2 has the gradient of its quotient", "[router]") {
  const std::vector<double> x{0.3, 2, 1.1, 0.7};
  const SquaredVariation v = variation(x);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto at = [&](double shift) {
      std::vector<double> moved = x;
      moved[i] += shift;
      return variation(moved).value;
    };
    const double h = 1e-3;  // error of the difference: h^4 times a fifth derivative below 1e2, and 1e-16 / h
    const double difference = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
    INFO("x" << i);
    CHECK(std::abs(v.gradient(x[i]) - difference) <= 1e-10);
  }
  CHECK(variation({0, 0}).gradient(0) == 0);
  CHECK(variation({3}).gradient(3) == 0);
}
