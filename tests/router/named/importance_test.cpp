#include "moe/router/named/importance.hpp"

#include <limits>

#include "moe/router/named/top_k.hpp"
#include "moe/router/selection/importance_top_k.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::Index;

namespace {

auto router_of(moe::ImportanceTopKOptions options) {
  options.width = 4;
  options.experts = 6;
  auto router = moe::importance_router<double>(options);
  test::randomise(router, 3);
  return router;
}
/// Calls whose rows have these importances.
auto call_with(const std::vector<double>& importance) {
  auto call = test::random_call<double>(static_cast<Index>(importance.size()), 4, 2);
  call.columns.reals["features"] = importance;
  return call;
}

const test::RouterCases kCases{
    {"ImportanceRouter", [] { return router_of({.k_max = 4, .column = 2, .load_balance = 0.3}); }},
};

}  // namespace

TEST_CASE("k follows the importance", "[router]") {
  const auto routed =
      test::route(router_of({.k_max = 4}), call_with({-1, 0, 0.25, 0.26, 0.5, 0.51, 0.76, 1, 7}));
  for (Index t = 0; t < 9; ++t) {
    CHECK(routed.experts_of(t).size() ==
          std::vector<std::size_t>{1, 1, 1, 2, 2, 3, 4, 4, 4}[static_cast<std::size_t>(t)]);
  }
}

TEST_CASE("a row that matters more gets all that it got, and more", "[router]") {
  const auto router = router_of({.k_max = 5});
  std::vector<moe::ExpertId> last;
  for (int i = 0; i <= 20; ++i) {
    const auto ids = test::route(router, call_with({i / 20.0})).experts_of(0);
    REQUIRE(ids.size() >= last.size());
    CHECK(std::equal(last.begin(), last.end(), ids.begin()));
    last = ids;
  }
  CHECK(last.size() == 5);
}

TEST_CASE("rows of one importance are a top-k; K of the call is that of the most important", "[router]") {
  auto router = router_of({.k_max = 4});
  auto base = moe::softmax_top_k<double>({.width = 4, .experts = 6, .k = 3});
  test::set_parameter(base, "gate.weight", test::parameter(router, "gate.weight"));
  auto call = call_with(std::vector<double>(30, 0.75));
  CHECK(test::same_pairs(test::route(router, call), test::route(base, call)));
  call = call_with(std::vector<double>(30, 1));
  call.options.experts_per_token = 3;
  CHECK(test::same_pairs(test::route(router, call), test::route(base, call)));
}

TEST_CASE("a call without the importance is refused", "[router]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  auto call = call_with({1, 1});
  CHECK_THROWS_WITH(test::route(router_of({.column = 1}), call),
                    "moe: features: expected the importance of every row in column 1, got 1 columns");
  call.columns.reals.clear();
  CHECK_THROWS_AS(test::route(router_of({}), call), moe::config_error);
  call = call_with({1, nan, 1});
  CHECK_THROWS_WITH(test::route(router_of({}), call),
                    "moe: features: expected the importance of token 1, got NaN");
  call.valid.assign(3, true);
  call.valid[1] = false;
  CHECK(test::route(router_of({}), call).pairs() == 4);
  CHECK_THROWS_AS(router_of({.k_max = 0}), moe::config_error);
  CHECK_THROWS_AS(router_of({.k_max = 7}), moe::config_error);
  CHECK_THROWS_AS(router_of({.column = -1}), moe::config_error);
  CHECK_THROWS_AS(moe::ImportanceTopK({}).most({.threshold = 1}, 4), moe::config_error);
}
