#include "moe/router/selection/table.hpp"

#include <cmath>
#include <vector>

#include "moe/router/hash_table.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/sqrt_softplus.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/router_laws.hpp"

namespace {

using moe::ExpertId;
using moe::Index;
using moe::TableSelection;
using Router =
    moe::TokenChoice<moe::LinearScorer<double>, moe::SqrtSoftplusScore, TableSelection, moe::GatherWeighting>;

/// Three experts of six for each of 50 ids: v, 5 v + 1 and 5 v + 3 modulo 6 differ.
moe::HashTable table() {
  std::vector<ExpertId> ids;
  for (const int shift : {0, 1, 3}) {
    for (int v = 0; v < 50; ++v) ids.push_back(static_cast<ExpertId>((v + shift) % 6));
  }
  return moe::HashTable::own(ids, 50, 6, 3);
}

Router make() {
  Router router(moe::LinearScorer<double>({.width = 4, .outputs = 6}), moe::SqrtSoftplusScore{},
                TableSelection(table()),
                moe::GatherWeighting({.normalise = moe::Normalise::sum_plus_eps, .scale = 1.5}));
  test::randomise(router, 2);
  return router;
}

}  // namespace

TEST_CASE("token ids choose, learned scores weigh", "[table_selection]") {
  STATIC_REQUIRE(moe::Selection<TableSelection>);
  auto router = make();
  auto gradients = router.make_gradients();
  const auto w = test::elements(router, gradients);
  const auto call = test::random_call<double>(30, 4, 3);
  const auto routed = test::route(router, call);
  for (Index t = 0; t < 30; ++t) {
    const int v = call.token_id[static_cast<std::size_t>(t)];
    const std::vector<ExpertId> expected{v % 6, (v + 1) % 6, (v + 3) % 6};
    REQUIRE(routed.experts_of(t) == expected);
    double score[3], sum = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      double logit = 0;
      for (std::size_t j = 0; j < 4; ++j) {
        logit += *w[static_cast<std::size_t>(expected[i]) * 4 + j].value *
                 call.x[static_cast<std::size_t>(t) * 4 + j];
      }
      score[i] = std::sqrt(std::log1p(std::exp(logit)));
      sum += score[i];
    }
    for (std::size_t i = 0; i < 3; ++i) {
      CHECK(std::abs(routed.weights_of(t)[i] - 1.5 * score[i] / sum) <= 1e-14);
    }
  }
}

TEST_CASE("table selection obeys the laws of routers and matches central differences", "[table_selection]") {
  auto router = make();
  test::check_router_laws(router);
  test::check_router_gradients(router, 5);
}

TEST_CASE("table selection refuses calls without usable token ids, or another K", "[table_selection]") {
  auto router = make();
  auto call = test::random_call<double>(3, 4, 3);
  call.token_id[1] = 50;
  CHECK_THROWS_AS(test::route(router, call), moe::route_error);
  call.token_id.clear();
  CHECK_THROWS_AS(test::route(router, call), moe::config_error);
  call = test::random_call<double>(3, 4, 3);
  call.options.experts_per_token = 2;
  CHECK_THROWS_AS(test::route(router, call), moe::config_error);
  CHECK_THROWS_AS(Router(moe::LinearScorer<double>({.width = 4, .outputs = 7}), moe::SqrtSoftplusScore{},
                         TableSelection(table()), moe::GatherWeighting{}),
                  moe::shape_error);
}
