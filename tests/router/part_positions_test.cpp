// Whatever position of a token-choice router a part stands in, also inside another part: its coupling counts,
// its state is seen, steps and checks reach it.
#include <string>
#include <utility>
#include <vector>

#include "moe/core/part_traits.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/balance/z.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/runtime/any_balancing.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/scorer/map/soft_cap.hpp"
#include "moe/router/scorer/mapped.hpp"
#include "moe/router/scorer/normed.hpp"
#include "moe/router/selection/column_top_k.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/expert_scale.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/errors.hpp"
#include "support/router_laws.hpp"

namespace {

using moe::Coupling;
using moe::Index;
constexpr Index kWidth = 4, kOutputs = 5;
using Linear = moe::LinearScorer<double>;

/// A part that looks so far, in training only or always.
template <class Base, Coupling kHow, bool kAlways = true>
struct Coupled : Base {
  using Base::Base;
  static constexpr Coupling coupling(bool training) noexcept {
    return training || kAlways ? kHow : Coupling::row_independent;
  }
};

template <class S, class F, class Select, class W, class... B>
using Router = moe::TokenChoice<S, F, Select, W, moe::Balancing<B...>>;
template <class S, class F, class Select, class W, class... B>
constexpr Coupling kOf = Router<S, F, Select, W, B...>::coupling(true);
template <class S, class F, class Select, class W, class... B>
constexpr Coupling kOfInference = Router<S, F, Select, W, B...>::coupling(false);

/// All five positions in turn, the others as they are.
template <Coupling kHow, bool kAlways>
constexpr bool counts_everywhere(bool training) {
  constexpr auto wanted = [](bool in_training) {
    return in_training || kAlways ? kHow : Coupling::row_independent;
  };
  using F = moe::Softmax;
  using T = moe::TopKSelection;
  using W = moe::GatherWeighting;
  using Z = moe::ZLoss;
  const auto is = [&](Coupling c) { return c == wanted(training); };
  return is(Router<Coupled<Linear, kHow, kAlways>, F, T, W, Z>::coupling(training)) &&
         is(Router<Linear, Coupled<F, kHow, kAlways>, T, W, Z>::coupling(training)) &&
         is(Router<Linear, F, Coupled<T, kHow, kAlways>, W, Z>::coupling(training)) &&
         is(Router<Linear, F, T, Coupled<W, kHow, kAlways>, Z>::coupling(training)) &&
         is(Router<Linear, F, T, W, Z, Coupled<Z, kHow, kAlways>>::coupling(training)) &&
         // and inside another part
         is(Router<moe::MappedScorer<moe::NormedScorer<Coupled<Linear, kHow, kAlways>>, moe::SoftCap>, F, T,
                   W>::coupling(training)) &&
         is(Router<Linear, F, T, moe::ExpertScale<double, Coupled<W, kHow, kAlways>>>::coupling(training)) &&
         is(Router<Linear, F, T, W, moe::MaybePart<Coupled<Z, kHow, kAlways>>>::coupling(training));
}

/// Counts tokens of steps and checks in its state; throws for a call of step 13, naming itself.
template <class Base>
struct Stateful : Base {
  using Base::Base;
  const char* state_name = "";
  double state[2] = {0, 0};  // tokens, value
  mutable Index told = 0;    // outputs

