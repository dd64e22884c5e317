#include "moe/router/named/mixture_of_routers.hpp"

#include "moe/router/named/top_k.hpp"
#include "moe/router/scorer/mixture.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

namespace {

using moe::Index;
using test::near;

const test::RouterCases kCases{
    {"MixtureOfRouters",
     [] {
       return moe::mixture_of_routers<double>(
           {.width = 4, .experts = 5, .routers = 3, .k = 2, .load_balance = 0.5});
     }},
    {"MixtureOfRouters, one",
     [] { return moe::mixture_of_routers<double>({.width = 3, .experts = 4, .routers = 1}); }},
    {"MixtureOfRouters, float",
     [] { return moe::mixture_of_routers<float>({.width = 7, .experts = 9, .routers = 2}); }},
};

/// The routes of a normalised softmax top-k with these weights.
test::Routed<double> plain(const test::Matrix& weight, const test::RouterCall<double>& call) {
  auto router = moe::softmax_top_k<double>(
      {.width = 4, .experts = 5, .k = 2, .weights = {.normalise = moe::Normalise::sum}});
  test::set_parameter(router, "gate.weight", weight);
  return test::route(router, call);
}

void check_same(const test::Routed<double>& a, const test::Routed<double>& b) {
  REQUIRE(a.expert == b.expert);
  for (std::size_t p = 0; p < a.weight.size(); ++p) CHECK(near(a.weight[p], b.weight[p]));
  REQUIRE(a.losses.size() == b.losses.size());
  for (std::size_t i = 0; i < a.losses.size(); ++i) CHECK(near(a.losses[i], b.losses[i]));
}

}  // namespace

TEST_CASE("one router in the mixture, or several equal ones, are the plain router", "[mixture]") {
  auto call = test::random_call<double>(40, 4, 3);
  call.training = true;
  auto one = moe::mixture_of_routers<double>({.width = 4, .experts = 5, .routers = 1});
  test::randomise(one, 2);
  const test::Matrix weight = test::parameter(one, "sub_routers.weight");
  check_same(test::route(one, call), plain(weight, call));

  auto three = moe::mixture_of_routers<double>({.width = 4, .experts = 5, .routers = 3});
  test::randomise(three, 4);
  test::Matrix repeated;
  for (int i = 0; i < 3; ++i) repeated.insert(repeated.end(), weight.begin(), weight.end());
  test::set_parameter(three, "sub_routers.weight", repeated);
  check_same(test::route(three, call), plain(weight, call));
}

TEST_CASE("probabilities are mixed, not logits, by hand", "[mixture]") {
  // Two routers that are sure of different experts, and a main router that trusts them 3 : 1.
  auto router = moe::mixture_of_routers<double>({.width = 1, .experts = 2, .routers = 2, .k = 2});
  const double sure = std::log(9.0);
  test::set_parameter(router, "sub_routers.weight", {{sure}, {0}, {0}, {sure}});
  test::set_parameter(router, "main_router.weight", {{std::log(3.0)}, {0}});
  const auto routed = test::route(router, test::call_of({{1}}));
  test::check_pairs(routed, 0, {0, 1}, {0.75 * 0.9 + 0.25 * 0.1, 0.75 * 0.1 + 0.25 * 0.9});
}

TEST_CASE("mixtures of routers refuse sizes that do not fit", "[mixture]") {
  CHECK_THROWS_WITH(moe::mixture_of_routers<double>({.width = 3, .experts = 4, .routers = 0}),
                    "moe: routers: expected a value in [1, 2147483647], got 0");
  CHECK_THROWS_AS(moe::MixtureScorer<double>({.width = 3, .outputs = 0}), moe::config_error);
  CHECK_THROWS_AS(moe::mixture_of_routers<double>({.width = 0, .experts = 4}), moe::config_error);
  CHECK_THROWS_AS(moe::mixture_of_routers<double>({.width = 3, .experts = 4, .k = 5}), moe::config_error);
}
