// An observer sees what a call decided and computed, whatever surrounds it, and changes no bit.
#include "moe/layer/call/observer.hpp"

#include <cmath>
#include <vector>

#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/frame/output_bias.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/layer/shared/shared_experts.hpp"
#include "moe/plan/capacity/fixed.hpp"
#include "moe/router/balance/load_balance.hpp"
#include "moe/router/kind/every.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/noisy.hpp"
#include "moe/router/selection/column_top_k.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/catch.hpp"
#include "support/observable_archetype.hpp"
#include "support/router_laws.hpp"

namespace {

using moe::Index;
using View = moe::MatrixView<double>;
using ConstView = moe::ConstMatrixView<double>;
using Bank = moe::Glu<moe::Silu, double>;

constexpr Index kTokens = 6, kWidth = 4, kExperts = 3;

/// Checks the call while it runs, and keeps what can be compared later.
struct Witness final : moe::Observer<double> {
  int calls = 0;
  std::vector<double> logit, score, y;
  Index slots = 0;
  bool consistent = true;

  void see(const moe::CallView<double>& call) override {
    ++calls;
    logit.clear();
    score.clear();
    y.clear();
    for (Index t = 0; t < call.logit.rows; ++t) {
      logit.insert(logit.end(), call.logit.row(t), call.logit.row(t) + call.logit.cols);
      score.insert(score.end(), call.score.row(t), call.score.row(t) + call.score.cols);
    }
    slots = call.plan.slots();
    consistent = consistent && call.table.tokens == call.x.rows && call.plan.tokens == call.y.rows;
    // y is the weighted sum of the results, term by term.
    for (Index t = 0; t < call.y.rows; ++t) {
      for (Index j = 0; j < call.y.cols; ++j) {
        double sum = 0;
        for (Index i = call.plan.token_offsets[t]; i < call.plan.token_offsets[t + 1]; ++i) {
          const Index s = call.plan.token_slot[i];
          sum = std::fma(call.plan.weight[s], call.result[s][j], sum);
        }
        // The same fma by fma, or a rounding more per term where the machine has none.
        consistent = consistent && std::abs(call.y(t, j) - sum) <= 8 * 0x1p-53 * (1 + std::abs(sum));
        y.push_back(call.y(t, j));
      }
    }
  }
};

std::vector<double> rows() {
  std::vector<double> x;
  for (Index i = 0; i < kTokens * kWidth; ++i) x.push_back(std::sin(static_cast<double>(3 * i + 1)));
  return x;
}
Bank bank(Index experts) {
  Bank b({.experts = experts, .width = kWidth, .hidden = 5});
  b.initialise(7);
  return b;
}

/// Keeps the table as well.
struct RouteWitness final : moe::Observer<double> {
  Witness witness;
  test::Routed<double> routed;