  Stateful named(const char* name) && {
    state_name = name;
    return std::move(*this);
  }
  void check(Index n) const { told = n; }
  template <class Call>
  void check_call(const Call& call) const {
    if (call.draws->call == 13) moe::fail<moe::config_error>("call 13: refused by ", state_name);
  }
  void on_step_end(const moe::RouteStats& stats) { state[0] += static_cast<double>(stats.tokens); }
  template <class Visitor>
  void visit_state(Visitor& f) {
    f(state_name, static_cast<double*>(state), Index{2});
  }
};

using StatefulScorer = Stateful<Linear>;
using Inner = moe::MappedScorer<moe::NormedScorer<StatefulScorer>, moe::SoftCap>;
using StatefulRouter =
    Router<Inner, Stateful<moe::Softmax>, Stateful<moe::TopKSelection>,
           moe::ExpertScale<double, Stateful<moe::GatherWeighting>>, moe::MaybePart<Stateful<moe::ZLoss>>>;
const std::vector<std::string> kStateNames{"scorer", "score", "selection", "weighting", "loss"};

StatefulRouter stateful_router() {
  const Linear::Options options{.width = kWidth, .outputs = kOutputs};
  moe::NormedScorer<StatefulScorer> normed(StatefulScorer(options).named("scorer"), moe::InputNorm{});
  moe::ExpertScale<double, Stateful<moe::GatherWeighting>> scaled(
      Stateful<moe::GatherWeighting>().named("weighting"), kOutputs);
  return {Inner(std::move(normed), moe::SoftCap(3)), Stateful<moe::Softmax>().named("score"),
          Stateful<moe::TopKSelection>(2).named("selection"), std::move(scaled),
          moe::Balancing<moe::MaybePart<Stateful<moe::ZLoss>>>(Stateful<moe::ZLoss>(0.1).named("loss"))};
}
moe::Glu<moe::Silu, double> bank() {
  moe::Glu<moe::Silu, double> b({.experts = kOutputs, .width = kWidth, .hidden = 3});
  b.initialise(1);
  return b;
}

}  // namespace

TEST_CASE("a router couples as far as the weakest of its parts, wherever it stands", "[router]") {
  for (const bool training : {false, true}) {
    CHECK((counts_everywhere<Coupling::per_segment, true>(training)));
    CHECK((counts_everywhere<Coupling::per_segment, false>(training)));
    CHECK((counts_everywhere<Coupling::per_batch, true>(training)));
    CHECK((counts_everywhere<Coupling::per_batch, false>(training)));
    CHECK((counts_everywhere<Coupling::row_independent, true>(training)));
  }
  // Of two the one that reaches further, in any order.
  using Segment = Coupled<moe::Softmax, Coupling::per_segment>;
  using Batch = Coupled<moe::GatherWeighting, Coupling::per_batch, false>;
  using Top = moe::TopKSelection;
  STATIC_REQUIRE(kOf<Linear, Segment, Top, Batch> == Coupling::per_batch);
  STATIC_REQUIRE(kOfInference<Linear, Segment, Top, Batch> == Coupling::per_segment);
  STATIC_REQUIRE(kOf<Coupled<Linear, Coupling::per_batch>, Segment, Top, moe::GatherWeighting> ==
                 Coupling::per_batch);
  STATIC_REQUIRE(kOf<Linear, moe::Softmax, moe::ColumnTopK, moe::GatherWeighting> == Coupling::per_segment);
  STATIC_REQUIRE(kOf<Linear, moe::Softmax, moe::ColumnTopK, Batch> == Coupling::per_batch);
}

TEST_CASE("a layer asks for segments if any part of its router couples rows", "[router]") {
  using W = Coupled<moe::GatherWeighting, Coupling::per_segment>;
  const moe::MoeLayer layer(
      Router<Linear, moe::Softmax, moe::TopKSelection, W>(Linear({.width = kWidth, .outputs = kOutputs}),
                                                          moe::Softmax(), moe::TopKSelection(1), W()),
      bank());
  STATIC_REQUIRE(decltype(layer)::coupling(false) == Coupling::per_segment);
  const std::vector<double> x(2 * kWidth, 0.5);
  std::vector<double> y(x.size());
  moe::LayerOutput<double> out(moe::MatrixView<double>(y.data(), 2, kWidth));
  moe::LayerInput<double> in(moe::ConstMatrixView<double>(x.data(), 2, kWidth));
  moe::Workspace workspace;
  CHECK_THROWS_AS(layer.forward(in, out, workspace), moe::config_error);
  in.segments = moe::Segments::uniform(1);
  CHECK_NOTHROW(layer.forward(in, out, workspace));
}

