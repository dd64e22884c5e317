#include "moe/plan/mix_table.hpp"

#include <vector>

#include "moe/plan/capacity/fixed.hpp"
#include "support/catch.hpp"

namespace {

using moe::Index;

moe::MixTable<float> carve(moe::Workspace& memory, Index tokens, Index experts, const moe::MixExtent& room) {
  moe::Arena measuring;
  moe::MixTable<float>::carve(measuring, tokens, experts, room);
  moe::Arena arena = memory.arena(measuring.bytes());
  return moe::MixTable<float>::carve(arena, tokens, experts, room);
}

}  // namespace

TEST_CASE("groups of a mix table lie side by side", "[plan][smoke]") {
  moe::Workspace memory;
  auto table = carve(memory, 7, 2, moe::mix_extent<float>(7, 3, 4));
  CHECK(table.slots() == 0);
  table.push_row(6);
  table.push_row(1);
  table.end_group([](Index e) { return e + 1; });
  table.end_group([](Index) { return Index{5}; });  // of no rows: none
  for (const Index t : {0, 2, 3}) table.push_row(t);
  table.end_group([](Index) { return Index{2}; });
  REQUIRE(table.groups == 2);
  CHECK(table.positions() == 5);
  CHECK(table.row[1] == 1);
  CHECK(table.rows(1) == 3);
  CHECK(table.slots() == 7);
  CHECK(table.slots(0) == 3);
  CHECK(table.first_slot(1) == 3);
  CHECK(table.slot_offsets[1] == 1);  // expert 1 of group 0
  CHECK(table.dispatch_row(table.dispatch, 1, 0) == table.dispatch_row(table.dispatch, 0, 2) + 16);
  CHECK(table.combine_row(table.combine, 1, 0) == table.combine_row(table.combine, 0, 1) + 16);
  CHECK(table.dispatch_begin[2] <= table.room.dispatch);
  CHECK(table.combine_begin[2] <= table.room.combine);
  table.clear();
  CHECK(table.positions() == 0);
}

TEST_CASE("a route table is a mix table: a slot for each pair that has a place", "[plan][smoke]") {
  const bool on_input = GENERATE(false, true);
  moe::Workspace memory, mixing;
  moe::Arena measuring;
  moe::RouteTable<float>::carve(measuring, 4, 3, 6);
  moe::DispatchPlan<float>::carve(measuring, 4, 3, 6);
  const moe::FixedCapacity capacity({.tokens_per_expert = 1});
  moe::measure_plan(measuring, capacity, 6, 3);
  moe::Arena arena = memory.arena(measuring.bytes());
  auto table = moe::RouteTable<float>::carve(arena, 4, 3, 6);
  auto plan = moe::DispatchPlan<float>::carve(arena, 4, 3, 6);
  const struct {
    Index token;
    moe::ExpertId expert;
    float weight;
  } pairs[] = {{0, 2, 0.5f}, {0, 0, 0.25f}, {2, 2, 0.75f}, {3, 1, 2}};
  Index next = 0;
  for (Index t = 0; t < 4; ++t) {
    table.begin_token(t);
    for (; next < 4 && pairs[next].token == t; ++next) table.push(t, pairs[next].expert, pairs[next].weight);
  }
  table.losses.add("of the router", 3);
  moe::build_plan(table, capacity, {}, plan, arena);
  const bool active[] = {true, false, true, true};
  auto mix = carve(mixing, 4, 3, moe::hard_mix_extent<float>(4, 6));
  moe::to_mix(table, plan, active, on_input, mix);
  REQUIRE(mix.groups == 1);
  REQUIRE(mix.positions() == 3);  // row 1 takes no part
  REQUIRE(mix.slots() == 3);      // of expert 0, 1 and 2: row 2 found no place
  const float d[3][3] = {{1, 0, 0}, {0, 0, 1}, {1, 0, 0}};
  const float w[3] = {0.25f, 2, 0.5f};
  for (Index s = 0; s < 3; ++s) {
    for (Index r = 0; r < 3; ++r) {
      CHECK(mix.dispatch_row(mix.dispatch, 0, s)[r] == (on_input ? w[s] : 1) * d[s][r]);
      CHECK(mix.combine_row(mix.combine, 0, r)[s] == (on_input ? 1 : w[s]) * d[s][r]);
    }
  }
  CHECK(mix.losses.total() == 3);
}