  void see(const moe::CallView<double>& call) override {
    witness.see(call);
    routed.offsets.assign(call.table.offsets, call.table.offsets + call.table.tokens + 1);
    routed.expert.assign(call.table.expert, call.table.expert + call.table.pairs());
    routed.weight.assign(call.table.weight, call.table.weight + call.table.pairs());
  }
};

template <class Select>
auto router_of(Select selection) {
  using Balance = moe::Balancing<moe::LoadBalance>;
  moe::TokenChoice<moe::NoisyScorer<double>, moe::Softmax, Select, moe::GatherWeighting, Balance> router(
      moe::NoisyScorer<double>({.width = kWidth, .outputs = kExperts}), moe::Softmax(), selection,
      moe::GatherWeighting(), Balance(moe::LoadBalance({.coefficient = 0.1})));
  test::randomise(router, 5);
  return router;
}

/// A layer call beside the router's own call with the same input: what the observer saw is what the router
/// does.
template <class Select>
void check_sees_its_router(Select selection) {
  using Router = decltype(router_of(selection));
  const Router router = router_of(selection);
  const moe::MoeLayer layer(router_of(selection), bank(kExperts));
  const std::vector<double> x = rows();
  const Index offsets[] = {0, 2, kTokens};
  const bool valid[] = {true, true, true, false, true, true};
  moe::LayerInput<double> in(ConstView(x.data(), kTokens, kWidth));
  in.segments = moe::Segments(offsets);
  in.valid = valid;
  in.options.temperature = 0.5;
  moe::Workspace workspace;
  typename decltype(layer)::Tape tape, plain_tape;
  for (const bool training : {false, true}) {
    INFO((training ? "training" : "inference"));
    std::vector<double> y(x.size()), plain(x.size());
    moe::LayerOutput<double> out(View(y.data(), kTokens, kWidth)),
        unseen(View(plain.data(), kTokens, kWidth));
    RouteWitness seen;
    out.observer = &seen;
    const moe::DrawCounter first(3);
    moe::DrawCounter draws = first;
    in.draws = &draws;
    if (training) {
      layer.forward_train(in, out, tape, workspace);
      draws = first;  // every call draws the same
      layer.forward_train(in, unseen, plain_tape, workspace);
      draws = first;
    } else {
      layer.forward(in, out, workspace);
      layer.forward(in, unseen, workspace);
    }
    CHECK(seen.witness.calls == 1);
    CHECK(seen.witness.consistent);
    CHECK(test::same_bits(y, plain));

    // The router alone, once as it routes and once observed.
    const moe::RouterInput<double> own = moe::impl::resolve_input(in, kWidth, kWidth, kExperts, training);
    const moe::CallShape shape{kTokens, 2, in.options};
    test::OwnedTable<double> table(router, shape), observed(router, shape);
    test::MeasuredMemory memory([&](moe::Arena& a) { router.measure(a, shape, 1); });
    moe::SerialExecutor serial;
    moe::Arena arena = memory.arena(), again = memory.arena();
    router.route(own, *table, arena, serial);
    std::vector<double> logit(kTokens * kExperts), score(logit.size());
    router.route_observed(own, *observed, nullptr,
                          {View(logit.data(), kTokens, kExperts), View(score.data(), kTokens, kExperts)},
                          again, serial);
    CHECK(test::same_pairs(table.copy(), observed.copy()));
    CHECK(seen.routed.offsets == table.copy().offsets);
    CHECK(seen.routed.expert == table.copy().expert);
    CHECK(test::same_bits(seen.routed.weight, table.copy().weight));
    for (Index t = 0; t < kTokens; ++t) {
      double sum = 0;
      for (Index e = 0; valid[t] && e < kExperts; ++e) {
        INFO("token " << t << ", expert " << e);
        const auto i = static_cast<std::size_t>(t * kExperts + e);
        CHECK(seen.witness.logit[i] == logit[i]);
        CHECK(seen.witness.score[i] == score[i]);
        sum += score[i];
      }
      if (valid[t]) CHECK(std::abs(sum - 1) <= 8 * 0x1p-53);  // the softmax: kExperts roundings
      for (Index p = table.copy().offsets[static_cast<std::size_t>(t)];
           p < table.copy().offsets[static_cast<std::size_t>(t + 1)]; ++p) {
        const auto i = static_cast<std::size_t>(p);
        CHECK(seen.routed.weight[i] ==
              seen.witness.score[static_cast<std::size_t>(t * kExperts + seen.routed.expert[i])]);
      }
    }
  }
}

}  // namespace

TEST_CASE("an observer sees what a token-choice router does, in training too", "[layer][smoke]") {
  STATIC_REQUIRE(moe::ObservableRouter<decltype(router_of(moe::TopKSelection(2)))>);
  check_sees_its_router(moe::TopKSelection(2));
  check_sees_its_router(moe::ColumnTopK({.capacity_factor = 1}));
}

