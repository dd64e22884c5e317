#include "moe/router/named/each_group.hpp"

#include <limits>

#include "moe/router/expert_blocks.hpp"
#include "moe/router/named/switch.hpp"
#include "moe/router/score/group_softmax.hpp"
#include "moe/router/selection/each_group.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::ExpertId;
using moe::Index;
using test::near;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

auto of_rows(moe::EachGroupOptions options, Index experts) {
  options.width = options.experts = experts;
  auto router = moe::each_group_router<double>(options);
  test::set_parameter(router, "gate.weight", test::identity(experts));
  return router;
}

const test::RouterCases kCases{
    // Equal scores: the first of every group.
    {"EachGroupRouter",
     [] {
       return moe::each_group_router<double>({.width = 4, .experts = 6, .groups = 2, .load_balance = 0.3});
     },
     {.ties = false}},
    {"EachGroupRouter, two of three",
     [] {
       return moe::each_group_router<double>(
           {.width = 4, .experts = 9, .groups = 3, .k = 2, .load_balance = 0.3});
     },
     {.ties = false}},
};

}  // namespace

TEST_CASE("the best of every group by its own softmax", "[router]") {
  auto call = test::call_of(test::logs({{0.25, 0.75, 0.9, 0.1}}));
  test::check_pairs(test::route(of_rows({.groups = 2}, 4), call), 0, {1, 2}, {0.75, 0.9});
  test::check_pairs(test::route(of_rows({.groups = 2, .k = 2}, 4), call), 0, {1, 0, 2, 3},
                    {0.75, 0.25, 0.9, 0.1});
  call.options.experts_per_token = 4;
  CHECK(test::route(of_rows({.groups = 2}, 4), call).pairs() == 4);
  call.options = {};
  call.mask = {0, 0, -kInfinity, -kInfinity};  // a closed group is left out
  test::check_pairs(test::route(of_rows({.groups = 2}, 4), call), 0, {1}, {0.75});
}

TEST_CASE("every row has one expert in every group; one group is Switch", "[router]") {
  auto call = test::random_call<double>(50, 6, 2);
  const auto routed = test::route(of_rows({.groups = 3}, 6), call);
  for (Index t = 0; t < 50; ++t) {
    const auto ids = routed.experts_of(t);
    REQUIRE(ids.size() == 3);
    for (std::size_t g = 0; g < 3; ++g) CHECK(ids[g] / 2 == static_cast<ExpertId>(g));
  }
  auto one = moe::switch_router<double>({.width = 6, .experts = 6, .jitter = 0, .load_balance = 0.2});
  test::set_parameter(one, "gate.weight", test::identity(6));
  call.training = true;
  const auto alone = test::route(of_rows({.groups = 1, .load_balance = 0.2}, 6), call);
  const auto switched = test::route(one, call);
  CHECK(test::same_pairs(alone, switched));
  CHECK(near(test::loss_of(alone, "load_balance"), test::loss_of(switched, "load_balance")));
}

TEST_CASE("the balance loss is the mean of the groups'", "[router]") {
  auto call = test::random_call<double>(30, 6, 6);
  call.training = true;
  const auto routed = test::route(of_rows({.groups = 2, .load_balance = 0.4}, 6), call);
  double expected = 0;
  for (std::size_t g = 0; g < 2; ++g) {
    test::Matrix p;
    std::vector<std::vector<ExpertId>> chosen;
    for (Index t = 0; t < 30; ++t) {
      p.push_back(test::softmax({call.row(t) + 3 * g, call.row(t) + 3 * g + 3}));
      chosen.push_back({static_cast<ExpertId>(routed.experts_of(t)[g] - static_cast<ExpertId>(3 * g))});
    }
    expected += 0.4 * test::load_balance(test::counts(chosen, 3), p) / 2;
  }
  CHECK(near(test::loss_of(routed, "load_balance"), expected));
}

TEST_CASE("options of routing by groups are checked", "[router]") {
  CHECK_NOTHROW(moe::impl::require_blocks("groups", 2, 4));
  CHECK_THROWS_WITH(of_rows({.groups = 3}, 4), "moe: groups: expected a divisor of the 4 outputs, got 3");
  CHECK_THROWS_AS(of_rows({.groups = 0}, 4), moe::config_error);
  CHECK_THROWS_AS(of_rows({.groups = 2, .k = 3}, 4), moe::config_error);
  CHECK_THROWS_AS(of_rows({.groups = 2, .k = 0}, 4), moe::config_error);
  const moe::EachGroupSelection two({.groups = 2});
  CHECK_THROWS_WITH(two.most({.experts_per_token = 3}, 4),
                    "moe: experts per token: expected a multiple of the 2 groups, got 3");
  CHECK_THROWS_AS(two.most({.p = 0.5}, 4), moe::config_error);
  CHECK_THROWS_WITH(moe::GroupSoftmax({.groups = 3}).check(4),
                    "moe: groups: expected a divisor of the 4 outputs, got 3");
  CHECK_THROWS_AS(moe::GroupSoftmax({.groups = 0}), moe::config_error);
}
