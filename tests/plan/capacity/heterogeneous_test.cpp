#include "moe/plan/capacity/heterogeneous.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "moe/core/random.hpp"
#include "moe/plan/capacity/fixed.hpp"
#include "moe/plan/capacity/place_limit.hpp"
#include "moe/plan/concept.hpp"
#include "support/catch.hpp"

using moe::CapacityOrder;
using moe::HeterogeneousCapacity;
using moe::Index;

namespace {

/// Random tables of T tokens, 0 to 3 different experts of E each.
struct Table {
  moe::Workspace memory;
  moe::RouteTable<double> routes;

  Table(Index tokens, Index experts, std::uint64_t seed) {
    moe::Arena measuring;
    moe::RouteTable<double>::carve(measuring, tokens, experts, 3 * tokens);
    moe::Arena arena = memory.arena(measuring.bytes());
    routes = moe::RouteTable<double>::carve(arena, tokens, experts, 3 * tokens);
    const moe::KeyedRandom draw(seed, 0, moe::DrawStream::user);
    for (Index t = 0; t < tokens; ++t) {
      const auto row = static_cast<std::uint64_t>(t);
      routes.begin_token(t);
      const std::uint64_t first = draw.bits(row, 0) % static_cast<std::uint64_t>(experts);
      for (std::uint64_t i = 0; i < draw.bits(row, 1) % 4; ++i) {
        routes.push(t, static_cast<moe::ExpertId>((first + i * i) % static_cast<std::uint64_t>(experts)),
                    draw.uniform(row, static_cast<std::uint32_t>(2 + i)));
      }
    }
  }
};

template <class Capacity>
std::vector<bool> kept(const Capacity& capacity, const moe::RouteTable<double>& routes,
                       const moe::Segments& segments) {
  moe::Arena measuring;
  capacity.measure(measuring, routes.pairs(), routes.experts);
  moe::Workspace memory;
  moe::Arena arena = memory.arena(measuring.bytes());
  moe::Buffer<bool> keep;
  keep.assign(routes.pairs(), true);
  capacity.limit(routes, segments, keep.data(), arena);
  return std::vector<bool>(keep.begin(), keep.end());
}

}  // namespace

TEST_CASE("places of feed-forward and zero-computation experts, by hand", "[plan]") {
  STATIC_REQUIRE(moe::CapacityPolicy<HeterogeneousCapacity>);
  const HeterogeneousCapacity capacity({.ffn = 8, .tau = 0.75, .factor = 1});
  CHECK(capacity.of(100, 0, 12) == 8);  // ceil(0.75 * 100 / (0.75 * 8 + 4)) = ceil(7.5)
  CHECK(capacity.of(100, 7, 12) == 8);
  CHECK(capacity.of(100, 8, 12) == 10);
  CHECK(capacity.of(100, 11, 12) == 10);
  CHECK(capacity.of(0, 0, 12) == 1);
}

TEST_CASE("the first places of each kind are kept", "[plan]") {
  Table table(40, 5, 3);
  const HeterogeneousCapacity capacity({.ffn = 3, .tau = 0.3, .factor = 0.6});
  const Index ends[] = {0, 25, 40};
  const moe::Segments segments{std::span<const Index>(ends)};
  const std::vector<bool> actual = kept(capacity, table.routes, segments);
  std::vector<bool> expected(static_cast<std::size_t>(table.routes.pairs()), false);
  for (int s = 0; s < 2; ++s) {
    const Index pairs = table.routes.offsets[ends[s + 1]] - table.routes.offsets[ends[s]];
    std::vector<double> left;
    for (Index e = 0; e < 5; ++e) {
      left.push_back(std::ceil(0.6 * (e < 3 ? 0.3 : 1.0) * static_cast<double>(pairs) / (0.3 * 3 + 2)));
    }
    for (Index rank = 0; rank < 3; ++rank) {
      for (Index t = ends[s]; t < ends[s + 1]; ++t) {
        if (rank >= table.routes.count(t)) continue;
        const Index p = table.routes.offsets[t] + rank;
        if (left[static_cast<std::size_t>(table.routes.expert[p])]-- > 0)
          expected[static_cast<std::size_t>(p)] = true;
      }
    }
  }
  CHECK(actual == expected);
  CHECK(std::count(actual.begin(), actual.end(), false) > 0);
}

TEST_CASE("with tau = 1 both kinds have the places of a fixed capacity", "[plan]") {
  for (const CapacityOrder order : {CapacityOrder::first_choices_first, CapacityOrder::best_score_first}) {
    Table table(60, 7, 5);
    const auto heterogeneous =
        kept(HeterogeneousCapacity({.ffn = 4, .tau = 1, .factor = 0.8, .order = order}), table.routes,
             moe::Segments{});
    CHECK(heterogeneous ==
          kept(moe::FixedCapacity({.factor = 0.8, .order = order}), table.routes, moe::Segments{}));
    CHECK(std::count(heterogeneous.begin(), heterogeneous.end(), false) > 0);
  }
}

TEST_CASE("a bank of feed-forward experts only", "[plan]") {
  const HeterogeneousCapacity capacity({.ffn = 8, .tau = 0.5, .factor = 1});
  CHECK(capacity.of(12, 2, 4) == 3);  // more than there are counts as all
}

TEST_CASE("options of the heterogeneous capacity are checked", "[plan]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(HeterogeneousCapacity({.ffn = 0}), moe::config_error);
  for (const double bad : {0.0, -1.0, nan, 1e10}) {
    CHECK_THROWS_AS(HeterogeneousCapacity({.ffn = 1, .tau = bad}), moe::config_error);
    CHECK_THROWS_AS(HeterogeneousCapacity({.ffn = 1, .factor = bad}), moe::config_error);
  }
}
