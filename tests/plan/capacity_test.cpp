#include "moe/plan/capacity/dropless.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "moe/plan/capacity/any.hpp"
#include "moe/plan/capacity/fixed.hpp"
#include "moe/plan/capacity/heterogeneous.hpp"
#include "moe/plan/capacity/list.hpp"
#include "moe/plan/capacity/place_limit.hpp"
#include "moe/plan/concept.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/route_tables.hpp"

namespace {

using moe::CapacityOrder;
using moe::Coupling;
using moe::FixedCapacity;
using moe::Index;
using moe::Segments;
using Options = FixedCapacity::Options;
using Table = moe::RouteTable<float>;
using Keep = std::vector<bool>;

static_assert(moe::CapacityPolicy<moe::Dropless> && moe::CapacityPolicy<FixedCapacity>);
static_assert(moe::Dropless::coupling == Coupling::row_independent);
static_assert(FixedCapacity::coupling == Coupling::per_segment);

/// Runs a policy on exactly the memory it measured.
template <class Policy>
Keep kept(const Policy& policy, const Table& table, const Segments& segments = {}) {
  moe::Arena measuring;
  policy.measure(measuring, table.pairs(), table.experts);
  moe::Workspace workspace;
  moe::Arena arena = workspace.arena(measuring.bytes());
  moe::Buffer<bool> keep;
  keep.assign(table.pairs(), true);
  policy.limit(table, segments, keep.data(), arena);
  return Keep(keep.begin(), keep.end());
}

constexpr CapacityOrder kOrders[] = {CapacityOrder::first_choices_first, CapacityOrder::best_score_first,
                                     CapacityOrder::best_rows_first, CapacityOrder::position,
                                     CapacityOrder::random_rows_first};

float best_weight(const Table& table, Index t) {
  float best = table.weight[table.offsets[t]];
  for (Index p = table.offsets[t]; p < table.offsets[t + 1]; ++p) best = std::max(best, table.weight[p]);
  return best;
}

/// The rule as a rank: a pair keeps its place if fewer than C pairs of its segment and expert come before it.
Keep expected(const FixedCapacity& policy, CapacityOrder order, const Table& table,
              const Segments& segments) {
  Keep keep(static_cast<std::size_t>(table.pairs()));
  for (Index s = 0; s < segments.count(table.tokens); ++s) {
    const Index first = segments.begin(s), last = segments.end(s, table.tokens);
    const Index capacity = policy.of(table.offsets[last] - table.offsets[first], table.experts);
    const auto comes_before = [&](Index ta, Index pa, Index tb, Index pb) {
      if (order == CapacityOrder::best_score_first) {
        return table.weight[pa] != table.weight[pb] ? table.weight[pa] > table.weight[pb] : ta < tb;
      }
      if (order == CapacityOrder::position) return ta < tb;
      const Index rank_a = pa - table.offsets[ta], rank_b = pb - table.offsets[tb];
      if (rank_a != rank_b) return rank_a < rank_b;
      if (order == CapacityOrder::random_rows_first) return table.draws.bits(ta) < table.draws.bits(tb);
      const float best_a = best_weight(table, ta), best_b = best_weight(table, tb);
      return order == CapacityOrder::best_rows_first && best_a != best_b ? best_a > best_b : ta < tb;
    };
    for (Index t = first; t < last; ++t) {
      for (Index p = table.offsets[t]; p < table.offsets[t + 1]; ++p) {
        Index before = 0;
        for (Index other = first; other < last; ++other) {
          for (Index q = table.offsets[other]; q < table.offsets[other + 1]; ++q) {
            before += table.expert[q] == table.expert[p] && comes_before(other, q, t, p);
          }
        }
        keep[static_cast<std::size_t>(p)] = before < capacity;
      }
    }
  }
  return keep;
}

TEST_CASE("a listed capacity behind AnyCapacity keeps what it keeps alone", "[plan]") {
  static_assert(moe::CapacityPolicy<moe::AnyCapacity> && moe::AnyCapacity::coupling == Coupling::per_segment);
  static_assert(moe::Capacities::kSize == 3);  // each is compared below
  std::mt19937 random(3);
  const test::OwnedTable<float> owner(test::random_choices<float>(random, 30, 4, 3), 4);
  const auto check = [&](const auto& policy, const std::string& name) {
    const moe::AnyCapacity any = policy;
    CHECK(kept(any, owner.table) == kept(policy, owner.table));
    CHECK(any.name() == name);
  };
  check(moe::Dropless{}, "dropless");
  check(FixedCapacity(Options{.factor = 0.5}), "fixed");
  check(moe::HeterogeneousCapacity({.ffn = 2, .factor = 0.5}), "heterogeneous");
}

TEST_CASE("Dropless keeps everything", "[plan]") {
  std::mt19937 random(1);
  const test::OwnedTable<float> owner(test::random_choices<float>(random, 20, 4, 4), 4);
  CHECK(kept(moe::Dropless{}, owner.table) == Keep(static_cast<std::size_t>(owner.table.pairs()), true));
}

TEST_CASE("FixedCapacity: GShard's example", "[plan]") {
  // Four tokens prefer expert 0, then 1; two places each. Tokens 0 and 1 fill both experts, 2 and 3 go
  // nowhere.
  const test::OwnedTable<float> owner({4, {{0, 0.75f}, {1, 0.25f}}}, 2);
  const FixedCapacity policy(Options{.tokens_per_expert = 2});
  CHECK(kept(policy, owner.table) == Keep{true, true, true, true, false, false, false, false});
  const FixedCapacity by_factor(Options{.factor = 0.5});  // ceil(0.5 * 8 / 2) = 2
  CHECK(kept(by_factor, owner.table) == Keep{true, true, true, true, false, false, false, false});
}

TEST_CASE("FixedCapacity: a second choice yields to every first choice", "[plan]") {
  // Token 0 names expert 1 second; tokens 1 and 2 name it first and come later.
  const test::OwnedTable<float> owner({{{0, 0.5f}, {1, 0.5f}}, {{1, 1.0f}}, {{1, 1.0f}}}, 2);
  CHECK(kept(FixedCapacity(Options{.tokens_per_expert = 2}), owner.table) == Keep{true, false, true, true});
}

TEST_CASE("FixedCapacity: by score, an expert keeps its highest weights", "[plan]") {
  const test::OwnedTable<float> owner({{{0, 0.25f}}, {{0, 0.75f}}, {{0, 0.5f}}, {{0, 1.0f}}}, 1);
  const auto policy = [](Index c, CapacityOrder order) {
    return FixedCapacity(Options{.tokens_per_expert = c, .order = order});
  };
  CHECK(kept(policy(2, CapacityOrder::best_score_first), owner.table) == Keep{false, true, false, true});
  CHECK(kept(policy(2, CapacityOrder::first_choices_first), owner.table) == Keep{true, true, false, false});
  // Equal weights: the lower token.
  const test::OwnedTable<float> ties({4, {{0, 0.5f}}}, 1);
  CHECK(kept(policy(3, CapacityOrder::best_score_first), ties.table) == Keep{true, true, true, false});
}

TEST_CASE("FixedCapacity: batch priority keeps the rows that are surest, position the first", "[plan]") {
  const test::OwnedTable<float> owner({{{0, 0.25f}, {1, 0.125f}},
                                       {{1, 0.75f}, {0, 0.25f}},
                                       {{0, 0.5f}, {1, 0.375f}},
                                       {{1, 0.625f}, {0, 0.375f}}},
                                      2);
  const auto policy = [](CapacityOrder order) {
    return FixedCapacity(Options{.tokens_per_expert = 2, .order = order});
  };
  // Rows 1, 3, 2, 0. Expert 0: first choices of rows 2 and 0; expert 1: of rows 1 and 3.
  CHECK(kept(policy(CapacityOrder::best_rows_first), owner.table) ==
        Keep{true, false, true, false, true, false, true, false});
  CHECK(kept(policy(CapacityOrder::position), owner.table) ==
        Keep{true, true, true, true, false, false, false, false});
  // One choice each: the C most probable, whatever their places.
  const test::OwnedTable<float> single({{{0, 0.25f}}, {{0, 0.75f}}, {{0, 0.5f}}, {{0, 0.875f}}}, 1);
  CHECK(kept(policy(CapacityOrder::best_rows_first), single.table) == Keep{false, true, false, true});
  CHECK(kept(policy(CapacityOrder::position), single.table) == Keep{true, true, false, false});
}

TEST_CASE("FixedCapacity: random rows first keeps the same rows in any order, by seed and step", "[plan]") {
  const FixedCapacity policy(Options{.tokens_per_expert = 10, .order = CapacityOrder::random_rows_first});
  test::OwnedTable<float> owner(test::Choices<float>(40, {{0, 0.5f}}), 1);
  std::vector<std::uint64_t> key;
  for (std::uint64_t t = 0; t < 40; ++t) key.push_back(100 + t);
  owner.table.draws = {.key = moe::DrawKey{3, 5}, .row_key = key};
  const Keep first = kept(policy, owner.table);
  owner.table.draws.key.reset();
  CHECK_THROWS_AS(kept(policy, owner.table), moe::config_error);
  owner.table.draws.key = moe::DrawKey{3, 5};
  CHECK(std::count(first.begin(), first.end(), true) == 10);
  CHECK(std::find(first.begin() + 10, first.end(), true) != first.end());
  std::reverse(key.begin(), key.end());
  CHECK(kept(policy, owner.table) == Keep(first.rbegin(), first.rend()));
  std::reverse(key.begin(), key.end());
  owner.table.draws.key->call = 6;
  CHECK(kept(policy, owner.table) != first);
}

TEST_CASE("FixedCapacity: random tables against the rule", "[plan]") {
  const CapacityOrder order = GENERATE(from_range(std::begin(kOrders), std::end(kOrders)));
  std::mt19937 random(3);
  Index dropped = 0, whole = 0;
  for (int round = 0; round < 150; ++round) {
    const Index tokens = static_cast<Index>(random() % 25), experts = 1 + static_cast<Index>(random() % 6);
    test::OwnedTable<float> owner(test::random_choices<float>(random, tokens, experts, experts), experts);
    owner.table.draws.key = moe::DrawKey{};
    Options options{.order = order};
    if (round % 2 == 0) {
      options.tokens_per_expert = 1 + static_cast<Index>(random() % 6);
    } else {
      options.factor = static_cast<double>(1 + random() % 16) / 8;
      options.minimum = 1 + static_cast<Index>(random() % 2);
    }
    const FixedCapacity policy(options);
    std::vector<Index> offsets = {0};
    while (offsets.back() < tokens) {
      offsets.push_back(std::min(tokens, offsets.back() + static_cast<Index>(random() % 9)));
    }
    const Segments segments = round % 3 == 0 ? Segments() : Segments(offsets);
    const Keep keep = kept(policy, owner.table, segments);
    CAPTURE(round, tokens, experts);
    CHECK(keep == expected(policy, order, owner.table, segments));
    const auto gone = std::count(keep.begin(), keep.end(), false);
    dropped += gone;
    whole += gone == 0;
  }
  CHECK(dropped > 100);  // the cases are not all easy
  CHECK(whole > 10);
}

TEST_CASE("FixedCapacity: a segment is treated as if it were alone", "[plan]") {
  // A draw is keyed by the row, whose key is its position here.
  const CapacityOrder order =
      GENERATE(filter([](CapacityOrder o) { return o != CapacityOrder::random_rows_first; },
                      from_range(std::begin(kOrders), std::end(kOrders))));
  std::mt19937 random(5);
  const auto first = test::random_choices<float>(random, 9, 3, 3),
             second = test::random_choices<float>(random, 6, 3, 3);
  test::Choices<float> both = first;
  both.insert(both.end(), second.begin(), second.end());
  const FixedCapacity policy(Options{.factor = 0.75, .order = order});
  const std::array<Index, 3> offsets = {0, 9, 15};
  Keep apart = kept(policy, test::OwnedTable<float>(first, 3).table);
  const Keep alone = kept(policy, test::OwnedTable<float>(second, 3).table);
  apart.insert(apart.end(), alone.begin(), alone.end());
  CHECK(kept(policy, test::OwnedTable<float>(both, 3).table, Segments(offsets)) == apart);
}

TEST_CASE("FixedCapacity beyond the tokens drops nothing", "[plan]") {
  std::mt19937 random(7);
  test::OwnedTable<float> owner(test::random_choices<float>(random, 30, 5, 5), 5);
  owner.table.draws.key = moe::DrawKey{};
  const Keep all(static_cast<std::size_t>(owner.table.pairs()), true);
  for (const CapacityOrder order : kOrders) {
    CHECK(kept(FixedCapacity(Options{.tokens_per_expert = 30, .order = order}), owner.table) == all);
    CHECK(kept(FixedCapacity(Options{.tokens_per_expert = PTRDIFF_MAX, .order = order}), owner.table) == all);
    CHECK(kept(FixedCapacity(Options{.factor = 1e9, .order = order}), owner.table) == all);
    CHECK(kept(FixedCapacity(Options{.factor = 1e-9, .minimum = PTRDIFF_MAX, .order = order}), owner.table) ==
          all);
  }
}

TEST_CASE("FixedCapacity with choices: C = K floor(factor ceil(T / E)), as in Tutel", "[plan]") {
  for (Index tokens = 1; tokens < 30; ++tokens) {
    for (Index k = 1; k <= 3; ++k) {
      for (int eighths = 1; eighths < 20; ++eighths) {
        const Index experts = 4, per_expert = (tokens + experts - 1) / experts;
        const FixedCapacity policy(Options{.factor = static_cast<double>(eighths) / 8, .choices = k});
        const Index want = k * (eighths * per_expert / 8);
        CHECK(policy.of(tokens * k, experts) == (want < 1 ? 1 : want));
      }
    }
  }
}

TEST_CASE("FixedCapacity with choices refuses a call with more", "[plan]") {
  std::mt19937 random(1);
  const test::OwnedTable<float> owner(test::random_choices<float>(random, 20, 4, 4), 4);
  CHECK_NOTHROW(kept(FixedCapacity(Options{.factor = 1, .choices = 4}), owner.table));
  CHECK_THROWS_AS(kept(FixedCapacity(Options{.factor = 1, .choices = 2}), owner.table), moe::config_error);
}

TEST_CASE("FixedCapacity: C = ceil(factor * P / E), at least the minimum", "[plan]") {
  for (Index eighths = 1; eighths < 40; eighths += 3) {
    for (Index pairs = 0; pairs < 60; ++pairs) {
      for (const Index experts : {1, 2, 3, 7, 8, 64}) {
        const FixedCapacity policy(Options{.factor = static_cast<double>(eighths) / 8, .minimum = 2});
        const Index c = moe::ceil_div(eighths * pairs, 8 * experts);
        CAPTURE(eighths, pairs, experts);
        CHECK(policy.of(pairs, experts) == (c < 2 ? 2 : c));
      }
    }
  }
  CHECK(FixedCapacity(Options{.tokens_per_expert = 5}).of(1000, 2) == 5);
  CHECK(FixedCapacity(Options{.factor = 1e9}).of(PTRDIFF_MAX, 1) > 0);
}

TEST_CASE("FixedCapacity: options out of range", "[plan]") {
  const auto message = [](Options options) {
    return test::message_of<moe::config_error>([&] { FixedCapacity policy(options); });
  };
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInf = std::numeric_limits<double>::infinity();
  CHECK(message({}) ==
        "moe: capacity: expected tokens_per_expert >= 1 or a factor > 0, got tokens_per_expert 0");
  CHECK(message({.factor = -0.0}) ==
        "moe: capacity: expected tokens_per_expert >= 1 or a factor > 0, got tokens_per_expert 0");
  CHECK(message({.tokens_per_expert = -2, .factor = 1}) ==
        "moe: capacity: expected tokens_per_expert >= 1 or a factor > 0, got tokens_per_expert -2");
  CHECK(message({.factor = -1.5}) == "moe: capacity factor: expected a value in (0, 1e9], got -1.5");
  CHECK(message({.factor = kInf}) == "moe: capacity factor: expected a value in (0, 1e9], got inf");
  CHECK(message({.factor = 2e9}) == "moe: capacity factor: expected a value in (0, 1e9], got 2e+09");
  CHECK(message({.factor = kNan}).rfind("moe: capacity factor: expected a value in (0, 1e9], got ", 0) == 0);
  CHECK(message({.tokens_per_expert = 4, .factor = kNan}) != "nothing thrown");
  CHECK(message({.tokens_per_expert = 4, .factor = 1.25}) ==
        "moe: capacity: expected tokens_per_expert or a factor, got both: 4 and 1.25");
  CHECK(message({.factor = 1, .minimum = 0}) ==
        "moe: minimum capacity: expected a value in [1, 9223372036854775807], got 0");
}

}  // namespace
