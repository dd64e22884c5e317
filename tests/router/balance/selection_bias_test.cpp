#include "moe/router/balance/selection_bias.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/sigmoid.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/router_laws.hpp"

namespace {

using moe::BiasRule;
using moe::ExpertId;
using moe::Index;
using moe::SelectionBias;

moe::RouteStats counts(const std::vector<Index>& load, Index tokens) {
  moe::RouteStats stats;
  stats.tokens = tokens;
  stats.load.copy_from(load.data(), static_cast<Index>(load.size()));
  return stats;
}

std::vector<double> bias_of(const SelectionBias& part) {
  return {part.bias().begin(), part.bias().end()};
}

using Biased = moe::TokenChoice<moe::LinearScorer<double>, moe::SigmoidScore, moe::TopKSelection,
                                moe::GatherWeighting, moe::Balancing<SelectionBias>>;

Biased make_router(Index width, Index experts, Index k, SelectionBias::Options options = {}) {
  options.outputs = experts;
  return {moe::LinearScorer<double>({.width = width, .outputs = experts}), moe::SigmoidScore{},
          moe::TopKSelection(k), moe::GatherWeighting({.normalise = moe::Normalise::sum}),
          moe::Balancing<SelectionBias>(SelectionBias(options))};
}

SelectionBias& bias(Biased& router) {
  return router.balancing().part<SelectionBias>();
}

moe::RouteStats stats_of(const test::Routed<double>& routed, Index experts) {
  std::vector<Index> load(static_cast<std::size_t>(experts), 0);
  for (const ExpertId e : routed.expert) ++load[static_cast<std::size_t>(e)];
  return counts(load, routed.tokens());
}

}  // namespace

TEST_CASE("selection bias moves by u towards the mean", "[selection_bias]") {
  SelectionBias part({.outputs = 4, .speed = 0.001});
  CHECK(bias_of(part) == std::vector<double>(4, 0));
  part.on_step_end(counts({6, 2, 2, 2}, 6));
  CHECK(bias_of(part) == std::vector<double>{-0.001, 0.001, 0.001, 0.001});
  part.on_step_end(counts({3, 3, 5, 1}, 6));  // sign(0) = 0
  CHECK(bias_of(part) == std::vector<double>{-0.001, 0.001, 0.0, 0.002});
  // A mean that is no whole number is still compared exactly: 7 / 3 lies between 2 and 3.
  SelectionBias thirds({.outputs = 3, .speed = 1});
  thirds.on_step_end(counts({2, 2, 3}, 7));
  CHECK(bias_of(thirds) == std::vector<double>{1, 1, -1});
}

TEST_CASE("selection bias: proportional and decaying rules", "[selection_bias]") {
  SelectionBias proportional({.outputs = 4, .speed = 0.5, .rule = BiasRule::proportional});
  proportional.on_step_end(counts({6, 2, 2, 2}, 6));  // 0.5 * {-3, 1, 1, 1} / 6
  const std::vector<double> expected{-0.25, 0.5 / 6, 0.5 / 6, 0.5 / 6};
  for (Index e = 0; e < 4; ++e) {
    CHECK(std::abs(proportional.bias()[static_cast<std::size_t>(e)] -
                   expected[static_cast<std::size_t>(e)]) <= 1e-16);
  }
  SelectionBias decaying({.outputs = 2, .speed = 1, .decaying = true});
  for (int step = 0; step < 3; ++step) decaying.on_step_end(counts({3, 1}, 4));
  CHECK(std::abs(decaying.bias()[1] - (1 + 1.0 / 2 + 1.0 / 3)) <= 1e-15);
  CHECK(decaying.bias()[0] == -decaying.bias()[1]);
}

TEST_CASE("selection bias: steps without choices, frozen and null experts", "[selection_bias]") {
  SelectionBias part({.outputs = 3, .null_experts = 1, .speed = 1, .decaying = true});
  part.on_step_end(counts({0, 0}, 0));
  CHECK(bias_of(part) == std::vector<double>(3, 0));
  part.on_step_end(counts({4, 0}, 4));  // the first step that counts: u / 1
  CHECK(bias_of(part) == std::vector<double>{-1, 1, 0});
  part.set_speed(0);
  part.on_step_end(counts({4, 0}, 4));
  CHECK(bias_of(part) == std::vector<double>{-1, 1, 0});
  CHECK_THROWS_WITH(part.on_step_end(counts({4, 0, 0}, 4)), "moe: statistics: expected 2 experts, got 3");
}

