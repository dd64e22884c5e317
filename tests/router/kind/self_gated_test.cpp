#include "moe/router/kind/self_gated.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "moe/router/named/hierarchy.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::Index;

namespace {

constexpr Index kCategory[] = {0, 1, 1, 0};
using Router = moe::SelfGated<moe::HierarchyRouter<double>>;

Router router_of(Index per_task) {
  const moe::HierarchyMaskOptions hierarchy{.category = kCategory, .per_task = per_task};
  return {moe::hierarchy_router<double>({.width = 4, .hierarchy = hierarchy}), moe::HierarchyMask(hierarchy)};
}

// A gate's NaN shows in its task's rows.
const test::RouterCases kCases{
    {"SelfGated, one expert of its own",
     [] { return router_of(1); },
     {.laws = {.masks = false, .parameters = false}, .ties = false}},
    {"SelfGated, two of its own",
     [] { return router_of(2); },
     {.laws = {.masks = false, .parameters = false}, .ties = false}},
};

}  // namespace

TEST_CASE("a self gate adds to the weights of the task's own experts: a sigmoid of one, a softmax of several",
          "[router]") {
  for (const Index n : {1, 2}) {
    Router router = router_of(n);
    test::randomise(router, 3);
    const auto call = test::random_call<double>(30, 4, 5);
    const auto with = test::route(router, call), without = test::route(router.inner(), call);
    const auto u = test::parameter(router, "self_gate.weight"), c = test::parameter(router, "self_gate.bias");
    CHECK(with.expert == without.expert);
    std::size_t pair = 0;
    for (Index t = 0; t < 30; ++t) {
      const Index task = call.columns.ints.at("task")[static_cast<std::size_t>(t)];
      test::Vector share;
      double sum = 0;
      for (Index k = 0; k < n; ++k) {
        const auto row = static_cast<std::size_t>(task * n + k);
        double a = c[row][0];
        for (std::size_t j = 0; j < 4; ++j) a += u[row][j] * call.x[static_cast<std::size_t>(4 * t) + j];
        share.push_back(std::exp(a));
        sum += share.back();
      }
      for (double& s : share) s /= n == 1 ? 1 + s : sum;
      for (const moe::ExpertId e : with.experts_of(t)) {
        const Index own = Index{e} - 3 - task * n;
        const double added = own >= 0 ? share[static_cast<std::size_t>(own)] : 0;
        CHECK(std::abs(with.weight[pair] - without.weight[pair] - added) <= 1e-14);
        ++pair;
      }
    }
  }
}

TEST_CASE("a self gate that is not finite is refused, or its rows are isolated", "[router]") {
  Router router = router_of(1);
  test::randomise(router, 3);
  auto call = test::random_call<double>(8, 4, 5);
  for (std::size_t t = 0; t < 8; ++t) call.columns.ints.at("task")[t] = static_cast<std::int32_t>(t % 4);
  const auto whole = test::route(router, call);
  router.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) {
    if (std::string(p.name) == "self_gate.bias") p.value(2, 0) = std::numeric_limits<double>::quiet_NaN();
  });
  CHECK_THROWS_AS(test::route(router, call), moe::numeric_error);
  router.set_non_finite(moe::NonFinite::isolate_row);
  const auto isolated = test::route(router, call);
  for (Index t = 0; t < 8; ++t) {
    CHECK(isolated.spoiled[static_cast<std::size_t>(t)] == (t % 4 == 2));
    CHECK(isolated.weights_of(t) == (t % 4 == 2 ? std::vector<double>{} : whole.weights_of(t)));
  }
}

TEST_CASE("what a self-gated router refuses", "[router]") {
  const moe::HierarchyMaskOptions few{.category = kCategory}, none{.category = kCategory, .per_task = 0};
  CHECK_THROWS_AS(
      Router(moe::hierarchy_router<double>({.width = 4, .hierarchy = none}), moe::HierarchyMask(few)),
      moe::config_error);
  CHECK_THROWS_AS(
      Router(moe::hierarchy_router<double>({.width = 4, .hierarchy = none}), moe::HierarchyMask(none)),
      moe::config_error);
}
