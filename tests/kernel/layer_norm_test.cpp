#include "moe/kernel/layer_norm.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "moe/core/random.hpp"
#include "support/catch.hpp"
#include "support/close.hpp"

namespace {

using moe::Index;

template <class T>
std::vector<T> random_row(Index n, std::uint64_t seed) {
  const moe::KeyedRandom draw(seed, 0, moe::DrawStream::user);
  std::vector<T> row;
  for (Index j = 0; j < n; ++j) row.push_back(static_cast<T>(draw.normal(static_cast<std::uint64_t>(j), 0)));
  return row;
}

}  // namespace

TEMPLATE_TEST_CASE("a row less its mean over its deviation, scaled and shifted", "[kernel]", float, double) {
  using T = TestType;
  for (const Index n : {1, 2, 7, 16, 33, 100}) {
    const std::vector<T> x = random_row<T>(n, 1), scale = random_row<T>(n, 2), shift = random_row<T>(n, 3);
    std::vector<T> y(x.size());
    moe::layer_norm_row(x.data(), scale.data(), shift.data(), T(0.25), y.data(), n);
    long double mean = 0, most = 0, variance = 0;
    for (const T v : x) {
      mean += static_cast<long double>(v) / static_cast<long double>(n);
      most = std::fmax(most, std::fabs(static_cast<long double>(v)));
    }
    for (const T v : x) {
      const long double off = static_cast<long double>(v) - mean;
      variance += off * off / static_cast<long double>(n);
    }
    // The mean's error goes into every element; over a deviation of at least 1/2.
    const double u = static_cast<double>(std::numeric_limits<T>::epsilon());
    for (std::size_t j = 0; j < x.size(); ++j) {
      const long double hat = (static_cast<long double>(x[j]) - mean) / std::sqrt(variance + 0.25L);
      const double want =
          static_cast<double>(hat * static_cast<long double>(scale[j]) + static_cast<long double>(shift[j]));
      const double bound = static_cast<double>(4 * n + 16) * u * static_cast<double>(most) *
                               std::fabs(static_cast<double>(scale[j])) +
                           u * std::fabs(static_cast<double>(shift[j]));
      CHECK(test::within(static_cast<double>(y[j]), want, bound));
    }
  }
}

TEST_CASE("the layer norm's gradients are its slopes, added to what is there", "[kernel]") {
  for (const Index n : {1, 5, 19}) {
    std::vector<double> x = random_row<double>(n, 3), scale = random_row<double>(n, 4),
                        shift = random_row<double>(n, 5);
    const std::vector<double> c = random_row<double>(n, 6);
    const auto objective = [&] {
      std::vector<double> y(x.size());
      moe::layer_norm_row(x.data(), scale.data(), shift.data(), 0.1, y.data(), n);
      double sum = 0;
      for (std::size_t j = 0; j < y.size(); ++j) sum += c[j] * y[j];
      return sum;
    };
    std::vector<double> dy = c, dscale(x.size(), 1), dshift(x.size(), 3), dx(x.size(), 2),
                        scratch(2 * x.size());
    moe::layer_norm_backward_row(x.data(), scale.data(), 0.1, dy.data(), dscale.data(), dshift.data(),
                                 dx.data(), scratch.data(), n);
    const auto slope = [&](double& at) {
      const double start = at, h = 1e-3;
      const auto value = [&](double by) {
        at = start + by;
        return objective();
      };
      const double of = (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h);
      at = start;
      return of;
    };
    for (std::size_t j = 0; j < x.size(); ++j) {
      CHECK(std::abs(dx[j] - 2 - slope(x[j])) <= 1e-8);
      CHECK(std::abs(dscale[j] - 1 - slope(scale[j])) <= 1e-8);
      CHECK(std::abs(dshift[j] - 3 - slope(shift[j])) <= 1e-8);
    }
    dy = c;
    std::vector<double> alone(x.size(), 2);
    moe::layer_norm_backward_row<double>(x.data(), scale.data(), 0.1, dy.data(), nullptr, nullptr,
                                         alone.data(), scratch.data(), n);
    CHECK(alone == dx);
  }
}
