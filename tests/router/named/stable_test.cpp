#include "moe/router/named/stable.hpp"

#include <cmath>

#include "moe/router/balance/distillation.hpp"
#include "moe/router/balance/first_stage.hpp"
#include "moe/router/balance/overload.hpp"
#include "moe/router/scorer/distilled.hpp"
#include "support/balance_case.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

namespace {

using moe::ExpertId;
using moe::Index;
using test::near;

moe::StableRouter<double> router_of(Index first_stage) {
  auto router = moe::stable_router<double>({.width = 4,
                                            .experts = 5,
                                            .vocabulary = 50,
                                            .embedding = 3,
                                            .first_stage = first_stage,
                                            .overload = 0.4,
                                            .distillation = 0.6});
  test::randomise(router, 3);
  return router;
}

// Where the small router routes, a mask may hide its choice. A row of zeros goes where the id says.
const test::RouterCases kCases{
    {"StableRouter, first stage",
     [] { return router_of(10); },
     {.laws = {.masks = false, .parameters = false}, .ties = false}},
    {"StableRouter, second stage",
     [] { return router_of(0); },
     {.laws = {.masks = false, .parameters = false}, .ties = false, .losses = false}},
};

moe::RouteStats step_of(Index tokens) {
  moe::RouteStats stats;
  stats.tokens = tokens;
  stats.load.assign(5, 1);
  return stats;
}

ExpertId distilled(const moe::StableRouter<double>& router, moe::TokenId id) {
  test::Vector score;
  for (Index e = 0; e < 5; ++e) score.push_back(router.scorer().distilled_score(id, e));
  return test::best(score, 1)[0];
}

}  // namespace

TEST_CASE("in the second stage, and in inference, the route is a function of the token id", "[stable]") {
  for (const bool second : {false, true}) {
    auto router = router_of(second ? 0 : 10);
    auto call = test::random_call<double>(40, 4, 1);
    call.training = second;
    const auto routed = test::route(router, call);
    const test::Matrix logit = test::linear(test::parameter(router, "gate.weight"), call);
    for (std::size_t t = 0; t < 40; ++t) {
      const ExpertId e = distilled(router, call.token_id[t]);
      // The gate stays the live one.
      const double gate = 1 / (1 + std::exp(-logit[t][static_cast<std::size_t>(e)]));
      test::check_pairs(routed, static_cast<Index>(t), {e}, {gate});
    }
    test::set_parameter(router, "gate.weight", test::Matrix(5, test::Vector(4, 0.25)));
    CHECK(test::route(router, call).expert == routed.expert);
  }
}

TEST_CASE("in the first stage training follows the gate and teaches the small router", "[stable]") {
  auto router = router_of(10);
  auto call = test::random_call<double>(40, 4, 1);
  call.training = true;
  const auto routed = test::route(router, call);
  const test::Matrix logit = test::linear(test::parameter(router, "gate.weight"), call);
  const test::Matrix table = test::parameter(router, "routing_embedding");
  double overload = 0, distillation = 0;
  const test::Vector count = test::counts(
      [&] {
        std::vector<std::vector<ExpertId>> chosen;
        for (Index t = 0; t < 40; ++t) chosen.push_back(routed.experts_of(t));
        return chosen;
      }(),
      5);
  for (std::size_t t = 0; t < 40; ++t) {
    const ExpertId e = test::best(logit[t], 1)[0];
    const auto chosen = static_cast<std::size_t>(e);
    const double gate = 1 / (1 + std::exp(-logit[t][chosen]));
    test::check_pairs(routed, static_cast<Index>(t), {e}, {gate});
    overload += (count[chosen] - 8) / 8 * gate / 40;
    test::Vector score;
    for (const auto& centroid : test::parameter(router, "routing_centroids")) {
      score.push_back(0);
      for (std::size_t j = 0; j < 3; ++j)
        score.back() += centroid[j] * table[static_cast<std::size_t>(call.token_id[t])][j];
    }
    distillation -= std::log(test::softmax(score)[chosen]) / 40;
  }
  CHECK(near(test::loss_of(routed, "overload"), 0.4 * overload));
  CHECK(near(test::loss_of(routed, "route_distillation"), 0.6 * distillation));
}

