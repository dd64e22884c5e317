#include "moe/router/named/capacity_aware.hpp"

#include <algorithm>
#include <limits>

#include "moe/router/named/top_k.hpp"
#include "moe/router/selection/capacity_aware_top_k.hpp"
#include "moe/router/selection/concept.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::CapacityAwareTopK;
using moe::ExpertId;
using moe::Index;

namespace {

auto of_rows(moe::CapacityAwareOptions options, Index experts) {
  options.width = options.experts = experts;
  auto router = moe::capacity_aware<double>(options);
  test::set_parameter(router, "gate.weight", test::identity(experts));
  return router;
}
std::vector<Index> loads(const test::Routed<double>& routed, Index experts, Index first = 0,
                         Index last = 1000) {
  std::vector<Index> load(static_cast<std::size_t>(experts), 0);
  for (Index t = first; t < std::min(last, static_cast<Index>(routed.offsets.size()) - 1); ++t) {
    for (const ExpertId e : routed.experts_of(t)) ++load[static_cast<std::size_t>(e)];
  }
  return load;
}

const test::RouterCases kCases{
    // A row of zeros may end with any expert.
    {"CapacityAwareRouter, drop",
     [] { return moe::capacity_aware<double>({.width = 4, .experts = 6, .k = 2, .load_balance = 0.3}); },
     {.ties = false, .segments = true}},
    {"CapacityAwareRouter, reroute",
     [] {
       return moe::capacity_aware<double>(
           {.width = 4, .experts = 6, .k = 2, .rounds = 1.5, .normalise = true});
     },
     {.ties = false, .losses = false, .segments = true}},
    {"CapacityAwareRouter, expanded",
     [] { return moe::capacity_aware<double>({.width = 4, .experts = 8, .k = 2, .devices = 4}); },
     {.ties = false, .losses = false, .segments = true}},
};

}  // namespace

TEST_CASE("six tokens, of which five want one expert: the two least likely are dropped", "[router]") {
  const auto call = test::call_of(test::logs({{.9, .1}, {.6, .4}, {.8, .2}, {.55, .45}, {.7, .3}, {.2, .8}}));
  const auto dropped = test::route(of_rows({}, 2), call);  // C = ceil(6 / 2)
  for (const Index t : {0, 2, 4}) CHECK(dropped.experts_of(t) == std::vector<ExpertId>{0});
  test::check_pairs(dropped, 1, {}, {});
  test::check_pairs(dropped, 3, {}, {});
  test::check_pairs(dropped, 5, {1}, {0.8});
  const auto rerouted = test::route(of_rows({.rounds = 2}, 2), call);
  test::check_pairs(rerouted, 1, {1}, {0.4});
  test::check_pairs(rerouted, 3, {1}, {0.45});
  CHECK(loads(rerouted, 2) == std::vector<Index>{3, 3});
}

TEST_CASE("expanded drop gives room to the experts of a row's own device", "[router]") {
  // Devices {0, 1} and {2, 3}; C = 1. All prefer expert 0.
  auto call = test::call_of(
      test::logs({{.7, .1, .15, .05}, {.6, .2, .12, .08}, {.5, .1, .25, .15}, {.4, .3, .1, .2}}));
  call.columns.ints["device"] = {0, 0, 1, 1};
  const auto routed = test::route(of_rows({.devices = 2}, 4), call);
  test::check_pairs(routed, 0, {0}, {0.7});
  test::check_pairs(routed, 1, {1}, {0.2});
  test::check_pairs(routed, 2, {2}, {0.25});
  test::check_pairs(routed, 3, {3}, {0.2});
  // More places: more experts than k.
  call.options.capacity_factor = 4;
  const auto many = test::route(of_rows({.devices = 2}, 4), call);
  CHECK(many.experts_of(0) == std::vector<ExpertId>{0, 1});
  CHECK(many.experts_of(2) == std::vector<ExpertId>{0, 2, 3});
  call.options = {.experts_per_token = 2, .capacity_factor = 4};
  CHECK(test::route(of_rows({.devices = 2}, 4), call).experts_of(0) == std::vector<ExpertId>{0, 2, 1});
  // One row alone is not limited, and not expanded.
  auto one = test::call_of({{3, 1, 2, 0}});
  one.columns.ints["device"] = {1};
  CHECK(test::route(of_rows({.capacity_factor = 0.01, .devices = 2}, 4), one).experts_of(0) ==
        std::vector<ExpertId>{0});
}