TEST_CASE("an observer sees logits, scores, routes and results of every call", "[layer][smoke]") {
  using Layer = moe::MoeLayer<test::ObservableArchetype, Bank>;
  static_assert(moe::ObservableRouter<test::ObservableArchetype>);
  const Layer layer(test::ObservableArchetype(kExperts), bank(kExperts));
  const std::vector<double> x = rows();
  std::vector<double> y(x.size()), seen_y(x.size());
  moe::LayerOutput<double> out(View(y.data(), kTokens, kWidth)), seen(View(seen_y.data(), kTokens, kWidth));
  moe::Workspace workspace;
  layer.forward(ConstView(x.data(), kTokens, kWidth), out, workspace);
  Witness witness;
  seen.observer = &witness;
  // A workspace of the size of an unobserved call is enough: the observer brings its own memory.
  std::vector<std::byte> memory(static_cast<std::size_t>(layer.workspace_bytes(kTokens)));
  moe::Workspace exact{std::span(memory)};
  layer.forward(ConstView(x.data(), kTokens, kWidth), seen, exact);
  CHECK(witness.calls == 1);
  CHECK(witness.consistent);
  CHECK(y == seen_y);
  CHECK(witness.y == y);
  CHECK(witness.slots == kTokens);
  REQUIRE(witness.logit.size() == static_cast<std::size_t>(kTokens * kExperts));
  for (Index t = 0; t < kTokens; ++t) {
    for (Index e = 0; e < kExperts; ++e) {
      const double logit = x[static_cast<std::size_t>(t * kWidth)] * static_cast<double>(e + 1);
      CHECK(witness.logit[static_cast<std::size_t>(t * kExperts + e)] == logit);
      CHECK(witness.score[static_cast<std::size_t>(t * kExperts + e)] == 1 + logit * logit);
    }
  }

  // Training: the same, and the tape is written as without.
  Layer::Tape tape, plain;
  layer.forward_train(ConstView(x.data(), kTokens, kWidth), seen, tape, workspace);
  layer.forward_train(ConstView(x.data(), kTokens, kWidth), out, plain, workspace);
  CHECK(witness.calls == 2);
  CHECK(y == seen_y);
  std::vector<double> dx(x.size()), seen_dx(x.size());
  Layer::LayerGradients back(ConstView(x.data(), kTokens, kWidth), View(dx.data(), kTokens, kWidth));
  Layer::LayerGradients seen_back(ConstView(x.data(), kTokens, kWidth),
                                  View(seen_dx.data(), kTokens, kWidth));
  layer.backward(plain, back, workspace);
  layer.backward(tape, seen_back, workspace);
  CHECK(dx == seen_dx);
}

TEST_CASE("an observer of a router without logits sees empty views, inside frame and shared experts",
          "[layer][smoke]") {
  moe::OutputBias<double> bias(kWidth);
  bias.visit_parameters(nullptr, [](const moe::Parameter<double>& p) {
    for (Index i = 0; i < p.value.size(); ++i) p.value(i, 0) = 1;
  });
  const moe::MoeLayer layer(moe::EveryExpert<double>(kExperts), bank(kExperts),
                            moe::FixedCapacity({.tokens_per_expert = 4}), moe::SharedExperts(bank(1)),
                            std::move(bias));
  const std::vector<double> x = rows();
  std::vector<double> y(x.size()), plain(x.size());
  Witness witness;
  moe::LayerOutput<double> out(View(y.data(), kTokens, kWidth)), alone(View(plain.data(), kTokens, kWidth));
  out.observer = &witness;
  moe::Workspace workspace;
  moe::LayerInput<double> in(ConstView(x.data(), kTokens, kWidth));
  const Index offsets[] = {0, kTokens};
  in.segments = moe::Segments(offsets);
  layer.forward(in, out, workspace);
  layer.forward(in, alone, workspace);
  CHECK(y == plain);
  CHECK(witness.calls == 1);
  CHECK(witness.consistent);
  CHECK(witness.logit.empty());
  CHECK(witness.slots == 4 * kExperts);  // the rest was dropped
  CHECK(witness.y != y);                 // before bias and shared experts
}

TEST_CASE("a call that throws is not seen", "[layer]") {
  const moe::MoeLayer layer(test::ObservableArchetype(kExperts), bank(kExperts));
  std::vector<double> x = rows(), y(x.size());
  Witness witness;
  moe::LayerOutput<double> out(View(y.data(), kTokens, kWidth - 1));
  out.observer = &witness;
  moe::Workspace workspace;
  CHECK_THROWS_AS(layer.forward(ConstView(x.data(), kTokens, kWidth), out, workspace), moe::shape_error);
  CHECK(witness.calls == 0);
}