TEST_CASE("every part's state is the router's, saved and loaded in order", "[router]") {
  StatefulRouter router = stateful_router();
  test::SavedState state = test::save_state(router);
  REQUIRE(state.size() == kStateNames.size());
  for (std::size_t i = 0; i < state.size(); ++i) {
    CHECK(state[i].first == kStateNames[i]);
    state[i].second[1] = static_cast<double>(i) + 1;
  }
  test::load_state(router, state);
  CHECK(router.scorer().inner().inner().state[1] == 1);
  CHECK(router.score().state[1] == 2);
  CHECK(router.selection().state[1] == 3);
  CHECK(router.weighting().inner().state[1] == 4);
  CHECK(test::save_state(router) == state);
}

TEST_CASE("the end of a step reaches every part, through a layer too", "[router]") {
  StatefulRouter router = stateful_router();
  moe::RouteStats stats;
  stats.tokens = 7;
  router.on_step_end(stats);
  stats.tokens = 4;
  router.on_step_end(stats);
  for (const auto& [name, values] : test::save_state(router)) {
    INFO(name);
    CHECK(values[0] == 11);
  }
  moe::MoeLayer layer(std::move(router), bank());
  layer.on_step_end(stats);
  const test::SavedState state = test::save_state(layer);
  CHECK(state.size() == kStateNames.size());
  for (const auto& [name, values] : state) {
    INFO(name);
    CHECK(values[0] == 15);
  }
}

TEST_CASE("every part is told the outputs and may refuse a call", "[router]") {
  StatefulRouter router = stateful_router();
  CHECK(router.scorer().inner().inner().told == kOutputs);
  CHECK(router.score().told == kOutputs);
  CHECK(router.selection().told == kOutputs);
  CHECK(router.weighting().inner().told == kOutputs);
  CHECK((*router.balancing().part<moe::MaybePart<Stateful<moe::ZLoss>>>()).told == kOutputs);

  auto call = test::random_call<double>(3, kWidth, 1);
  CHECK_NOTHROW(test::route(router, call));
  call.step = 13;
  const auto check_refused = [&](const auto& one, const char* by) {
    CHECK(test::message_of<moe::config_error>([&] { test::route(one, call); }) ==
          std::string("moe: call 13: refused by ") + by);
  };
  const Linear::Options options{.width = kWidth, .outputs = kOutputs};
  const moe::Softmax softmax;
  const moe::TopKSelection top(2);
  const moe::GatherWeighting gather;
  const auto with = [&](auto scorer, auto score, auto selection, auto weighting, auto balance) {
    return moe::TokenChoice<decltype(scorer), decltype(score), decltype(selection), decltype(weighting),
                            decltype(balance)>(std::move(scorer), score, selection, weighting, balance);
  };
  using None = moe::Balancing<>;
  using Z = Stateful<moe::ZLoss>;
  check_refused(with(Inner(moe::NormedScorer<StatefulScorer>(StatefulScorer(options).named("scorer"), {}),
                           moe::SoftCap(3)),
                     softmax, top, gather, None()),
                "scorer");
  check_refused(with(Linear(options), Stateful<moe::Softmax>().named("score"), top, gather, None()), "score");
  check_refused(
      with(Linear(options), softmax, Stateful<moe::TopKSelection>(2).named("selection"), gather, None()),
      "selection");
  check_refused(
      with(Linear(options), softmax, top, Stateful<moe::GatherWeighting>().named("weighting"), None()),
      "weighting");
  check_refused(with(Linear(options), softmax, top, gather, moe::Balancing<Z>(Z(0.1).named("loss"))), "loss");
  check_refused(with(Linear(options), softmax, top, gather,
                     moe::Balancing<moe::MaybePart<Z>>(moe::MaybePart<Z>(Z(0.1).named("loss")))),
                "loss");
}
