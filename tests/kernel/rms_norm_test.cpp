#include "moe/kernel/rms_norm.hpp"

#include <cmath>
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

TEMPLATE_TEST_CASE("a row over its root mean square", "[kernel]", float, double) {
  using T = TestType;
  for (const Index n : {1, 2, 7, 16, 33, 100}) {
    const std::vector<T> x = random_row<T>(n, 1), scale = random_row<T>(n, 2);
    std::vector<T> y(x.size());
    moe::rms_norm_row(x.data(), scale.data(), T(0.25), T(1e-3), y.data(), n);
    long double squares = 0;
    for (const T v : x) squares += static_cast<long double>(v) * static_cast<long double>(v);
    const long double rms =
        std::sqrt(squares / static_cast<long double>(n) + static_cast<long double>(T(1e-3)));
    for (std::size_t j = 0; j < x.size(); ++j) {
      const double want = static_cast<double>(static_cast<long double>(x[j]) / rms * 0.25L *
                                              static_cast<long double>(scale[j]));
      const double u = static_cast<double>(std::numeric_limits<T>::epsilon());
      CHECK(test::within(static_cast<double>(y[j]), want, static_cast<double>(n + 8) * u * std::fabs(want)));
    }
  }
}

TEST_CASE("the norm's gradients are its slopes", "[kernel]") {
  for (const Index n : {1, 5, 19}) {
    std::vector<double> x = random_row<double>(n, 3), scale = random_row<double>(n, 4);
    const std::vector<double> c = random_row<double>(n, 5);
    const auto objective = [&] {
      std::vector<double> y(x.size());
      moe::rms_norm_row(x.data(), scale.data(), 0.7, 0.1, y.data(), n);
      double sum = 0;
      for (std::size_t j = 0; j < y.size(); ++j) sum += c[j] * y[j];
      return sum;
    };
    std::vector<double> dy = c, dscale(x.size(), 1), dx(x.size(), 2);
    moe::rms_norm_backward_row(x.data(), scale.data(), 0.7, 0.1, dy.data(), dscale.data(), dx.data(), n);
    const auto slope = [&](double& at) {
      const double start = at, h = 1e-3;
      const auto value = [&](double shift) {
        at = start + shift;
        const double v = objective();
        at = start;
        return v;
      };
      return (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h);
    };
    for (std::size_t j = 0; j < x.size(); ++j) {
      // h^4 times fifth derivatives below 1000 (rms >= 0.3), and 2^-53 / h times the value.
      CHECK(test::within(dscale[j] - 1, slope(scale[j]), 1e-9));
      CHECK(test::within(dx[j] - 2, slope(x[j]), 1e-9));
    }
    std::vector<double> again = c, alone(x.size(), 1);
    double* const none = nullptr;
    moe::rms_norm_backward_row(x.data(), scale.data(), 0.7, 0.1, again.data(), alone.data(), none, n);
    CHECK(alone == dscale);
  }
}
