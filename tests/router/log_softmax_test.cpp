#include "moe/router/log_softmax.hpp"

#include <cmath>

#include "support/catch.hpp"

using moe::impl::log_softmax_row;
using moe::impl::log_sum_exp;

TEST_CASE("logarithms of a softmax do not underflow, and pass NaN on", "[router]") {
  double row[] = {0, -2000, std::log(3.0)};
  log_softmax_row(row, 3);
  CHECK(std::abs(row[0] - std::log(0.25)) < 1e-15);
  CHECK(std::abs(row[1] + 2000 + std::log(4.0)) < 1e-12);
  CHECK(std::abs(row[2] - std::log(0.75)) < 1e-15);
  double single[] = {7};
  log_softmax_row(single, 1);
  CHECK(single[0] == 0);
  double bad[] = {1, std::nan(""), 2};
  log_softmax_row(bad, 3);
  for (const double v : bad) CHECK(std::isnan(v));
  CHECK(log_sum_exp(2, [](moe::Index) { return 1000.0f; }) == 1000.0f + std::log(2.0f));
}
