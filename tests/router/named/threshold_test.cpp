#include "moe/router/named/threshold.hpp"

#include <limits>

#include "moe/router/selection/threshold.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::ExpertId;
using moe::Index;

namespace {

using Ids = std::vector<ExpertId>;
auto of_rows(moe::ThresholdOptions options) {
  options.width = options.experts = 4;
  auto router = moe::threshold_router<double>(options);
  test::set_parameter(router, "gate.weight", test::identity(4));
  return router;
}

const test::RouterCases kCases{
    {"ThresholdRouter",
     [] {
       return moe::threshold_router<double>(
           {.width = 4, .experts = 6, .threshold = 0.18, .load_balance = 0.3});
     }},
};

}  // namespace

TEST_CASE("threshold routing by hand", "[router]") {
  auto call = test::call_of(test::logs({{0.15, 0.5, 0.05, 0.3}}));
  test::check_pairs(test::route(of_rows({.threshold = 0.2}), call), 0, {1, 3}, {0.625, 0.375});
  test::check_pairs(test::route(of_rows({.threshold = 0.6}), call), 0, {1}, {1});  // never none
  CHECK(test::route(of_rows({.threshold = 0}), call).experts_of(0) == Ids{1, 3, 0, 2});
  CHECK(test::route(of_rows({.threshold = 1}), call).experts_of(0) == Ids{1});
  call.options.threshold = 0.1;  // of the call
  CHECK(test::route(of_rows({.threshold = 0.6}), call).experts_of(0) == Ids{1, 3, 0});
}

TEST_CASE("a higher threshold never takes more", "[router]") {
  const auto call = test::random_call<double>(60, 4, 3);
  auto last = test::route(of_rows({.threshold = 0}), call);
  CHECK(last.pairs() == 240);
  for (const double threshold : {0.1, 0.2, 0.3, 0.5, 1.0}) {
    const auto routed = test::route(of_rows({.threshold = threshold}), call);
    for (Index t = 0; t < 60; ++t) CHECK(routed.experts_of(t).size() <= last.experts_of(t).size());
    last = routed;
  }
  CHECK(last.pairs() == 60);
}

TEST_CASE("options of threshold routing are checked", "[router]") {
  CHECK_THROWS_WITH(of_rows({.threshold = 1.5}), "moe: threshold: expected a probability, got 1.5");
  CHECK_THROWS_AS(of_rows({.threshold = std::numeric_limits<double>::quiet_NaN()}), moe::config_error);
  auto call = test::call_of({{1, 2, 3, 4}});
  call.options.threshold = std::numeric_limits<double>::infinity();
  CHECK_THROWS_WITH(test::route(of_rows({}), call), "moe: threshold: expected a finite value, got inf");
  call.options = {.experts_per_token = 2};
  CHECK_THROWS_AS(test::route(of_rows({}), call), moe::config_error);
  call.options = {.p = 0.5};
  CHECK_THROWS_AS(test::route(of_rows({}), call), moe::config_error);
  CHECK_THROWS_WITH(moe::ThresholdSelection({.least = 9}).check(8),
                    "moe: least experts per token: expected a value in [1, 8], got 9");
  CHECK_THROWS_AS(moe::ThresholdSelection({.least = 0}), moe::config_error);
  CHECK_THROWS_AS(moe::ThresholdSelection({.inference_k = -1}), moe::config_error);
}
