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
#include "moe/router/kind/every.hpp"
#include "support/catch.hpp"
#include "support/observable_archetype.hpp"

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

}  // namespace

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
