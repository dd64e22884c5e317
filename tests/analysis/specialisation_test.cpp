#include "moe/analysis/specialisation.hpp"

#include <cmath>
#include <vector>

#include "moe/plan/capacity/fixed.hpp"
#include "moe/router/named/open_moe.hpp"
#include "support/catch.hpp"
#include "support/router_laws.hpp"

namespace {

using moe::CapacityOrder;
using moe::DropsByPosition;
using moe::ExpertId;
using moe::ExpertsByKey;
using moe::Index;
using Keys = std::vector<std::int32_t>;
using Routes = std::vector<std::vector<ExpertId>>;

moe::RouteRecord record(const Routes& routes, Index experts) {
  test::OwnedTable<float> table(static_cast<Index>(routes.size()), experts, 100);
  for (std::size_t t = 0; t < routes.size(); ++t) {
    (*table).begin_token(static_cast<Index>(t));
    for (const ExpertId e : routes[t]) (*table).push(static_cast<Index>(t), e, 1);
  }
  return moe::RouteRecord(*table);
}

/// Drops of a table under a capacity.
template <class Real>
void add_drops(DropsByPosition& drops, const moe::RouteTable<Real>& table, const moe::FixedCapacity& capacity,
               const moe::Segments& segments) {
  moe::Arena measuring;
  moe::DispatchPlan<Real>::carve(measuring, table.tokens, table.experts, table.pairs());
  moe::measure_plan(measuring, capacity, table.pairs(), table.experts);
  moe::Workspace workspace;
  moe::Arena arena = workspace.arena(measuring.bytes());
  auto plan = moe::DispatchPlan<Real>::carve(arena, table.tokens, table.experts, table.pairs());
  moe::build_plan(table, capacity, segments, plan, arena);
  drops.add(table, plan, segments);
}

}  // namespace

TEST_CASE("experts by token id, by hand", "[analysis]") {
  ExpertsByKey by_id(3, 2);
  by_id.add(record({{0, 1}, {0}, {1}, {}}, 2), Keys{1, 1, 2, 99});
  CHECK(by_id.count(1, 0) == 2);
  CHECK(by_id.count(1, 1) == 1);
  CHECK(by_id.share(2, 1) == 1);
  CHECK(by_id.share(0, 1) == 0);
  // H(expert) = ln 2; given the id: 3 of 4 pairs have shares 2/3 and 1/3.
  const double left = -0.75 * (2.0 / 3 * std::log(2.0 / 3) + 1.0 / 3 * std::log(1.0 / 3));
  CHECK(std::abs(by_id.specialisation() - (1 - left / std::log(2.0))) < 1e-15);
}

TEST_CASE("specialisation is 1 where the id decides, 0 where it tells nothing", "[analysis]") {
  ExpertsByKey decides(4, 4), nothing(2, 3);
  decides.add(record({{0}, {2}, {0}, {3}, {1}}, 4), Keys{3, 0, 3, 1, 2});
  CHECK(decides.specialisation() == 1);
  nothing.add(record({{0, 1}, {2}, {1, 0}, {2}}, 3), Keys{0, 0, 1, 1});
  CHECK(std::abs(nothing.specialisation()) < 1e-15);
  ExpertsByKey alone(2, 3);
  alone.add(record({{1}, {1}}, 3), Keys{0, 1});
  CHECK(alone.specialisation() == 1);
}

TEST_CASE("drops in order grow with the position, drops by score do not", "[analysis]") {
  // Random routes with a taste for few experts: every sequence of 64 overflows some.
  constexpr Index kLength = 64, kQuarter = 16;
  auto router = moe::open_moe<double>({.width = 6, .experts = 8});
  test::randomise(router, 4, 2);
  DropsByPosition in_order(kLength), by_score(kLength);
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    auto call = test::random_call<double>(4 * kLength, 6, seed);
    test::OwnedTable<double> table(router, call.shape());
    const moe::Segments segments = moe::Segments::uniform(kLength);
    moe::SoftmaxTopK<double>::Tape tape;
    static_cast<void>(test::route_train(router, call, table, tape));
    add_drops(in_order, *table, moe::open_moe_capacity(true), segments);
    add_drops(by_score, *table,
              moe::FixedCapacity({.factor = 1.25, .order = CapacityOrder::best_score_first}), segments);
  }
  const auto quarter = [&](const DropsByPosition& drops, Index q) {
    double sum = 0;
    for (Index p = q * kQuarter; p < (q + 1) * kQuarter; ++p) sum += drops.rate(p) / kQuarter;
    return sum;
  };
  CHECK(quarter(in_order, 0) < quarter(in_order, 1));
  CHECK(quarter(in_order, 1) < quarter(in_order, 2));
  CHECK(quarter(in_order, 2) < quarter(in_order, 3));
  CHECK(quarter(in_order, 3) > 2 * quarter(in_order, 0));
  CHECK(quarter(by_score, 0) > 0);
  for (const Index q : {1, 2, 3}) CHECK(std::abs(quarter(by_score, q) - quarter(by_score, 0)) < 0.05);
  CHECK(in_order.routed(5) == 12 * 4 * 2);
}

TEST_CASE("positions in segments; those beyond count as the last", "[analysis]") {
  Keys position(5);
  const std::vector<Index> offsets{0, 2, 2, 5};
  const moe::Segments segments((std::span<const Index>(offsets)));
  moe::positions_in_segments(segments, position);
  CHECK(position == Keys{0, 1, 0, 1, 2});
  test::OwnedTable<float> table(5, 2, 10);
  for (Index t = 0; t < 5; ++t) {
    (*table).begin_token(t);
    (*table).push(t, 0, 1);
  }
  DropsByPosition drops(2);
  add_drops(drops, *table, moe::FixedCapacity({.tokens_per_expert = 1}), segments);
  CHECK((drops.routed(0) == 2 && drops.dropped(0) == 0));
  CHECK((drops.routed(1) == 3 && drops.dropped(1) == 3));
  CHECK(drops.rate(1) == 1);
}

TEST_CASE("counts of other sizes and keys that are not there are refused", "[analysis]") {
  CHECK_THROWS_AS(ExpertsByKey(0, 2), moe::config_error);
  CHECK_THROWS_AS(ExpertsByKey(2, 0), moe::config_error);
  CHECK_THROWS_AS(DropsByPosition(0), moe::config_error);
  ExpertsByKey counts(2, 2);
  CHECK_THROWS_AS(counts.add(record({{0}}, 2), Keys{0, 1}), moe::shape_error);
  CHECK_THROWS_AS(counts.add(record({{0}}, 3), Keys{0}), moe::shape_error);
  CHECK_THROWS_WITH(counts.add(record({{0}, {1}}, 2), Keys{0, 2}),
                    "moe: keys: expected keys in [0, 2), got 2 for token 1");
  CHECK(counts.count(0, 0) == 0);
  Keys position(3);
  CHECK_THROWS_AS(moe::positions_in_segments(moe::Segments::uniform(2), position), moe::shape_error);
}
