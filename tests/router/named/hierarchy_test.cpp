#include "moe/router/named/hierarchy.hpp"

#include "moe/router/scorer/hierarchy_mask.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::Index;

namespace {

constexpr Index kFour[] = {0, 1, 1, 0};

auto four_tasks() {
  return moe::hierarchy_router<double>({.width = 4, .hierarchy = {.category = kFour}});
}

const test::RouterCases kCases{
    {"HierarchyRouter, four tasks",
     [] { return four_tasks(); },
     {.laws = {.masks = false, .parameters = false},
      .ties = false}},  // a gate's NaN shows in its task's rows
};

}  // namespace

TEST_CASE("weights are a softmax over what the task sees, against plain loops", "[router]") {
  auto router = four_tasks();
  test::randomise(router, 3);
  const auto call = test::random_call<double>(30, 4, 5);
  const auto routed = test::route(router, call);
  const auto w = test::parameter(router, "gate.weight"), b = test::parameter(router, "gate.bias");
  for (std::size_t t = 0; t < 30; ++t) {
    const auto task = static_cast<std::size_t>(call.columns.ints.at("task")[t]);
    const std::size_t open[] = {0, 1 + static_cast<std::size_t>(kFour[task]), 3 + task};
    test::Vector logit(7, -1e300), share(7);
    double sum = 0;
    for (std::size_t k = 0; k < 3; ++k) {  // of the task's own gate
      const std::size_t e = open[k], row = 3 * task + k;
      logit[e] = b[row][0];
      for (std::size_t j = 0; j < 4; ++j) logit[e] += w[row][j] * call.x[t * 4 + j];
      sum += share[e] = std::exp(logit[e]);
    }
    std::vector<moe::ExpertId> ids;
    test::Vector weights;
    for (const moe::ExpertId e : test::best(logit, 3)) {
      ids.push_back(e);
      weights.push_back(share[static_cast<std::size_t>(e)] / sum);
    }
    test::check_pairs(routed, static_cast<Index>(t), ids, weights);
  }
}

TEST_CASE("a task sees the shared experts, its category's and its own", "[router]") {
  const Index category[] = {0, 1, 0};
  const moe::HierarchyMask mask({.category = category, .shared = 2, .per_category = 1, .per_task = 2});
  REQUIRE(mask.outputs() == 2 + 2 + 6);
  REQUIRE(mask.seen() == 5);
  const bool want[3][10] = {{true, true, true, false, true, true, false, false, false, false},
                            {true, true, false, true, false, false, true, true, false, false},
                            {true, true, true, false, false, false, false, false, true, true}};
  for (Index task = 0; task < 3; ++task)
    for (Index e = 0; e < 10; ++e) CHECK(mask.sees(task, e) == want[task][e]);
  for (Index task = 0; task < 3; ++task) {
    for (Index e = 0, k = 0; e < 10; ++e) {
      if (want[task][e]) CHECK(mask.expert(task, k++) == e);
      if (want[task][e]) CHECK(mask.own_index(task, e) == (e < 4 ? -1 : e - 4 - 2 * task));
    }
  }
  CHECK(mask.own() == 2);
  const auto router = moe::hierarchy_router<double>(
      {.width = 4, .hierarchy = {.category = category, .shared = 2, .per_category = 1, .per_task = 2}});
  CHECK(router.experts() == 10);
}

TEST_CASE("options of a hierarchy are checked", "[router]") {
  const Index category[] = {0, 1}, bad[] = {0, -1};
  CHECK_THROWS_AS(moe::HierarchyMask({}), moe::config_error);
  CHECK_THROWS_AS(moe::HierarchyMask({.category = bad}), moe::config_error);
  CHECK_THROWS_AS(moe::HierarchyMask({.category = category, .shared = -1}), moe::config_error);
  CHECK_THROWS_AS(moe::HierarchyMask({.category = category, .shared = 0, .per_category = 0, .per_task = 0}),
                  moe::config_error);
  CHECK_THROWS_AS(moe::HierarchyMask({.category = category}).check(4), moe::shape_error);
}
