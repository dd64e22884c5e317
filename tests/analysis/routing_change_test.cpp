#include "moe/analysis/routing_change.hpp"

#include <cmath>
#include <vector>

#include "support/catch.hpp"
#include "support/router_call.hpp"

namespace {

using moe::ExpertId;
using moe::Index;
using moe::RouteRecord;

RouteRecord record(const std::vector<std::vector<ExpertId>>& routes, Index experts = 4) {
  test::OwnedTable<float> table(static_cast<Index>(routes.size()), experts, 20);
  for (std::size_t t = 0; t < routes.size(); ++t) {
    (*table).begin_token(static_cast<Index>(t));
    for (const ExpertId e : routes[t]) (*table).push(static_cast<Index>(t), e, 1);
  }
  return RouteRecord(*table);
}

}  // namespace

TEST_CASE("saturation is against the final checkpoint, change rate between neighbours, by hand",
          "[analysis]") {
  const RouteRecord first = record({{0, 1}, {2, 3}, {0, 2}}), second = record({{1, 2}, {2, 3}, {1, 3}}),
                    last = record({{1, 2}, {3, 2}, {3, 0}});
  CHECK(std::abs(moe::route_saturation(first, last) - (0.5 + 1 + 0.5) / 3) < 1e-15);
  CHECK(std::abs(moe::route_saturation(second, last) - (1 + 1 + 0.5) / 3) < 1e-15);
  CHECK(moe::route_saturation(last, last) == 1);
  CHECK(std::abs(moe::route_change_rate(first, second) - (0.5 + 0 + 1) / 3) < 1e-15);
  CHECK(std::abs(moe::route_change_rate(second, last) - 0.5 / 3) < 1e-15);
  CHECK(moe::route_change_rate(last, last) == 0);
}

TEST_CASE("utilisation is 1 where all experts are used alike and 0 where one is alone", "[analysis]") {
  CHECK(std::abs(moe::expert_utilisation(record({{0, 1}, {2, 3}})) - 1) < 1e-15);
  CHECK(moe::expert_utilisation(record({{2}, {2}})) == 0);
  CHECK(std::abs(moe::expert_utilisation(record({{0, 1}, {1, 0}})) - 0.5) < 1e-15);
  CHECK(moe::expert_utilisation(record({{0}}, 1)) == 1);
  CHECK(moe::expert_utilisation(record({{}})) == 0);
}

TEST_CASE("tokens without experts do not count; records of different batches are refused", "[analysis]") {
  CHECK(moe::route_saturation(record({{0}, {1}}), record({{0}, {}})) == 1);
  CHECK(moe::route_saturation(record({{0}}), record({{}})) == 0);
  CHECK(moe::route_change_rate(record({{0}}), record({{}})) == 0);
  CHECK(moe::route_change_rate(record({}), record({})) == 0);
  CHECK_THROWS_WITH(moe::route_change_rate(record({{0}}), record({{0}, {1}})),
                    "moe: route record: expected 2 tokens, got 1");
  CHECK_THROWS_AS(moe::route_saturation(record({{0}}, 4), record({{0}}, 5)), moe::shape_error);
}
