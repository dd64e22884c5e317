#include "moe/router/named/expert_clusters.hpp"

#include <cmath>
#include <set>

#include "moe/router/balance/cluster_variance.hpp"
#include "moe/router/named/top_k.hpp"
#include "moe/router/scorer/cluster_dropout.hpp"
#include "support/balance_case.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

namespace {

using moe::ClusterVariance;
using moe::Index;
using test::BalanceCase;
using test::near;

moe::ExpertClusterOptions options(double dropout) {
  return {.width = 4,
          .experts = 6,
          .clusters = 2,
          .k = 2,
          .dropout = dropout,
          .load_balance = 0.4,
          .variance = 0.5,
          .between = 0.3};
}

const test::RouterCases kCases{
    {"ExpertClusterRouter", [] { return moe::expert_cluster_router<double>(options(0)); }},
    // The call's mask and the dropout may leave a row nothing.
    {"ExpertClusterRouter, dropout",
     [] { return moe::expert_cluster_router<double>(options(0.4)); },
     {.laws = {.masks = false}}},
};

}  // namespace

TEST_CASE("cluster dropout hides as many of every cluster, another set every step, and none in inference",
          "[expert_clusters]") {
  auto router =
      moe::expert_cluster_router<double>({.width = 4, .experts = 12, .clusters = 3, .k = 12, .dropout = 0.6});
  test::randomise(router, 2);
  auto call = test::random_call<double>(20, 4, 1);
  CHECK(test::route(router, call).pairs() == 240);
  call.training = true;
  std::set<std::set<moe::ExpertId>> sets;
  for (std::uint64_t step = 0; step < 20; ++step) {
    call.step = step;
    const auto routed = test::route(router, call);
    std::set<moe::ExpertId> open;
    for (Index t = 0; t < 20; ++t) {  // the same for all rows
      const auto ids = routed.experts_of(t);
      const std::set<moe::ExpertId> own(ids.begin(), ids.end());
      CHECK((t == 0 || own == open));
      open = own;
    }
    // 0.6 of 4 are 2 whole experts.
    for (int c = 0; c < 3; ++c) {
      CHECK(std::count_if(open.begin(), open.end(), [c](moe::ExpertId e) { return e / 4 == c; }) == 2);
    }
    sets.insert(open);
  }
  CHECK(sets.size() > 10);
}

TEST_CASE("without dropout and variance it is the plain router, bit for bit", "[expert_clusters]") {
  auto clusters =
      moe::expert_cluster_router<double>({.width = 4, .experts = 6, .clusters = 2, .variance = 0});
  auto plain = moe::softmax_top_k<double>({.width = 4, .experts = 6, .k = 1});
  test::randomise(clusters, 2);
  test::randomise(plain, 2);
  auto call = test::random_call<double>(30, 4, 1);
  call.training = true;
  CHECK(test::same_route(test::route(clusters, call), test::route(plain, call)));
  CHECK(test::same_bits(test::all_gradients(clusters, call), test::all_gradients(plain, call)));
}

TEST_CASE("the variance within is 0 where a cluster's probabilities are equal, by hand",
          "[expert_clusters]") {
  BalanceCase c(1, 4, 1);
  c.probability = {0.4, 0.4, 0.1, 0.1};
  const auto of = [](double between) {
    return ClusterVariance({.coefficient = 2, .clusters = 2, .between = between});
  };
  CHECK(near(c.loss(of(0)), 0));
  CHECK(near(c.loss(of(1)), -2 * 16 * 0.15 * 0.15));
  c.probability = {0.6, 0.2, 0.1, 0.1};
  CHECK(near(c.loss(of(0)), 2 * 16 * (0.2 * 0.2 + 0) / 2));
  c = test::random_balance_case(9, 6, 1, 3);
  test::check_array_gradient(ClusterVariance({.coefficient = 0.7, .clusters = 3, .between = 0.4}), c, -1.5,
                             &BalanceCase::probability, &BalanceCase::Gradients::probability);
  c.active.fill(false);
  CHECK(c.loss(ClusterVariance({.clusters = 3})) == 0);
}

TEST_CASE("clusters that do not come out even and rates outside [0, 1) are refused", "[expert_clusters]") {
  CHECK_THROWS_WITH(moe::expert_cluster_router<double>({.width = 4, .experts = 6, .clusters = 4}),
                    "moe: clusters: expected a divisor of the 6 outputs, got 4");
  CHECK_THROWS_WITH(moe::ClusterDropout({.rate = 1}),
                    "moe: expert dropout: expected a rate in [0, 1), got 1");
  CHECK_THROWS_AS(moe::ClusterDropout({.clusters = 0}), moe::config_error);
  CHECK_THROWS_AS(ClusterVariance({.clusters = 0}), moe::config_error);
  CHECK_THROWS_AS(ClusterVariance({.between = std::nan("")}), moe::config_error);
  CHECK_THROWS_AS(ClusterVariance({.coefficient = std::nan("")}), moe::config_error);
  CHECK_THROWS_AS(ClusterVariance({.clusters = 4}).check(6), moe::config_error);
}
