// A scorer chosen at run time gives the bits of the static one.
#include "moe/router/runtime/any_scorer.hpp"

#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/router_laws.hpp"

namespace {

using moe::Index;
using Any = moe::AnyScorer<double>;
using Core = moe::OneScorer<double>;
template <class S>
using Router = moe::TokenChoice<S, moe::Softmax, moe::TopKSelection, moe::GatherWeighting>;

template <class S>
Router<S> make(S scorer) {
  Router<S> router(std::move(scorer), moe::Softmax{}, moe::TopKSelection(3), moe::GatherWeighting{});
  test::randomise(router, 3);
  return router;
}

Any any_of(moe::NormedScorer<Core> scorer, moe::AnyLogitMap map, bool residual = false) {
  return Any(moe::GatingResidual(std::move(scorer), residual), std::move(map));
}

template <class S>
void check(const S& part) {
  auto plain = make(part);
  auto any = make(any_of(moe::NormedScorer<Core>(Core(part), {.enabled = false}), moe::AnyLogitMap()));
  CHECK(any.width() == plain.width());
  CHECK(any.outputs() == plain.outputs());
  auto call = test::random_call<double>(20, 5, 1);
  CHECK(test::same_route(test::route(any, call), test::route(plain, call)));
  call.training = true;
  CHECK(test::same_bits(test::all_gradients(any, call), test::all_gradients(plain, call)));
  any.scorer().inner().inner().inner().initialise(7);
  const auto before = test::route(any, call);
  any.scorer().inner().inner().inner().initialise(8);
  CHECK(!test::same_route(before, test::route(any, call)));
}

}  // namespace

TEST_CASE("run-time scorers run the static scorers", "[any_scorer]") {
  check(moe::LinearScorer<double>({.width = 5, .outputs = 7, .bias = true}));
  check(moe::TwoLayerScorer<double>({.width = 5, .hidden = 6, .outputs = 7}));
  check(moe::CosineScorer<double>({.width = 5, .projected = 6, .outputs = 7}));
  check(moe::NoisyScorer<double>({.width = 5, .outputs = 7}));
  check(moe::MixtureScorer<double>({.width = 5, .routers = 2, .outputs = 7}));
  check(moe::HyperScorer<double>({.width = 5, .hidden = 6, .outputs = 7}));
  check(moe::AttentionScorer<double>({.width = 5, .outputs = 7}));
}

TEST_CASE("a run-time scorer may have a gating residual, before the map", "[any_scorer]") {
  const moe::LinearScorer<double> linear({.width = 5, .outputs = 7});
  auto any = make(any_of(moe::NormedScorer<Core>(Core(linear), {.enabled = false}), moe::SoftCap(3), true));
  auto plain = make(moe::MappedScorer<moe::GatingResidual<moe::LinearScorer<double>>, moe::SoftCap>(
      moe::GatingResidual<moe::LinearScorer<double>>(linear), moe::SoftCap(3)));
  CHECK((any.carry_width() == 7 && plain.carry_width() == 7));
  auto call = test::random_call<double>(20, 5, 1);
  test::add_carry(call, 7);
  CHECK(test::same_route(test::route(any, call), test::route(plain, call)));
  CHECK(test::same_bits(test::all_gradients(any, call), test::all_gradients(plain, call)));
}

TEST_CASE("all of a run-time scorer obeys the laws of routers", "[any_scorer]") {
  auto router = make(any_of(
      moe::NormedScorer<Core>(Core(moe::LinearScorer<double>({.width = 5, .outputs = 7})), {.factor = 2}),
      moe::SoftCap(3)));
  test::check_router_laws(router);
  test::check_router_gradients(router, 4);
  CHECK_THROWS_AS(
      any_of(moe::NormedScorer<Core>(Core(moe::NoisyScorer<double>({.width = 5, .outputs = 7})), {}),
             moe::SoftCap(3)),
      moe::config_error);
}
