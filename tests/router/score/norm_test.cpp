#include "moe/router/score/norm.hpp"

#include <cmath>
#include <limits>

#include "moe/router/kind/token_choice.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

namespace {

using moe::Index;
template <class Real>
using Router =
    moe::TokenChoice<moe::LinearScorer<Real>, moe::NormScore<Real>, moe::TopKSelection, moe::GatherWeighting>;

template <class Real>
Router<Real> router_of(Index n, moe::NormScore<double>::Options o = {}, Index k = 2) {
  return {moe::LinearScorer<Real>({.width = n, .outputs = n}), moe::NormScore<Real>({o.scale, o.eps}),
          moe::TopKSelection(k), moe::GatherWeighting{}};
}
// The gain is the score's, no scorer's: NaN there shows in no logit. Differences are small beside the kink.
const test::RouterCases kCases{
    {"NormScore",
     [] { return router_of<double>(4, {.scale = 1.5}); },
     {.laws = {.parameters = false}, .step = 1e-4}},
    {"NormScore, float", [] { return router_of<float>(5); }, {.laws = {.parameters = false}}},
};

}  // namespace

TEST_CASE("norm score by hand: positive parts over the length of the row", "[router]") {
  auto router = router_of<double>(4, {.scale = 2});
  test::set_parameter(router, "gate.weight", test::identity(4));
  auto call = test::call_of({{3, -12, 4, 0}});  // of length 13
  test::check_pairs(test::route(router, call), 0, {2, 0}, {2 * 4 / (13 + 1e-6), 2 * 3 / (13 + 1e-6)});
  test::set_parameter(router, "norm.gain", {{0.5}});
  test::check_pairs(test::route(router, call), 0, {2, 0}, {4 / (13 + 1e-6), 3 / (13 + 1e-6)});
  // Masked outputs are 0 before the norm: of length 5 without the second, and nobody's choice.
  call.mask = {0, -std::numeric_limits<double>::infinity(), 0, 0};
  test::check_pairs(test::route(router, call), 0, {2, 0}, {4 / (5 + 1e-6), 3 / (5 + 1e-6)});
  // No positive logit: gates of 0.
  call = test::call_of({{-1, -2, -3, -4}, {0, 0, 0, 0}});
  test::check_pairs(test::route(router, call), 0, {0, 1}, {0, 0});
  test::check_pairs(test::route(router, call), 1, {0, 1}, {0, 0});
}

TEST_CASE("norm score: a factor on all logits leaves the gates, however large", "[router]") {
  auto router = router_of<double>(6, {.eps = 1e-300});
  test::randomise(router, 3);
  auto call = test::random_call<double>(20, 6, 1);
  const auto want = test::route(router, call);
  for (const double factor : {0.25, 1024.0, 0x1p600}) {  // squares of 2^600 overflow
    auto scaled = call;
    for (double& v : scaled.x) v *= factor;
    const auto got = test::route(router, scaled);
    CHECK(got.expert == want.expert);
    for (std::size_t p = 0; p < want.weight.size(); ++p) CHECK(test::near(got.weight[p], want.weight[p]));
  }
}

TEST_CASE("norm score: at the scale of norm_score_scale chosen gates have length 1 or so", "[router]") {
  const double exact = moe::norm_score_scale(1, 1, 1000);
  CHECK(exact == 1);  // one output: z / |z| is 1 or left out
  const Index n = 64, k = 8;
  const double scale = moe::norm_score_scale(n, k, 1500), again = moe::norm_score_scale(n, k, 1500);
  CHECK(scale == again);
  CHECK(scale != moe::norm_score_scale(n, k, 1500, 43));
  CHECK(std::abs(scale / moe::norm_score_scale(n, k, 1500, 43) - 1) < 0.03);
  auto router = router_of<double>(n, {.scale = scale}, k);
  test::set_parameter(router, "gate.weight", test::identity(n));
  auto call = test::random_call<double>(200, n, 5);
  const moe::KeyedRandom draw(9, 0, moe::DrawStream::user);
  for (std::size_t i = 0; i < call.x.size(); ++i) call.x[i] = draw.normal(i, 0);
  const auto routed = test::route(router, call);
  double mean = 0;
  for (Index t = 0; t < 200; ++t) {
    double squares = 0;
    for (const double w : routed.weights_of(t)) squares += w * w;
    mean += std::sqrt(squares) / 200;
  }
  CHECK(std::abs(mean - 1) < 0.05);
  CHECK(moe::norm_score_scale(n, n, 1500) < scale);  // more kept are longer
}

TEST_CASE("norm score: factors make scores smaller and leave the length of the row; saved and refused",
          "[router]") {
  auto router = router_of<double>(4, {.scale = 2});
  test::set_parameter(router, "gate.weight", test::identity(4));
  const auto call = test::call_of({{3, -12, 4, 0}});
  const std::vector<bool> kept{true, true, false, false};
  router.score().set_factor(kept, 0.5);
  test::check_pairs(test::route(router, call), 0, {0, 2}, {6 / (13 + 1e-6), 4 / (13 + 1e-6)});
  router.score().set_factor(kept, 0);
  test::check_pairs(test::route(router, call), 0, {0, 1}, {6 / (13 + 1e-6), 0});

  moe::NormScore<double> score, other;
  CHECK(test::save_state(score).empty());
  score.set_factor(kept, 0.25);
  other.set_factor(kept, 1);
  auto state = test::save_state(score);
  test::load_state(other, state);
  CHECK((other.factor(2) == 0.25 && other.factor(0) == 1));
  state[0].second[1] = 1.5;
  CHECK_THROWS_AS(test::load_state(other, state), moe::numeric_error);
  CHECK(other.factor(1) == 1);
  CHECK_THROWS_AS(score.check(5), moe::shape_error);
  for (const double bad : {-0.1, 1.1, std::nan("")}) {
    CHECK_THROWS_AS(score.set_factor(kept, bad), moe::config_error);
  }
}

TEST_CASE("norm score refuses options that are none", "[router]") {
  using Score = moe::NormScore<double>;
  for (const double bad : {0.0, -1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    CHECK_THROWS_AS(Score({.scale = bad}), moe::config_error);
    CHECK_THROWS_AS(Score({.eps = bad}), moe::config_error);
  }
  CHECK_THROWS_AS(moe::norm_score_scale(0, 1), moe::config_error);
  CHECK_THROWS_AS(moe::norm_score_scale(3, 4), moe::config_error);
  CHECK_THROWS_AS(moe::norm_score_scale(3, 1, 0), moe::config_error);
}
