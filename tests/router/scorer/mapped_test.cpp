#include "moe/router/scorer/mapped.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "moe/router/kind/token_choice.hpp"
#include "moe/router/runtime/any_logit_map.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/scorer/map/concept.hpp"
#include "moe/router/scorer/map/soft_cap.hpp"
#include "moe/router/scorer/map/spread.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/router_laws.hpp"

namespace {

using moe::AnyLogitMap;
using moe::Index;
using moe::LogitSpread;
using moe::SoftCap;
using Row = std::vector<double>;
using Scorer = moe::MappedScorer<moe::LinearScorer<double>, AnyLogitMap>;
using Router = moe::TokenChoice<Scorer, moe::Softmax, moe::TopKSelection, moe::GatherWeighting>;

Row mapped(const AnyLogitMap& map, Row row) {
  map.forward(row.data(), static_cast<Index>(row.size()));
  return row;
}

Router make(AnyLogitMap map) {
  Router router(Scorer(moe::LinearScorer<double>({.width = 5, .outputs = 7}), map), moe::Softmax{},
                moe::TopKSelection(3), moe::GatherWeighting{});
  test::randomise(router, 3, 4);
  return router;
}

}  // namespace

TEST_CASE("soft caps are cap tanh(h / cap)", "[logit_map]") {
  STATIC_REQUIRE(moe::LogitMap<SoftCap>);
  const Row row{-1e3, -31, -2, 0, 0.5, 29, 60};
  const Row got = mapped(SoftCap(30), row);
  for (std::size_t i = 0; i < row.size(); ++i) {
    const double want = 30 * std::tanh(row[i] / 30);
    CHECK(std::abs(got[i] - want) <= 16 * 0x1p-52 * std::abs(want));  // tanh 5 u, two products, its argument
  }
}

TEST_CASE("a spread divides by the standard deviation with divisor n - 1", "[logit_map]") {
  STATIC_REQUIRE(moe::LogitMap<LogitSpread>);
  const Row got = mapped(LogitSpread(1.5), {1, 2, 3, 6});  // mean 3, squares 4 + 1 + 0 + 9
  const double deviation = std::sqrt(14 / 3.0);
  for (std::size_t i = 0; i < 4; ++i) {
    const double want = std::vector<double>{1, 2, 3, 6}[i] * 1.5 / deviation;
    CHECK(std::abs(got[i] - want) <= 1e-15 * want);
  }
  CHECK(mapped(LogitSpread(2), {4, 4, 4}) == Row{4, 4, 4});
  CHECK(mapped(LogitSpread(2), {4}) == Row{4});
}

TEST_CASE("mapped logits obey the laws of routers and match central differences", "[logit_map]") {
  for (const AnyLogitMap& map : {AnyLogitMap(), AnyLogitMap(SoftCap(2)), AnyLogitMap(LogitSpread(1.5))}) {
    auto router = make(map);
    test::check_router_laws(router);
    test::check_router_gradients(router, 5);
  }
}

TEST_CASE("no map leaves the inner scorer's bits", "[logit_map]") {
  const auto with = make(AnyLogitMap());
  moe::TokenChoice<moe::LinearScorer<double>, moe::Softmax, moe::TopKSelection, moe::GatherWeighting> plain(
      moe::LinearScorer<double>({.width = 5, .outputs = 7}), moe::Softmax{}, moe::TopKSelection(3),
      moe::GatherWeighting{});
  test::randomise(plain, 3, 4);
  const auto call = test::random_call<double>(9, 5, 2);
  CHECK(test::same_route(test::route(with, call), test::route(plain, call)));
}

TEST_CASE("maps refuse numbers that are of no use", "[logit_map]") {
  for (const double bad : {0.0, -1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    CHECK_THROWS_AS(SoftCap(bad), moe::config_error);
    CHECK_THROWS_AS(LogitSpread(bad), moe::config_error);
  }
}