TEST_CASE("the second stage begins after the steps that were asked for, is saved, and trains the gate only",
          "[stable]") {
  auto router = router_of(2);
  CHECK(router.scorer().first_stage());
  router.on_step_end(step_of(0));  // not a step
  router.on_step_end(step_of(5));
  CHECK(router.scorer().first_stage());
  const auto saved = test::save_state(router);
  router.on_step_end(step_of(5));
  CHECK(!router.scorer().first_stage());
  auto call = test::random_call<double>(20, 4, 1);
  call.training = true;
  const auto routed = test::route(router, call);
  for (const double loss : routed.losses) CHECK(loss == 0);
  moe::StableRouter<double>::Tape tape;
  test::OwnedTable<double> table(router, call.shape());
  test::route_train(router, call, table, tape);
  auto gradients = router.make_gradients();
  test::backward(router, call, table, tape, std::vector<double>(20, 1), 1, &gradients);
  bool any = false;
  for (const auto& element : test::elements(router, gradients)) {
    const bool gate = element.name.starts_with("gate.weight");
    any = any || (gate && *element.gradient != 0);
    CHECK((gate || *element.gradient == 0));
  }
  CHECK(any);
  const auto later = test::save_state(router);
  test::load_state(router, saved);
  CHECK(router.scorer().first_stage());
  test::load_state(router, later);
  CHECK(!router.scorer().first_stage());
  CHECK_THROWS_AS(test::load_state(router, {{"routing_steps", {-1}}}), moe::numeric_error);
}

TEST_CASE(
    "distillation costs nothing where the small router is sure of the same, and balance where loads are even",
    "[stable]") {
  auto router = moe::stable_router<double>(
      {.width = 2, .experts = 2, .vocabulary = 2, .embedding = 2, .first_stage = 1});
  test::set_parameter(router, "gate.weight", test::identity(2));
  test::set_parameter(router, "routing_embedding", {{1, 0}, {0, 1}});
  test::set_parameter(router, "routing_centroids", {{800, 0}, {0, 800}});
  auto call = test::call_of({{3, 1}, {1, 3}});
  call.token_id = {0, 1};
  call.training = true;
  CHECK(test::loss_of(test::route(router, call), "route_distillation") == 0);
  CHECK(test::loss_of(test::route(router, call), "overload") == 0);
  call.token_id = {1, 0};
  CHECK(near(test::loss_of(test::route(router, call), "route_distillation"), 800));
  auto crowded = test::call_of({{3, 1}, {2, 1}});
  crowded.token_id = {0, 1};
  crowded.training = true;
  CHECK(test::loss_of(test::route(router, crowded), "overload") > 0);
}

TEST_CASE("the overload loss lowers scores of the full and has nothing to say of the empty", "[stable]") {
  test::BalanceCase c(3, 3, 1);
  c.score = {0.5, 0, 0, 0.7, 0, 0, 0, 0.9, 0};
  c.choice(0, 0) = c.choice(1, 0) = 0;
  c.choice(2, 0) = 1;
  const auto g = c.gradients(moe::OverloadLoss({.coefficient = 0.6})).score;
  CHECK(near(c.loss(moe::OverloadLoss({.coefficient = 0.6})), 0.2 * (1 * 1.2 + 0)));
  CHECK((near(g[0], 0.2) && near(g[3], 0.2) && g[7] == 0 && g[2] == 0));
  c.active.fill(false);
  CHECK(c.loss(moe::OverloadLoss()) == 0);
}

TEST_CASE("options of StableMoE's router are checked", "[stable]") {
  CHECK_THROWS_WITH(moe::stable_router<double>({.width = 4, .experts = 5}),
                    "moe: vocabulary: expected a value in [1, 2147483647], got 0");
  CHECK_THROWS_AS(moe::DistilledScorer<double>({.width = 4, .outputs = 5, .vocabulary = 3, .embedding = 0}),
                  moe::config_error);
  CHECK(moe::FirstStage(moe::OverloadLoss({.coefficient = 0.2})).coefficient() == 0.2);
  CHECK_THROWS_AS(moe::stable_router<double>({.width = 4, .experts = 5, .vocabulary = 3, .first_stage = -1}),
                  moe::config_error);
  CHECK_THROWS_AS(moe::OverloadLoss({.coefficient = std::nan("")}), moe::config_error);
  CHECK_THROWS_AS(moe::RouteDistillation({.coefficient = std::nan("")}), moe::config_error);
  auto call = test::random_call<double>(3, 4, 1);
  call.token_id.clear();
  CHECK_THROWS_WITH(test::route(router_of(1), call), "moe: token_id: expected 3 vocabulary ids, got none");
}
