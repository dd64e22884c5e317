#include "moe/router/named/adaptive_top_two.hpp"

#include <limits>

#include "moe/router/selection/adaptive_top_two.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::ExpertId;
using moe::Index;
using test::near;

namespace {

auto of_rows(moe::AdaptiveTopTwoOptions options, Index experts = 3) {
  options.width = options.experts = experts;
  auto router = moe::adaptive_top_two_router<double>(options);
  test::set_parameter(router, "gate.weight", test::identity(experts));
  return router;
}

const test::RouterCases kCases{
    {"AdaptiveTopTwoRouter",
     [] {
       return moe::adaptive_top_two_router<double>(
           {.width = 4, .experts = 6, .gap = 0.15, .load_balance = 0.3});
     }},
};

}  // namespace

TEST_CASE("adaptive gating by hand", "[router]") {
  const auto call = test::call_of(test::logs({{0.1, 0.6, 0.3}, {0.45, 0.15, 0.4}}));
  const auto routed = test::route(of_rows({.gap = 0.2}), call);
  test::check_pairs(routed, 0, {1}, {0.6});  // sure: its probability
  test::check_pairs(routed, 1, {0, 2}, {0.45 / 0.85, 0.4 / 0.85});
  // A gap of exactly T is not above it.
  CHECK(test::route(of_rows({.gap = 0}, 2), test::call_of({{1, 1}})).experts_of(0) ==
        std::vector<ExpertId>{0, 1});
}

TEST_CASE("adaptive gating between top-1 and top-2", "[router]") {
  const auto call = test::random_call<double>(100, 3, 5);
  CHECK(test::route(of_rows({.gap = 0}), call).pairs() == 100);
  CHECK(test::route(of_rows({.gap = 1}), call).pairs() == 200);
  Index last = 100;
  for (const double gap : {0.05, 0.1, 0.3, 0.6}) {
    const Index pairs = test::route(of_rows({.gap = gap}), call).pairs();
    CHECK(pairs >= last);
    last = pairs;
  }
  CHECK((last > 100 && last <= 200));
  auto masked = test::call_of({{1, 1, 1}});
  masked.mask = {-std::numeric_limits<double>::infinity(), 0, -std::numeric_limits<double>::infinity()};
  CHECK(test::route(of_rows({}), masked).experts_of(0) == std::vector<ExpertId>{1});
}

TEST_CASE("adaptive gating balances first choices", "[router]") {
  auto call = test::random_call<double>(40, 3, 8);
  call.training = true;
  const auto router = of_rows({.load_balance = 0.5});
  const auto routed = test::route(router, call);
  test::Matrix p;
  std::vector<std::vector<ExpertId>> first;
  for (Index t = 0; t < 40; ++t) {
    p.push_back(test::softmax({call.row(t), call.row(t) + 3}));
    first.push_back({routed.experts_of(t)[0]});
  }
  CHECK(near(test::loss_of(routed, "load_balance"), 0.5 * test::load_balance(test::counts(first, 3), p)));
}

TEST_CASE("options of adaptive gating are checked", "[router]") {
  CHECK_THROWS_WITH(of_rows({.gap = -0.5}),
                    "moe: gap of adaptive gating: expected a value in [0, 1], got -0.5");
  CHECK_THROWS_AS(of_rows({.gap = std::numeric_limits<double>::quiet_NaN()}), moe::config_error);
  const moe::AdaptiveTopTwo selection({});
  CHECK(selection.most({}, 1) == 1);
  for (const moe::CallOptions& options :
       {moe::CallOptions{.experts_per_token = 1}, moe::CallOptions{.threshold = 1},
        moe::CallOptions{.capacity_factor = 1}, moe::CallOptions{.p = 0.5}}) {
    CHECK_THROWS_AS(selection.most(options, 4), moe::config_error);
  }
}
