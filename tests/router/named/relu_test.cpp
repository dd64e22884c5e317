#include "moe/router/named/relu.hpp"

#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::ExpertId;
using moe::Index;
using test::near;

namespace {

auto router_of(moe::ReluOptions options) {
  auto router = moe::relu_router<double>(options);
  test::randomise(router, 6);
  return router;
}

moe::RouteStats stats_of(const test::Routed<double>& routed, Index experts) {
  moe::RouteStats stats;
  stats.tokens = routed.tokens();
  stats.load.assign(experts, 0);
  for (const ExpertId e : routed.expert) ++stats.load[e];
  return stats;
}

const test::RouterCases kCases{
    // Rows of zeros have no expert.
    {"ReluRouter",
     [] { return moe::relu_router<double>({.width = 5, .experts = 6, .k = 2, .coefficient = 0.4}); },
     {.ties = false}},
    {"ReluRouter, one expert",
     [] { return moe::relu_router<double>({.width = 2, .experts = 1, .coefficient = 0.1}); },
     {.ties = false}},
};

}  // namespace

TEST_CASE("ReLU routing by hand: positive logits, as weights", "[router]") {
  auto router = moe::relu_router<double>({.width = 3, .experts = 3});
  test::set_parameter(router, "gate.weight", test::identity(3));
  const auto routed = test::route(router, test::call_of({{1, -1, 0}, {-1, -2, -0.5}, {0.5, 0.25, 2}}));
  test::check_pairs(routed, 0, {0}, {1});
  test::check_pairs(routed, 1, {}, {});
  test::check_pairs(routed, 2, {2, 0, 1}, {2, 0.5, 0.25});  // highest first
}

TEST_CASE("a row without an expert has no gradient", "[router]") {
  auto router = moe::relu_router<double>({.width = 2, .experts = 2, .coefficient = 1});
  test::set_parameter(router, "gate.weight", test::identity(2));
  auto call = test::call_of({{-1, -1}, {0, 0}});
  call.training = true;
  for (const double g : test::all_gradients(router, call)) CHECK(g == 0);
}

TEST_CASE("equal positive logits: the lower id first", "[router]") {
  auto router = moe::relu_router<double>({.width = 3, .experts = 3});
  test::set_parameter(router, "gate.weight", test::identity(3));
  test::check_pairs(test::route(router, test::call_of({{2, 1, 2}})), 0, {0, 2, 1}, {2, 2, 1});
}

TEST_CASE("ReLU routing agrees with plain loops", "[router]") {
  auto router = router_of({.width = 4, .experts = 5, .k = 2, .coefficient = 0.3});
  auto call = test::random_call<double>(20, 4, 2);
  call.training = true;
  const auto routed = test::route(router, call);
  test::Vector count(5, 0), mean(5, 0);
  Index token = 0;
  for (const test::Vector& logit : test::linear(test::parameter(router, "gate.weight"), call)) {
    std::vector<ExpertId> ids;
    test::Vector weights;
    for (const ExpertId e : test::best(logit, 5)) {
      const double l = logit[static_cast<std::size_t>(e)];
      if (l <= 0) continue;
      ids.push_back(e);
      weights.push_back(l);
      count[static_cast<std::size_t>(e)] += 1;
      mean[static_cast<std::size_t>(e)] += l / 20;
    }
    test::check_pairs(routed, token++, ids, weights);
  }
  double expected = 0;
  for (std::size_t e = 0; e < 5; ++e) expected += 0.3 * 5 / (2 * 20.0) * count[e] * mean[e];
  CHECK(near(test::loss_of(routed, "adaptive_l1"), expected));
  call.training = false;
  CHECK(test::same_pairs(routed, test::route(router, call)));  // training and inference route alike
}

TEST_CASE("a ReLU router's coefficient moves with the load and is saved", "[router]") {
  auto router = moe::relu_router<double>({.width = 2, .experts = 2, .k = 1});
  test::set_parameter(router, "gate.weight", test::identity(2));
  const auto both = test::route(router, test::call_of({{1, 1}, {2, 2}}));
  router.on_step_end(stats_of(both, 2));
  const auto state = test::save_state(router);
  REQUIRE(state.size() == 1);
  CHECK(state[0].first == "adaptive_l1.coefficient");
  CHECK(state[0].second == std::vector<double>{1e-8 * 1.2});
  const auto none = test::route(router, test::call_of({{-1, -1}, {-2, -2}}));
  router.on_step_end(stats_of(none, 2));
  CHECK(test::save_state(router)[0].second == std::vector<double>{1e-8 * 1.2 / 1.2});

  auto other = moe::relu_router<double>({.width = 2, .experts = 2, .k = 1, .coefficient = 5});
  test::load_state(other, state);
  CHECK(test::save_state(other) == state);
  CHECK(other.balancing().part<moe::AdaptiveL1>().coefficient() == 1e-8 * 1.2);
}

TEST_CASE("options of ReLU routing are checked", "[router]") {
  CHECK_THROWS_AS(moe::relu_router<double>({.width = 2, .experts = 2, .k = 3}), moe::config_error);
  CHECK_THROWS_AS(moe::relu_router<double>({.width = 0, .experts = 2}), moe::config_error);
}
