#include "moe/router/named/one_group.hpp"

#include <algorithm>

#include "moe/router/balance/group_alignment.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::ExpertId;
using moe::Index;
using test::near;

namespace {

auto of_rows(moe::OneGroupOptions options, Index experts) {
  options.width = options.experts = experts;
  auto router = moe::one_group_router<double>(options);
  test::set_parameter(router, "gate.weight", test::identity(experts));
  return router;
}

const test::RouterCases kCases{
    {"OneGroupRouter",
     [] {
       return moe::one_group_router<double>(
           {.width = 4, .experts = 6, .groups = 2, .load_balance = 0.3, .alignment = 0.5});
     },
     {.step = 5e-4}},  // the alignment has kinks where probabilities cross
};

}  // namespace

TEST_CASE("all of a row's experts are in its most likely group", "[router]") {
  // Group 0 has the best expert, group 1 more probability.
  const auto call = test::call_of(test::logs({{0.4, 0.05, 0.3, 0.25}}));
  test::check_pairs(test::route(of_rows({.groups = 2, .k = 1}, 4), call), 0, {2}, {0.3});
  test::check_pairs(test::route(of_rows({.groups = 2}, 4), call), 0, {2, 3}, {0.3, 0.25});
  auto some = test::random_call<double>(60, 6, 5);
  const auto routed = test::route(of_rows({.groups = 3}, 6), some);
  for (Index t = 0; t < 60; ++t) {
    const auto p = test::softmax({some.row(t), some.row(t) + 6});
    const test::Vector group{p[0] + p[1], p[2] + p[3], p[4] + p[5]};
    const auto ids = routed.experts_of(t);
    REQUIRE(ids.size() == 2);
    CHECK(ids[0] / 2 == test::best(group, 1)[0]);
    CHECK(ids[1] / 2 == ids[0] / 2);
  }
}

TEST_CASE("one group is a plain softmax top-k", "[router]") {
  auto base = moe::softmax_top_k<double>({.width = 6, .experts = 6, .k = 2});
  test::set_parameter(base, "gate.weight", test::identity(6));
  const auto call = test::random_call<double>(30, 6, 4);
  CHECK(test::same_pairs(test::route(of_rows({.groups = 1}, 6), call), test::route(base, call)));
}

TEST_CASE("the alignment loss by hand, and 0 where the best are in one group", "[router]") {
  const auto loss = [](const test::Matrix& rows) {
    auto call = test::call_of(test::logs(rows));
    call.training = true;
    return test::loss_of(test::route(of_rows({.groups = 2, .alignment = 0.5}, 4), call), "group_alignment");
  };
  CHECK(near(loss({{0.4, 0.05, 0.3, 0.25}}), 0.5 * (0.4 - 0.25)));
  CHECK(near(loss({{0.4, 0.05, 0.3, 0.25}, {0.45, 0.3, 0.15, 0.1}}), 0.5 * (0.4 - 0.25) / 2));
  CHECK(loss({{0.45, 0.3, 0.15, 0.1}}) == 0);
}

TEST_CASE("options of one-group routing are checked", "[router]") {
  CHECK_THROWS_WITH(of_rows({.groups = 3}, 4), "moe: groups: expected a divisor of the 4 outputs, got 3");
  CHECK_THROWS_WITH(of_rows({.groups = 2, .k = 3}, 4),
                    "moe: experts per token: expected K in [1, 2] (experts of the kept groups), got 3");
  CHECK_THROWS_AS(moe::GroupAlignment({.groups = 0}), moe::config_error);
  CHECK_THROWS_WITH(moe::GroupAlignment({.groups = 3}).check(4),
                    "moe: groups: expected a divisor of the 4 outputs, got 3");
}
