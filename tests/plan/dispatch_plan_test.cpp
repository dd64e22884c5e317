#include "moe/plan/dispatch_plan.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "moe/plan/capacity/dropless.hpp"
#include "moe/plan/capacity/fixed.hpp"
#include "support/archetypes.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/route_tables.hpp"

namespace {

using moe::Dropless;
using moe::FixedCapacity;
using moe::Index;
using test::Choices;
using test::message_of;
using test::OwnedPlan;
using test::OwnedTable;

/// What the plan must hold, said by lists.
template <class Real>
void check_plan(const moe::DispatchPlan<Real>& plan, const moe::RouteTable<Real>& table,
                const std::vector<bool>& keep) {
  struct Slot {
    Index expert, token, pair;
  };
  std::vector<Slot> slots;
  std::vector<Index> dropped;
  for (Index e = 0; e < table.experts; ++e) {
    for (Index t = 0; t < table.tokens; ++t) {
      for (Index p = table.offsets[t]; p < table.offsets[t + 1]; ++p) {
        if (table.expert[p] == e && keep[static_cast<std::size_t>(p)]) slots.push_back({e, t, p});
      }
    }
  }
  for (Index p = 0; p < table.pairs(); ++p) {
    if (!keep[static_cast<std::size_t>(p)]) dropped.push_back(p);
  }

  CHECK((plan.tokens == table.tokens && plan.experts == table.experts));
  REQUIRE(plan.slots() == static_cast<Index>(slots.size()));
  REQUIRE(plan.dropped_count == static_cast<Index>(dropped.size()));
  CHECK(std::equal(dropped.begin(), dropped.end(), plan.dropped));
  Index wrong = 0;
  for (Index s = 0; s < plan.slots(); ++s) {
    const Slot& slot = slots[static_cast<std::size_t>(s)];
    wrong += plan.token[s] != slot.token;
    wrong += plan.pair[s] != slot.pair;
    wrong += plan.weight[s] != table.weight[slot.pair];
  }
  for (Index e = 0; e < table.experts; ++e) {
    const auto rows = std::count_if(slots.begin(), slots.end(), [e](const Slot& s) { return s.expert == e; });
    wrong += plan.rows(e) != rows;
  }
  wrong += plan.offsets[0] != 0;
  wrong += plan.token_offsets[0] != 0;
  for (Index t = 0; t < table.tokens; ++t) {
    // The list is sorted by expert, so the token's slots in it come in the order of the sum.
    std::vector<Index> mine;
    for (Index s = 0; s < plan.slots(); ++s) {
      if (slots[static_cast<std::size_t>(s)].token == t) mine.push_back(s);
    }
    const Index begin = plan.token_offsets[t], end = plan.token_offsets[t + 1];
    wrong += end - begin != static_cast<Index>(mine.size());
    wrong += !std::equal(mine.begin(), mine.end(), plan.token_slot + begin, plan.token_slot + end);
  }
  CHECK(wrong == 0);
}

TEMPLATE_TEST_CASE("build_plan sorts pairs by expert", "[plan][smoke]", float, double) {
  std::mt19937 random(17);
  for (int round = 0; round < 60; ++round) {
    const Index tokens = static_cast<Index>(random() % 40), experts = 1 + static_cast<Index>(random() % 9);
    const Index most = round % 4 == 0 ? experts : std::min<Index>(experts, 3);
    CAPTURE(round, tokens, experts);
    const OwnedTable<TestType> owner(test::random_choices<TestType>(random, tokens, experts, most), experts);
    const auto pairs = static_cast<std::size_t>(owner.table.pairs());

    check_plan(OwnedPlan<TestType>(owner.table, Dropless{}).plan, owner.table,
               std::vector<bool>(pairs, true));

    const Index step = 2 + static_cast<Index>(random() % 3);
    std::vector<bool> keep(pairs);
    for (std::size_t p = 0; p < pairs; ++p) keep[p] = static_cast<Index>(p) % step != 0;
    check_plan(OwnedPlan<TestType>(owner.table, test::CapacityArchetype(step)).plan, owner.table, keep);
  }
}

TEST_CASE("build_plan: every token to every expert, in the worst order", "[plan]") {
  Choices<float> choices(10);
  for (auto& token : choices) {
    for (moe::ExpertId e = 19; e >= 0; --e) token.emplace_back(e, 1.0f / static_cast<float>(1 + e));
  }
  const OwnedTable<float> owner(choices, 20);
  check_plan(OwnedPlan<float>(owner.table, Dropless{}).plan, owner.table, std::vector<bool>(200, true));
}

TEST_CASE("build_plan: everything dropped, nothing routed, no tokens", "[plan]") {
  const OwnedTable<float> some({{{0, 1.0f}}, {{2, 1.0f}, {0, 0.5f}}}, 3);
  check_plan(OwnedPlan<float>(some.table, test::CapacityArchetype(1)).plan, some.table,
             std::vector<bool>(3, false));
  const OwnedTable<float> nothing({{}, {}, {}}, 3);
  check_plan(OwnedPlan<float>(nothing.table, Dropless{}).plan, nothing.table, {});
  const OwnedTable<float> no_tokens({}, 3);
  check_plan(OwnedPlan<float>(no_tokens.table, Dropless{}).plan, no_tokens.table, {});
  CHECK(moe::DispatchPlan<float>{}.slots() == 0);
}

TEST_CASE("build_plan: GShard's example, per segment", "[plan]") {
  // Two requests of four tokens; see capacity_test.cpp. Each gets two places per expert.
  const OwnedTable<float> owner({8, {{0, 0.75f}, {1, 0.25f}}}, 2);
  const FixedCapacity capacity(FixedCapacity::Options{.tokens_per_expert = 2});
  const OwnedPlan<float> owned(owner.table, capacity, moe::Segments::uniform(4));
  const auto& plan = owned.plan;
  REQUIRE((plan.rows(0) == 4 && plan.rows(1) == 4));
  const std::int32_t tokens[] = {0, 1, 4, 5};
  CHECK(std::equal(tokens, tokens + 4, plan.token));
  CHECK(std::equal(tokens, tokens + 4, plan.token + 4));
  CHECK(plan.dropped_count == 8);
  for (const Index t : {2, 3, 6, 7}) CHECK(plan.token_offsets[t + 1] == plan.token_offsets[t]);
}

TEST_CASE("build_plan needs no more than was measured", "[plan]") {
  std::mt19937 random(2);
  const OwnedTable<float> owner(test::random_choices<float>(random, 50, 8, 4), 8);
  const auto& table = owner.table;
  const FixedCapacity capacity(FixedCapacity::Options{.factor = 1});
  moe::Arena measuring;
  moe::DispatchPlan<float>::carve(measuring, 50, 8, table.pairs());
  moe::measure_plan(measuring, capacity, table.pairs(), 8);
  moe::Workspace workspace;
  moe::Arena arena = workspace.arena(measuring.bytes());
  auto plan = moe::DispatchPlan<float>::carve(arena, 50, 8, table.pairs());
  moe::build_plan(table, capacity, moe::Segments{}, plan, arena);
  CHECK(arena.bytes() == measuring.bytes());
}

/// Message of building a plan from these choices.
template <class Error>
std::string refusal(const Choices<float>& choices, Index experts) {
  const OwnedTable<float> owner(choices, experts);
  return message_of<Error>([&] { OwnedPlan<float> plan(owner.table, Dropless{}); });
}

TEST_CASE("build_plan refuses ids that do not exist", "[plan][smoke]") {
  CHECK(refusal<moe::route_error>({{{0, 1.0f}}, {{1, 1.0f}, {3, 1.0f}}}, 3) ==
        "moe: expert ids: expected ids in [0, 3), got 3 for token 1");
  CHECK(refusal<moe::route_error>({{{-1, 1.0f}}}, 3) ==
        "moe: expert ids: expected ids in [0, 3), got -1 for token 0");
  CHECK(refusal<moe::route_error>({{}, {}, {{std::numeric_limits<moe::ExpertId>::max(), 1.0f}}}, 3) ==
        "moe: expert ids: expected ids in [0, 3), got 2147483647 for token 2");
  CHECK(refusal<moe::route_error>({{{std::numeric_limits<moe::ExpertId>::min(), 1.0f}}}, 3) ==
        "moe: expert ids: expected ids in [0, 3), got -2147483648 for token 0");
}

TEST_CASE("build_plan refuses one expert twice for a token", "[plan]") {
  CHECK(refusal<moe::route_error>({{{2, 1.0f}}, {{2, 0.5f}, {0, 0.25f}, {2, 0.25f}}}, 3) ==
        "moe: expert ids: expected each expert at most once per token, got 2 twice for token 1");
  CHECK(refusal<moe::route_error>({{{1, 0.5f}, {1, 0.5f}, {0, 0.25f}}}, 3) ==
        "moe: expert ids: expected each expert at most once per token, got 1 twice for token 0");
}

TEST_CASE("build_plan refuses weights that are not finite", "[plan]") {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  CHECK(refusal<moe::numeric_error>({{{0, 1.0f}}, {{1, kInf}}}, 2) ==
        "moe: combine weights: expected finite values, got inf for token 1, expert 1");
  CHECK(refusal<moe::numeric_error>({{{0, -kInf}}}, 2) ==
        "moe: combine weights: expected finite values, got -inf for token 0, expert 0");
  const std::string nan = refusal<moe::numeric_error>({{{1, std::numeric_limits<float>::quiet_NaN()}}}, 2);
  CAPTURE(nan);
  CHECK(nan.find("nan for token 0, expert 1") != std::string::npos);
  // What is merely small, zero or negative is a weight.
  CHECK(refusal<moe::numeric_error>(
            {{{0, 0.0f}, {1, -1.0f}},
             {{0, std::numeric_limits<float>::denorm_min()}, {1, std::numeric_limits<float>::max()}}},
            2) == "nothing thrown");
}

TEST_CASE("build_plan refuses offsets that do not ascend from 0", "[plan][smoke]") {
  const OwnedTable<float> owner({{{0, 1.0f}}, {{1, 1.0f}}, {}}, 2);
  const auto refused = [&](std::array<Index, 4> offsets) {
    moe::RouteTable<float> table = owner.table;
    table.offsets = offsets.data();
    moe::Workspace memory;
    moe::Arena arena = memory.arena(4096);
    auto plan = moe::DispatchPlan<float>::carve(arena, 3, 2, 2);
    return message_of<moe::route_error>(
        [&] { moe::build_plan(table, Dropless{}, moe::Segments{}, plan, arena); });
  };
  CHECK(refused({0, 1, 2, 2}) == "nothing thrown");
  // A router that forgot its last token.
  CHECK(refused({0, 1, 2, 0}) ==
        "moe: route table: expected offsets that ascend from 0, got 2 to 0 for token 2");
  CHECK(refused({1, 1, 2, 2}) ==
        "moe: route table: expected offsets that ascend from 0, got 1 to 1 for token 0");
  CHECK(refused({0, -1, 2, 2}) ==
        "moe: route table: expected offsets that ascend from 0, got 0 to -1 for token 0");
}

TEST_CASE("build_plan refuses segments of other tokens", "[plan]") {
  const OwnedTable<float> owner({{{0, 1.0f}}, {{1, 1.0f}}, {}}, 2);
  const std::array<Index, 3> offsets = {0, 2, 4};
  CHECK(message_of<moe::shape_error>([&] {
          OwnedPlan<float> plan(owner.table, Dropless{}, moe::Segments(offsets));
        }) == "moe: segments: expected the last offset to be 3 rows, got 4");
}

}  // namespace