TEST_CASE("selection bias refuses what it cannot hold", "[selection_bias]") {
  const double nan = std::numeric_limits<double>::quiet_NaN(),
               infinity = std::numeric_limits<double>::infinity();
  CHECK_THROWS_AS(SelectionBias({.outputs = 0}), moe::config_error);
  CHECK_THROWS_AS(SelectionBias({.outputs = 2, .null_experts = 2}), moe::config_error);
  for (const double bad : {-1.0, nan, infinity}) {
    CHECK_THROWS_AS(SelectionBias({.outputs = 2, .speed = bad}), moe::config_error);
  }
  SelectionBias part({.outputs = 2});
  CHECK_THROWS_AS(part.check(3), moe::shape_error);
  part.set_bias(std::vector<double>{0.5, -0.5});
  CHECK_THROWS_AS(part.set_bias(std::vector<double>{1}), moe::shape_error);
  CHECK_THROWS_AS(part.set_bias(std::vector<double>{nan, 1}), moe::numeric_error);
  CHECK(bias_of(part) == std::vector<double>{0.5, -0.5});
}

TEST_CASE("selection bias is saved and loaded under its published name", "[selection_bias]") {
  Biased router = make_router(3, 4, 2);
  bias(router).set_bias(std::vector<double>{1, -2, 3, 0.25});
  const auto state = test::save_state(router);
  REQUIRE(state.size() == 1);
  CHECK(state[0].first == "e_score_correction_bias");
  CHECK(state[0].second == std::vector<double>{1, -2, 3, 0.25});
  Biased other = make_router(3, 4, 2);
  test::load_state(other, state);
  CHECK(bias_of(bias(other)) == state[0].second);

  // Bytes that are no numbers are refused, and nothing changes.
  auto broken = state;
  broken[0].second[2] = std::numeric_limits<double>::infinity();
  CHECK_THROWS_AS(test::load_state(other, broken), moe::numeric_error);
  CHECK(bias_of(bias(other)) == state[0].second);

  // The decaying rule also needs to know where it was.
  Biased decaying = make_router(3, 4, 2, {.speed = 1, .decaying = true});
  for (int step = 0; step < 4; ++step) decaying.on_step_end(counts({5, 1, 1, 1}, 4));
  Biased resumed = make_router(3, 4, 2, {.speed = 1, .decaying = true});
  test::load_state(resumed, test::save_state(decaying));
  decaying.on_step_end(counts({5, 1, 1, 1}, 4));
  resumed.on_step_end(counts({5, 1, 1, 1}, 4));
  CHECK(bias_of(bias(resumed)) == bias_of(bias(decaying)));
}

TEST_CASE("selection bias decides who is chosen and leaves the weights alone", "[selection_bias]") {
  const Index experts = 6, k = 2;
  Biased plain = make_router(5, experts, k), biased = make_router(5, experts, k);
  test::randomise(plain, 8);
  test::randomise(biased, 8);
  const auto call = test::random_call<double>(40, 5, 3);
  const auto before = test::route(plain, call);

  // A constant changes nothing.
  bias(biased).set_bias(std::vector<double>(6, 0.75));
  CHECK(test::same_route(before, test::route(biased, call)));

  // A large bias forces experts 4 and 1, in this order; weights are those of the scores without it.
  bias(biased).set_bias(std::vector<double>{0, 100, 0, 0, 200, 0});
  const auto forced = test::route(biased, call);
  std::vector<double> w(30);
  auto gradients = plain.make_gradients();
  const auto elements = test::elements(plain, gradients);
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = *elements[i].value;
  for (Index t = 0; t < 40; ++t) {
    REQUIRE(forced.experts_of(t) == std::vector<ExpertId>{4, 1});
    double s[2];
    for (std::size_t i = 0; i < 2; ++i) {
      double logit = 0;
      for (std::size_t j = 0; j < 5; ++j) {
        logit += w[(i == 0 ? 4u : 1u) * 5 + j] * call.x[static_cast<std::size_t>(t) * 5 + j];
      }
      s[i] = 1 / (1 + std::exp(-logit));
    }
    CHECK(std::abs(forced.weights_of(t)[0] - s[0] / (s[0] + s[1])) <= 1e-14);
    CHECK(std::abs(forced.weights_of(t)[1] - s[1] / (s[0] + s[1])) <= 1e-14);
  }
}

