#include "moe/plan/statistics.hpp"

#include <cmath>
#include <initializer_list>
#include <random>
#include <string>

#include "moe/plan/capacity/dropless.hpp"
#include "moe/plan/capacity/fixed.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/route_tables.hpp"

namespace {

using moe::FixedCapacity;
using moe::Index;
using moe::RouteStats;
using test::OwnedPlan;
using test::OwnedTable;

RouteStats with_load(std::initializer_list<Index> load) {
  RouteStats stats;
  stats.load.copy_from(load.begin(), static_cast<Index>(load.size()));
  stats.gate_mass.assign(static_cast<Index>(load.size()), 0);
  return stats;
}

bool same(const RouteStats& a, const RouteStats& b) {
  bool equal = a.tokens == b.tokens && a.dropped == b.dropped && a.elided == b.elided &&
               a.spoiled == b.spoiled && a.experts() == b.experts() &&
               a.gate_mass.size() == b.gate_mass.size();
  for (Index e = 0; equal && e < a.experts(); ++e) {
    equal = a.load[e] == b.load[e] && a.gate_mass[e] == b.gate_mass[e];
  }
  return equal;
}

TEST_CASE("RouteStats counts what a call did", "[plan]") {
  std::mt19937 random(23);
  for (int round = 0; round < 30; ++round) {
    const Index tokens = static_cast<Index>(random() % 30), experts = 1 + static_cast<Index>(random() % 6);
    auto choices = test::random_choices<float>(random, tokens, experts, experts);
    moe::Buffer<bool> valid(tokens), spoiled(tokens);
    for (Index t = 0; t < tokens; ++t) {
      valid[t] = random() % 4 != 0;
      spoiled[t] = valid[t] && random() % 5 == 0;
      if (!valid[t] || spoiled[t]) choices[static_cast<std::size_t>(t)].clear();
    }
    OwnedTable<float> owner(choices, experts);
    for (Index t = 0; t < tokens; ++t) owner.table.spoiled[t] = spoiled[t];
    owner.table.elided = 3;
    const OwnedPlan<float> owned(owner.table, FixedCapacity(FixedCapacity::Options{.tokens_per_expert = 2}));

    RouteStats expected;
    expected.load.assign(experts, 0);
    expected.gate_mass.assign(experts, 0);
    for (Index t = 0; t < tokens; ++t) {
      expected.tokens += valid[t] && !spoiled[t];
      expected.spoiled += spoiled[t];
      for (const auto& [e, w] : choices[static_cast<std::size_t>(t)]) {
        ++expected.load[e];
        expected.gate_mass[e] += static_cast<double>(w);  // eighths: exact in any order
      }
    }
    for (Index e = 0; e < experts; ++e) expected.dropped += expected.load[e] > 2 ? expected.load[e] - 2 : 0;
    expected.elided = 3;

    RouteStats stats;
    stats.add(owner.table, owned.plan, valid.data());
    CHECK(same(stats, expected));
    CHECK(stats.pairs() == owner.table.pairs());

    // A second call, and the same as a merge.
    RouteStats merged = stats;
    merged.add(stats);
    stats.add(owner.table, owned.plan, valid.data());
    CHECK(same(stats, merged));
  }
}

TEST_CASE("RouteStats: without a mask every token takes part", "[plan]") {
  const OwnedTable<float> owner({{{0, 1.0f}}, {}, {{1, 0.5f}, {0, 0.5f}}}, 2);
  const OwnedPlan<float> owned(owner.table, moe::Dropless{});
  RouteStats stats;
  stats.add(owner.table, owned.plan, nullptr);
  CHECK(stats.tokens == 3);
  CHECK(stats.experts_per_token() == 1);
  CHECK((stats.load[0] == 2 && stats.load[1] == 1));
  CHECK((stats.gate_mass[0] == 1.5 && stats.gate_mass[1] == 0.5));
}

TEST_CASE("RouteStats that have counted keep their number of experts", "[plan]") {
  const OwnedTable<float> two({{{1, 1.0f}}}, 2), three({{{2, 1.0f}}, {{2, 1.0f}}}, 3);
  const OwnedPlan<float> plan_two(two.table, moe::Dropless{}), plan_three(three.table, moe::Dropless{});
  RouteStats stats, fresh;
  stats.add(three.table, plan_three.plan, nullptr);
  const RouteStats before = stats;
  CHECK(test::message_of<moe::shape_error>([&] { stats.add(two.table, plan_two.plan, nullptr); }) ==
        "moe: statistics: expected 3 experts, as counted so far, got 2; clear() them first, or keep "
        "statistics for each layer");
  CHECK(same(stats, before));
  stats.clear();
  stats.add(two.table, plan_two.plan, nullptr);
  fresh.add(two.table, plan_two.plan, nullptr);
  CHECK(same(stats, fresh));
  // A row that was isolated, or chose nobody, is a count as well.
  for (Index RouteStats::*const count : {&RouteStats::spoiled, &RouteStats::tokens}) {
    RouteStats counted = with_load({0, 0});
    counted.*count = 1;
    CHECK_THROWS_AS(counted.require_experts(3), moe::shape_error);
  }
}

TEST_CASE("RouteStats: clear keeps the number of experts", "[plan]") {
  RouteStats stats = with_load({4, 5});
  stats.tokens = stats.dropped = stats.elided = stats.spoiled = 1;
  stats.gate_mass.fill(2.0);
  stats.clear();
  CHECK(same(stats, with_load({0, 0})));
}

TEST_CASE("RouteStats: merging", "[plan]") {
  RouteStats sum;
  const RouteStats nothing;
  sum.add(nothing);
  CHECK(sum.experts() == 0);
  RouteStats one = with_load({3, 1});
  one.tokens = 2;
  sum.add(one);  // an empty one takes over
  sum.add(nothing);
  CHECK(same(sum, one));
  const RouteStats other = with_load({3, 1, 0});
  CHECK(test::message_of<moe::shape_error>([&] { sum.add(other); }) ==
        "moe: statistics: expected 2 experts, as counted so far, got 3; clear() them first, or keep "
        "statistics for each layer");
  CHECK(same(sum, one));
}

TEST_CASE("RouteStats: imbalance of hand examples", "[plan]") {
  // Each formula is at most 16 roundings of numbers between 0.1 and 4.
  const auto near = [](double a, double b) { return std::abs(a - b) <= 16 * 0x1p-53 * b; };

  const RouteStats balanced = with_load({5, 5, 5, 5});
  CHECK(balanced.max_violation() == 0);
  CHECK(balanced.coefficient_of_variation() == 0);
  CHECK(near(balanced.entropy(), std::log(4.0)));

  const RouteStats collapsed = with_load({0, 12, 0, 0});
  CHECK(collapsed.max_violation() == 3);  // E - 1
  CHECK(near(collapsed.coefficient_of_variation(), std::sqrt(3.0)));
  CHECK(collapsed.entropy() == 0);

  const RouteStats skewed = with_load({3, 1, 0, 0});  // mean 1, squared deviations 4, 0, 1, 1
  CHECK(skewed.max_violation() == 2);
  CHECK(near(skewed.coefficient_of_variation(), std::sqrt(1.5)));
  CHECK(near(skewed.entropy(), 0.75 * std::log(4.0 / 3) + 0.25 * std::log(4.0)));

  for (const RouteStats& none : {with_load({0, 0}), RouteStats{}}) {
    CHECK(none.max_violation() == 0);
    CHECK(none.coefficient_of_variation() == 0);
    CHECK(none.entropy() == 0);
    CHECK(none.experts_per_token() == 0);
  }
}

}  // namespace

TEST_CASE("RouteStats of layers: each added to its own, refused as a whole, cleared", "[plan]") {
  RouteStats two;
  two.layers = {with_load({1, 2}), with_load({4})};
  RouteStats sum;
  sum.add(two);
  sum.add(two);
  REQUIRE(sum.layers.size() == 2);
  CHECK(same(sum.layers[0], with_load({2, 4})));
  CHECK(same(sum.layers[1], with_load({8})));
  CHECK(sum.load.empty());

  RouteStats other = two, three;
  other.layers[1] = with_load({4, 4});
  CHECK_THROWS_AS(sum.add(other), moe::shape_error);
  CHECK(same(sum.layers[0], with_load({2, 4})));  // nothing was added
  three.layers.resize(3);
  CHECK(test::message_of<moe::shape_error>([&] { sum.add(three); }) ==
        "moe: statistics: expected those of 2 layers, as counted so far, got 3; clear() them first, or keep "
        "statistics for each layer");
  sum.clear();
  CHECK(same(sum.layers[0], with_load({0, 0})));
  sum.add(three);
  CHECK(sum.layers.size() == 3);
}
