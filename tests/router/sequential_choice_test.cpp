#include "moe/router/sequential_choice.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "support/one_row.hpp"
#include "support/plain_routing.hpp"

using moe::ExpertId;
using moe::Index;
using test::near;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Choice i is drawn from everything but the choices before it.
auto rest(const moe::Chosen& chosen) {
  return [chosen](Index i) { return [chosen, i](Index e) { return !moe::impl::is_among(chosen, i, e); }; };
}

}  // namespace

TEST_CASE("a Gumbel variate is where its distribution function is u", "[router]") {
  for (const double u : {0x1p-53, 0.2, 0.5, 0.9, 1 - 0x1p-53}) {
    CHECK(near(std::exp(-std::exp(-moe::impl::gumbel(u))), u));
    CHECK(std::isfinite(moe::impl::gumbel(u)));
  }
}

TEST_CASE("probabilities of all orders add up to 1, and their gradients to 0", "[router]") {
  const std::vector<double> logit{0.3, -1, 2, 900};  // 900: nothing overflows
  const auto row = test::one_row<double>(logit.data(), nullptr, 4);
  double sum = 0;
  test::Vector gradient(4, 0);
  for (ExpertId a = 0; a < 4; ++a) {
    for (ExpertId b = 0; b < 4; ++b) {
      if (a == b) continue;
      const ExpertId ids[] = {a, b};
      const moe::Chosen chosen{ids, 2};
      const double q = std::exp(moe::impl::sequential_log_probability(row, chosen, rest(chosen)));
      sum += q;
      moe::impl::sequential_log_probability_backward(row, chosen, q, rest(chosen), gradient.data());
    }
  }
  CHECK(near(sum, 1));
  for (const double g : gradient) CHECK(std::abs(g) < test::kRounding);
}

TEST_CASE("ln Q and its gradient by hand, over sets that leave outputs out", "[router]") {
  const std::vector<double> logit{std::log(0.5), std::log(0.25), -kInfinity, std::log(0.25)};
  const auto row = test::one_row<double>(logit.data(), nullptr, 4);
  const ExpertId ids[] = {1, 3};
  const moe::Chosen chosen{ids, 2};
  const auto sets = [&](Index i) {
    return [&chosen, i](Index e) { return e != 2 && !moe::impl::is_among(chosen, i, e); };
  };
  // 1/4 of 1, then 1/4 of 3/4.
  CHECK(near(moe::impl::sequential_log_probability(row, chosen, sets), std::log(0.25 / 3)));
  test::Vector g(4, 10);
  moe::impl::sequential_log_probability_backward(row, chosen, 2, sets, g.data());
  CHECK(near(g[0], 10 + 2 * (-0.5 - 2.0 / 3)));
  CHECK(near(g[1], 10 + 2 * 0.75));
  CHECK(g[2] == 10);
  CHECK(near(g[3], 10 + 2 * (-0.25 + 2.0 / 3)));
}