TEST_CASE("a masked expert stays out however large its bias", "[selection_bias]") {
  Biased router = make_router(2, 3, 1);
  bias(router).set_bias(std::vector<double>{1000, 0, 0});
  auto call = test::random_call<double>(4, 2, 1);
  CHECK(test::route(router, call).expert == std::vector<ExpertId>(4, 0));
  call.mask = {-std::numeric_limits<double>::infinity(), 0, 0};
  CHECK(test::route(router, call).expert == std::vector<ExpertId>(4, 1));
}

TEST_CASE("laws and gradients of a router with a bias", "[selection_bias]") {
  Biased router = make_router(4, 5, 2);
  test::randomise(router, 2);
  bias(router).set_bias(std::vector<double>{0.2, -0.3, 0, 0.1, -0.1});
  test::check_router_laws(router);
  test::check_router_gradients(router, 7);
}

TEST_CASE("closed loop: the load of fixed scores evens out", "[selection_bias]") {
  // Scores that favour low ids heavily. The bias of sign steps ends in a band of a few u around balance.
  const Index experts = 8;
  Biased router = make_router(6, experts, 2, {.speed = 0.01});
  test::randomise(router, 4);
  auto call = test::random_call<double>(400, 6, 9);
  call.mask.clear();
  for (Index e = 0; e < experts; ++e) call.mask.push_back(-0.4 * static_cast<double>(e));
  const double at_first = stats_of(test::route(router, call), experts).max_violation();
  for (int step = 0; step < 150; ++step) router.on_step_end(stats_of(test::route(router, call), experts));
  double late = 0;
  for (int step = 0; step < 20; ++step) {
    const auto stats = stats_of(test::route(router, call), experts);
    late = std::max(late, stats.max_violation());
    router.on_step_end(stats);
  }
  CHECK(at_first > 1);
  CHECK(late < 0.25);
}

TEST_CASE("small steps descend the balancing dual", "[selection_bias]") {
  // Wang et al.'s rule is subgradient descent of L(b) = sum of the top-k sums of s_t + b, minus (K T / N) sum
  // of b, whose subgradient is c - K T / N; L is convex in b, so a proportional step that is small enough
  // lowers it.
  const Index experts = 5, k = 2, tokens = 60;
  Biased router = make_router(4, experts, k, {.speed = 0.02, .rule = BiasRule::proportional});
  test::randomise(router, 6, 2);
  const auto call = test::random_call<double>(tokens, 4, 5);
  auto gradients = router.make_gradients();
  const auto elements = test::elements(router, gradients);
  const auto dual = [&] {
    const auto b = bias(router).bias();
    double value = 0;
    for (Index t = 0; t < tokens; ++t) {
      std::vector<double> choice;
      for (std::size_t e = 0; e < static_cast<std::size_t>(experts); ++e) {
        double logit = 0;
        for (std::size_t j = 0; j < 4; ++j)
          logit += *elements[e * 4 + j].value * call.x[static_cast<std::size_t>(t) * 4 + j];
        choice.push_back(1 / (1 + std::exp(-logit)) + b[e]);
      }
      std::sort(choice.rbegin(), choice.rend());
      value += choice[0] + choice[1];
    }
    for (const double e : b) value -= static_cast<double>(k * tokens) / static_cast<double>(experts) * e;
    return value;
  };
  double last = dual();
  int falls = 0;
  for (int step = 0; step < 25; ++step) {
    router.on_step_end(stats_of(test::route(router, call), experts));
    const double now = dual();
    CHECK(now <= last + 1e-9);
    falls += now < last ? 1 : 0;
    last = now;
  }
  CHECK(falls > 5);
}

TEST_CASE("a bias that is not enabled has neither values nor state", "[selection_bias]") {
  moe::SelectionBias bias({.outputs = 3, .speed = 1, .enabled = false});
  CHECK(bias.selection_bias() == nullptr);
  bias.on_step_end(moe::RouteStats{});  // not looked at: no experts
  int states = 0;
  auto count = [&](const char*, double*, moe::Index) { ++states; };
  bias.visit_state(count);
  CHECK(states == 0);
  CHECK_THROWS_AS(bias.set_bias(std::vector<double>(3, 1)), moe::config_error);
}