TEST_CASE("no expert above C; a large gamma is a plain top-k", "[router]") {
  STATIC_REQUIRE(moe::SetSelection<CapacityAwareTopK>);
  for (const Index devices : {0, 4}) {
    for (const double rounds : {1.0, 1.5, 100.0}) {
      if (devices > 0 && rounds > 1) continue;
      INFO("devices " << devices << ", rounds " << rounds);
      auto call = test::random_call<double>(37, 8, 3);
      call.segments = {0, 12, 12, 36, 37};
      call.valid.assign(37, true);
      for (const Index t : {1, 20, 21}) call.valid[t] = false;
      const auto router = of_rows({.k = 2, .capacity_factor = 0.9, .rounds = rounds, .devices = devices}, 8);
      const auto routed = test::route(router, call);
      const auto of_first = loads(routed, 8, 0, 12), of_second = loads(routed, 8, 12, 36);
      CHECK(*std::max_element(of_first.begin(), of_first.end()) <=
            CapacityAwareTopK::capacity(11, 2, 0.9, 8));
      CHECK(*std::max_element(of_second.begin(), of_second.end()) <=
            CapacityAwareTopK::capacity(22, 2, 0.9, 8));
      for (const Index t : {1, 20, 21}) CHECK(routed.experts_of(t).empty());
      CHECK(routed.experts_of(36).size() == 2);  // alone
    }
  }
  auto base = moe::softmax_top_k<double>({.width = 8, .experts = 8, .k = 2});
  test::set_parameter(base, "gate.weight", test::identity(8));
  const auto call = test::random_call<double>(30, 8, 4);
  CHECK(test::same_pairs(test::route(of_rows({.k = 2, .capacity_factor = 4}, 8), call),
                         test::route(base, call)));
  CHECK(test::same_pairs(test::route(of_rows({.k = 2, .capacity_factor = 4, .rounds = 2}, 8), call),
                         test::route(base, call)));
}

TEST_CASE("rerouting loses fewer pairs than dropping, and weights may be of what is left", "[router]") {
  const auto call = test::random_call<double>(64, 8, 8);
  const auto dropped = test::route(of_rows({.k = 2, .normalise = true}, 8), call);
  const auto rerouted = test::route(of_rows({.k = 2, .rounds = 2, .normalise = true}, 8), call);
  CHECK(dropped.pairs() < rerouted.pairs());
  for (Index t = 0; t < 64; ++t) {
    CHECK(rerouted.experts_of(t).size() <= 2);
    for (const ExpertId e : dropped.experts_of(t)) {  // what was kept stays
      const auto ids = rerouted.experts_of(t);
      CHECK(std::find(ids.begin(), ids.end(), e) != ids.end());
    }
    const auto weights = rerouted.weights_of(t);
    double sum = 0;
    for (const double w : weights) sum += w;
    CHECK((weights.empty() || test::near(sum, 1)));
  }
}

TEST_CASE("C = ceil(gamma k T / N), no more than the rows, and no limit for one", "[router]") {
  CHECK(CapacityAwareTopK::capacity(6, 1, 1, 2) == 3);
  CHECK(CapacityAwareTopK::capacity(9, 2, 0.5, 4) == 3);
  CHECK(CapacityAwareTopK::capacity(3, 2, 100, 4) == 3);
  CHECK(CapacityAwareTopK::capacity(1, 1, 0.01, 4) == 1);
  CHECK(CapacityAwareTopK::capacity(0, 2, 1, 4) == 0);
}

TEST_CASE("options of capacity-aware routing are checked", "[router]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(of_rows({.k = 0}, 4), moe::config_error);
  CHECK_THROWS_AS(of_rows({.k = 5}, 4), moe::config_error);
  CHECK_THROWS_WITH(of_rows({.devices = 3}, 4), "moe: devices: expected a divisor of the 4 outputs, got 3");
  CHECK_THROWS_AS(of_rows({.devices = -1}, 4), moe::config_error);
  CHECK_THROWS_AS(of_rows({.rounds = 2, .devices = 2}, 4), moe::config_error);
  for (const double bad : {0.0, -1.0, nan, 2e9}) {
    CHECK_THROWS_AS(of_rows({.capacity_factor = bad}, 4), moe::config_error);
    CHECK_THROWS_AS(of_rows({.rounds = bad}, 4), moe::config_error);
  }
  auto call = test::call_of({{1, 2, 3, 4}});
  call.options = {.capacity_factor = -2};
  CHECK_THROWS_WITH(test::route(of_rows({}, 4), call),
                    "moe: capacity factor: expected a value in (0, 1e9], got -2");
  call.options = {.threshold = 0.5};
  CHECK_THROWS_AS(test::route(of_rows({}, 4), call), moe::config_error);
  call.options = {.experts_per_token = 5};
  CHECK_THROWS_AS(test::route(of_rows({}, 4), call), moe::config_error);
  call.options = {};
  call.columns.ints["device"] = {2};
  CHECK_THROWS_AS(test::route(of_rows({.devices = 2}, 4), call), moe::route_error);
  call.columns.ints.erase("device");
  CHECK_THROWS_AS(test::route(of_rows({.devices = 2}, 4), call), moe::config_error);
}
