#include "moe/router/entropy.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "support/catch.hpp"

namespace {

using moe::impl::Entropy;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

double of(double order, const std::vector<double>& p) {
  double sum = 0;
  for (const double v : p) sum += Entropy(order).term(v);
  return sum;
}
bool close(double a, double b, double bound = 1e-13) {
  return std::abs(a - b) <= bound * (1 + std::abs(b));
}

}  // namespace

TEST_CASE("Tsallis entropies by hand, Shannon's for q = 1", "[router]") {
  const std::vector<double> p{0.5, 0.25, 0.25, 0};
  CHECK(close(of(1, p), 1.5 * std::log(2.0)));
  CHECK(close(of(2, p), 1 - 0.375));
  CHECK(close(of(0.5, p), 2 * (std::sqrt(0.5) + 1 - 1)));
  // The largest for N = 8, q = 1.1: what DynMoLE's threshold is a fraction of.
  CHECK(std::abs(Entropy(1.1).largest(8) - 1.877) < 5e-4);
  CHECK(close(Entropy(1.1).largest(8), of(1.1, std::vector<double>(8, 0.125))));
  CHECK(Entropy(2).largest(1) == 0);
}

TEST_CASE("q towards 1 is Shannon's entropy, without lost digits", "[router]") {
  const std::vector<double> p{0.6, 0.3, 0.1};
  for (const double away : {1e-3, 1e-6, 1e-9, 1e-12}) {
    // d H_q / d q is below 1 for these.
    CHECK(std::abs(of(1 + away, p) - of(1, p)) <= away + 1e-14);
    CHECK(std::abs(of(1 - away, p) - of(1, p)) <= away + 1e-14);
  }
}

TEST_CASE("the slope is the derivative, up to a constant", "[router]") {
  for (const double order : {0.5, 1.0, 1.1, 2.0}) {
    const Entropy entropy(order);
    const auto slope = [&](double p) {
      const double h = 1e-5;  // error h^2 / 6 times a third derivative below 1e4
      return (entropy.term(p + h) - entropy.term(p - h)) / (2 * h);
    };
    for (const double p : {0.1, 0.4, 0.9}) {
      CHECK(std::abs(entropy.slope(p) - entropy.slope(0.5) - (slope(p) - slope(0.5))) <= 1e-6);
    }
    CHECK(entropy.slope(0) == 0);
  }
}

TEST_CASE("entropy of logits leaves masked ones out", "[router]") {
  const std::vector<double> p{0.5, 0.25, 0.25};
  std::vector<double> logit{std::log(0.5) + 700, -kInfinity, std::log(0.25) + 700, std::log(0.25) + 700};
  for (const double order : {1.0, 1.1, 2.0}) {
    CHECK(close(Entropy(order).of_logits(logit.data(), 4), of(order, p), 1e-12));
  }
  CHECK(moe::impl::open_outputs(logit.data(), 4) == 3);
  logit = {-kInfinity, 3};
  CHECK(Entropy(1.1).of_logits(logit.data(), 2) == 0);
}
