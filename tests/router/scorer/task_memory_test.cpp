#include "moe/router/scorer/task_memory.hpp"

#include <cmath>
#include <limits>

#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

namespace {

using moe::Index;
using Scorer = moe::TaskMemoryScorer<double>;
using Router = moe::TokenChoice<Scorer, moe::Softmax, moe::TopKSelection, moe::GatherWeighting>;
constexpr Index kTokens = 8, kWidth = 4, kOutputs = 3, kTasks = 4;  // tasks as the calls' columns have

Router router_of(Index k = 2) {
  return {Scorer({.width = kWidth, .outputs = kOutputs, .tasks = kTasks}),
          {},
          moe::TopKSelection(k),
          moe::GatherWeighting{}};
}
const test::RouterCases kCases{{"task memory scorer", [] { return router_of(); }}};

test::RouterCall<double> call_with_memory() {
  auto call = test::random_call<double>(kTokens, kWidth, 1);
  test::add_carry(call, kWidth);
  return call;
}

}  // namespace

TEST_CASE("task memory: logits of the row's task, from row and memory; without one its expert is masked",
          "[task_memory]") {
  auto router = router_of(kOutputs);
  test::randomise(router, 3);
  const auto w = test::parameter(router, "gate.weight"), u = test::parameter(router, "memory_gate.weight");
  REQUIRE((w.size() == 12 && u.size() == 12));
  auto call = call_with_memory();
  const auto memory = call.columns.reals.at("carry");
  for (const bool remembers : {true, false}) {
    if (!remembers) call.columns.reals.erase("carry");
    const auto routed = test::route(router, call);
    for (std::size_t t = 0; t < kTokens; ++t) {
      const auto task = static_cast<std::size_t>(call.columns.ints.at("task")[t]);
      test::Vector logit;
      for (std::size_t e = 0; e < (remembers ? 3u : 2u); ++e) {
        logit.push_back(0);
        for (std::size_t j = 0; j < kWidth; ++j) {
          logit[e] += w[3 * task + e][j] * call.x[t * kWidth + j];
          if (remembers) logit[e] += u[3 * task + e][j] * memory[t * kWidth + j];
        }
      }
      const auto p = test::softmax(logit);
      REQUIRE(routed.experts_of(static_cast<Index>(t)).size() == p.size());
      for (std::size_t e = 0; e < p.size(); ++e)
        CHECK(test::near(routed.weight_of(static_cast<Index>(t), static_cast<Index>(e)), p[e]));
    }
  }
}

TEST_CASE("task memory: a memory that is not finite shows in its own row alone", "[task_memory]") {
  auto router = router_of();
  test::randomise(router, 3);
  router.set_non_finite(moe::NonFinite::isolate_row);
  const auto call = call_with_memory();
  const auto whole = test::route(router, call);
  auto spoiled = call;
  spoiled.columns.reals.at("carry")[2 * kWidth] = std::numeric_limits<double>::infinity();
  const auto routed = test::route(router, spoiled);
  for (Index t = 0; t < kTokens; ++t) {
    CHECK(routed.spoiled[static_cast<std::size_t>(t)] == (t == 2));
    if (t != 2) CHECK(test::same_row(whole, t, routed, t));
  }
}

TEST_CASE("task memory refuses sizes and tasks that are none", "[task_memory]") {
  CHECK_THROWS_AS(Scorer({.width = 0, .outputs = 3}), moe::config_error);
  CHECK_THROWS_AS(Scorer({.width = 4, .outputs = 1}), moe::config_error);
  CHECK_THROWS_AS(Scorer({.width = 4, .outputs = 3, .tasks = 0}), moe::config_error);
  CHECK_THROWS_AS(Scorer({.width = 4, .outputs = 1 << 20, .tasks = 1 << 20}), moe::config_error);
  auto router = router_of();
  auto call = call_with_memory();
  call.columns.ints.at("task")[3] = kTasks;
  CHECK_THROWS_AS(test::route(router, call), moe::route_error);
  call.columns.ints.at("task")[3] = -1;
  CHECK_THROWS_AS(test::route(router, call), moe::route_error);
  call.valid.resize(kTokens);
  call.valid.fill(true);
  call.valid[3] = false;
  CHECK_NOTHROW(test::route(router, call));
  call.columns.ints.erase("task");
  CHECK_THROWS_AS(test::route(router, call), moe::config_error);
}
