#include "moe/router/named/loss_free.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "moe/router/named/top_k.hpp"
#include "support/exact_assignment.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::ExpertId;
using moe::Index;
using test::near;

namespace {

auto of_rows(moe::LossFreeOptions options, Index experts) {
  options.width = options.experts = experts;
  auto router = moe::loss_free_top_k<double>(options);
  test::set_parameter(router, "gate.weight", test::identity(experts));
  return router;
}
moe::SelectionBias& bias_of(moe::LossFreeTopK<double>& router) {
  return router.balancing().part<moe::SelectionBias>();
}
test::Vector values(const moe::SelectionBias& bias) {
  return {bias.bias().begin(), bias.bias().end()};
}
moe::RouteStats stats_of(const test::Routed<double>& routed, Index experts) {
  moe::RouteStats stats;
  stats.load.assign(experts, 0);
  stats.gate_mass.assign(experts, 0);
  stats.tokens = routed.tokens();
  for (const ExpertId e : routed.expert) ++stats.load[e];
  return stats;
}
/// Sigmoids of the call's rows.
test::Matrix scores(const test::RouterCall<double>& call) {
  test::Matrix s;
  for (Index t = 0; t < call.tokens; ++t) {
    s.emplace_back();
    for (Index e = 0; e < call.width; ++e)
      s.back().push_back(1 / (1 + std::exp(-call.x[static_cast<std::size_t>(t * call.width + e)])));
  }
  return s;
}
/// The k best s + b of every row, less the mean load times the sum of b.
double dual(const test::Matrix& score, const test::Vector& bias, Index k) {
  double sum = 0;
  for (test::Vector row : score) {
    for (std::size_t e = 0; e < row.size(); ++e) row[e] += bias[e];
    std::sort(row.rbegin(), row.rend());
    for (Index i = 0; i < k; ++i) sum += row[static_cast<std::size_t>(i)];
  }
  const double mean =
      static_cast<double>(k) * static_cast<double>(score.size()) / static_cast<double>(bias.size());
  return sum - mean * test::total(bias);
}
double chosen_value(const test::Routed<double>& routed) {
  return test::total(routed.weight);  // weights are the scores
}

const test::RouterCases kCases{
    {"LossFreeTopK", [] { return moe::loss_free_top_k<double>({.width = 4, .experts = 5}); }},
};

}  // namespace

TEST_CASE("a step moves the bias by u towards the mean load", "[router]") {
  auto router = of_rows({.k = 1, .speed = 0.01}, 4);
  moe::RouteStats stats;
  stats.tokens = 12;
  stats.load.assign(4, 2);
  stats.load[0] = 6;
  router.on_step_end(stats);
  CHECK(values(bias_of(router)) == test::Vector{-0.01, 0.01, 0.01, 0.01});
}

TEST_CASE("the bias chooses and never weighs; without one it is a sigmoid top-k", "[router]") {
  auto router = of_rows({}, 5);
  auto base = moe::sigmoid_top_k<double>({.width = 5, .experts = 5, .k = 2, .load_balance = 0});
  test::set_parameter(base, "gate.weight", test::identity(5));
  const auto call = test::random_call<double>(20, 5, 3);
  const auto plain = test::route(base, call);
  CHECK(test::same_pairs(test::route(router, call), plain));
  bias_of(router).set_bias(test::Vector(5, 0.375));  // the same for all
  CHECK(test::same_pairs(test::route(router, call), plain));
  bias_of(router).set_bias(test::Vector{9, 0, 0, 0, 7});
  const auto forced = test::route(router, call);
  const auto s = scores(call);
  for (Index t = 0; t < 20; ++t) {
    const auto& row = s[static_cast<std::size_t>(t)];
    test::check_pairs(forced, t, {0, 4}, {row[0], row[4]});
  }
}

TEST_CASE("the dual gap is the dual's excess over what was chosen", "[router]") {
  const auto call = test::random_call<double>(40, 5, 6);
  for (const Index k : {1, 2, 3}) {
    auto router = of_rows({.k = k}, 5);
    CHECK(bias_of(router).dual_gap(stats_of(test::route(router, call), 5)) == 0);  // no bias
    const test::Vector b{0.3, -0.2, 0.05, 0, 0.1};
    bias_of(router).set_bias(b);
    const auto routed = test::route(router, call);
    const double gap = bias_of(router).dual_gap(stats_of(routed, 5));
    CHECK(near(gap, dual(scores(call), b, k) - chosen_value(routed)));
  }
}

TEST_CASE(
    "no balanced choice is worth more than the dual; where loads are equal the gap is 0 and one is as much",
    "[router]") {
  auto router = of_rows({.k = 1, .speed = 2, .rule = moe::BiasRule::proportional, .decaying = true}, 4);
  auto call = test::random_call<double>(40, 4, 6);
  for (Index t = 0; t < 40; ++t) call.row(t)[1] += 0.7;
  const auto s = scores(call);
  const double best = test::assignment_value(s, test::exact_assignment(s));
  double closest = std::numeric_limits<double>::max();
  bool balanced = false;
  for (int step = 0; step < 400 && !balanced; ++step) {
    const auto routed = test::route(router, call);
    const auto stats = stats_of(routed, 4);
    const double now = dual(s, values(bias_of(router)), 1);
    CHECK(now >= best - 1e-12);
    closest = std::min(closest, now);
    balanced = std::all_of(stats.load.data(), stats.load.data() + 4, [](Index n) { return n == 10; });
    if (balanced) {
      CHECK(std::abs(bias_of(router).dual_gap(stats)) < 1e-12);
      CHECK(near(chosen_value(routed), best));
    }
    router.on_step_end(stats);
  }
  CHECK(balanced);
  CHECK(closest < best + 1e-3 * best);
}

TEST_CASE("counts of another number of experts have no dual gap, nor has a bias that is not enabled",
          "[router]") {
  const moe::SelectionBias bias({.outputs = 4}), off({.outputs = 4, .enabled = false});
  moe::RouteStats stats;
  stats.load.assign(3, 1);
  CHECK_THROWS_AS(bias.dual_gap(stats), moe::shape_error);
  CHECK(off.dual_gap(stats) == 0);
}
