#include "moe/analysis/gradient_conflict.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/call/observer.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "moe/plan/route_table.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

using moe::GradientConflict;
using moe::Index;
using View = moe::MatrixView<double>;
using ConstView = moe::ConstMatrixView<double>;

namespace {

/// A plan of rows' experts and weights.
struct Plan {
  std::vector<std::byte> memory = std::vector<std::byte>(1 << 14);
  moe::Arena arena{memory.data(), 1 << 14};
  moe::RouteTable<double> table;
  moe::DispatchPlan<double> plan;

  struct Pair {
    moe::ExpertId expert;
    double weight;
  };
  Plan(const std::vector<std::vector<Pair>>& rows, Index experts) {
    const auto tokens = static_cast<Index>(rows.size());
    table = moe::RouteTable<double>::carve(arena, tokens, experts, tokens * experts);
    for (Index t = 0; t < tokens; ++t) {
      table.begin_token(t);
      for (const Pair& pair : rows[static_cast<std::size_t>(t)]) table.push(t, pair.expert, pair.weight);
    }
    plan = moe::DispatchPlan<double>::carve(arena, tokens, experts, table.pairs());
    moe::build_plan(table, moe::Dropless{}, moe::Segments{}, plan, arena);
  }
};

}  // namespace

TEST_CASE("a token whose gradient points the other way conflicts", "[analysis][smoke]") {
  // Expert 0 sees (1, 0), (1, 0.1), (-1, 0): their mean points right. Expert 1 sees two that agree.
  const Plan call({{{0, 0.5}, {1, 0.5}}, {{0, 0.5}, {1, 2}}, {{0, 0.5}}}, 2);
  const std::vector<double> dy{1, 0, 1, 0.1, -1, 0};
  GradientConflict conflict;
  conflict.find(call.plan, ConstView(dy.data(), 3, 2));
  CHECK(conflict.count() == 1);
  CHECK(conflict.conflicts(2, 0));
  CHECK(!conflict.conflicts(0, 0));
  CHECK(!conflict.conflicts(1, 1));
  // The weight counts: the third token outweighs the others.
  const Plan heavy({{{0, 0.5}}, {{0, 0.5}}, {{0, 5}}}, 1);
  conflict.find(heavy.plan, ConstView(dy.data(), 3, 2));
  CHECK(conflict.count() == 2);
  CHECK((conflict.conflicts(0, 0) && conflict.conflicts(1, 0) && !conflict.conflicts(2, 0)));
}

TEST_CASE("the threshold is a cosine, and a gradient of 0 conflicts with nothing", "[analysis]") {
  // Sum (1, 1); cosines 1 / sqrt 2 = 0.707 each, and none of the third.
  const Plan call({{{0, 1}}, {{0, 3}}, {{0, 1}}}, 1);
  const std::vector<double> dy{1, 0, 0, 1.0 / 3, 0, 0};
  for (const double threshold : {0.7, 0.71}) {
    GradientConflict conflict({.threshold = threshold});
    conflict.find(call.plan, ConstView(dy.data(), 3, 2));
    CHECK(conflict.count() == (threshold > 0.705 ? 2 : 0));
  }
  const std::vector<double> opposite{1, 0, -1.0 / 3, 0, 0, 0};  // the mean is 0
  GradientConflict conflict({.threshold = 1});
  conflict.find(call.plan, ConstView(opposite.data(), 3, 2));
  CHECK(conflict.count() == 0);
}

TEST_CASE("without a conflict loss and gradient are 0", "[analysis]") {
  const Plan call({{{0, 1}}, {{1, 1}}}, 2);
  const std::vector<double> dy{1, 0, -1, 0}, logit{3, 1, -2, 5};
  std::vector<double> dlogit(4, 9);
  GradientConflict conflict;
  conflict.find(call.plan, ConstView(dy.data(), 2, 2));
  CHECK(conflict.loss(ConstView(logit.data(), 2, 2), View(dlogit.data(), 2, 2)) == 0);
  CHECK(dlogit == std::vector<double>(4, 0));
}

TEST_CASE("the loss by hand, and its gradient against central differences", "[analysis]") {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const Plan call({{{0, 1}}, {{0, 1}}, {{0, 1}}, {{1, 1}}}, 3);
  const std::vector<double> dy{1, 0, 1, 0, -1, 0, 1, 0};
  std::vector<double> logit{0, 0, 0, 1, 2, 3, 0.5, -kInfinity, 1.25, 0, 0, 0}, dlogit(12, 9), unused(12);
  GradientConflict conflict({.coefficient = 2});
  conflict.find(call.plan, ConstView(dy.data(), 4, 2));
  REQUIRE(conflict.count() == 1);
  REQUIRE(conflict.conflicts(2, 0));
  const auto loss = [&](std::vector<double>& to) {
    return conflict.loss(ConstView(logit.data(), 4, 3), View(to.data(), 4, 3));
  };
  const double p2 = std::exp(1.25) / (std::exp(0.5) + std::exp(1.25));  // output 1 is masked
  CHECK(std::abs(loss(dlogit) + 2 * std::log(p2)) < 1e-14);
  CHECK(std::abs(dlogit[6] - 2 * (1 - p2)) < 1e-14);  // a descent lowers the logit of the expert it leaves
  CHECK(dlogit[7] == 0);
  for (const std::size_t i : {std::size_t{3}, std::size_t{6}, std::size_t{8}}) {
    const double start = logit[i];
    const auto at = [&](double shift) {
      logit[i] = start + shift;
      const double value = loss(unused);
      logit[i] = start;
      return value;
    };
    const double h = 1e-3, slope = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
    CHECK(std::abs(dlogit[i] - slope) < 1e-10);
  }
  // The last conflict of three experts, all open: a target of one half each.
  logit = {0, 0, 0, 0, 0, 0, std::log(2), 0, 0, 0, 0, 0};
  CHECK(std::abs(loss(dlogit) - 2 * std::log(4)) < 1e-14);
  CHECK(std::abs(dlogit[6] - 2 * 0.5) < 1e-14);
  CHECK(std::abs(dlogit[7] - 2 * (0.25 - 0.5)) < 1e-14);
}

TEST_CASE("a probe, the loss, and a step away from the conflict", "[analysis]") {
  using Layer = moe::MoeLayer<moe::SoftmaxTopK<double>, moe::Glu<moe::Silu, double>>;
  struct Logits final : moe::Observer<double> {
    std::vector<double> logit;
    void see(const moe::CallView<double>& call) override {
      for (Index t = 0; t < call.logit.rows; ++t)
        logit.insert(logit.end(), call.logit.row(t), call.logit.row(t) + call.logit.cols);
    }
  } observer;
  auto router = moe::softmax_top_k<double>({.width = 4, .experts = 3, .k = 1, .load_balance = 0});
  router.scorer().initialise(3);
  moe::Glu<moe::Silu, double> bank({.experts = 3, .width = 4, .hidden = 5});
  bank.initialise(4);
  const Layer layer(std::move(router), std::move(bank));
  std::vector<double> x(20), y(20), dy(20), dlogit(15), dx(20);
  for (std::size_t i = 0; i < 20; ++i) x[i] = 1 + 0.05 * std::sin(static_cast<double>(i));  // one expert's
  for (std::size_t i = 0; i < 20; ++i) dy[i] = i < 4 ? -1 : 1;  // row 0 pulls the other way
  moe::Workspace workspace;
  Layer::Tape tape;
  moe::LayerOutput<double> out(View(y.data(), 5, 4));
  out.observer = &observer;
  layer.forward_train(ConstView(x.data(), 5, 4), out, tape, workspace);
  GradientConflict conflict;
  conflict.find(tape.plan(), ConstView(dy.data(), 5, 4));
  REQUIRE(conflict.count() == 1);
  const moe::ExpertId left = tape.routes().expert[0];
  CHECK(conflict.conflicts(0, left));
  CHECK(conflict.loss(ConstView(observer.logit.data(), 5, 3), View(dlogit.data(), 5, 3)) > 0);
  CHECK(dlogit[static_cast<std::size_t>(left)] > 0);
  Layer::LayerGradients back(ConstView(dy.data(), 5, 4), View(dx.data(), 5, 4));
  back.dlogit = ConstView(dlogit.data(), 5, 3);
  CHECK_NOTHROW(layer.backward(tape, back, workspace));
}

TEST_CASE("what a conflict is made of is checked", "[analysis]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double bad : {-1.1, 1.1, nan})
    CHECK_THROWS_AS(GradientConflict({.threshold = bad}), moe::config_error);
  CHECK_THROWS_AS(GradientConflict({.coefficient = nan}), moe::config_error);
  const Plan call({{{0, 1}}, {{1, 1}}}, 2);
  std::vector<double> rows(8, 1), dlogit(8, 9);
  GradientConflict conflict;
  CHECK(test::message_of<moe::shape_error>([&] { conflict.find(call.plan, ConstView(rows.data(), 3, 2)); }) ==
        "moe: dy: expected 2 rows, got 3");
  conflict.find(call.plan, ConstView(rows.data(), 2, 2));
  const auto loss = [&](Index tokens, Index n, double* to, Index cols) {
    return test::message_of<moe::shape_error>(
        [&] { conflict.loss(ConstView(rows.data(), tokens, n), View(to, tokens, cols)); });
  };
  CHECK(loss(3, 2, dlogit.data(), 2) == "moe: logit: expected 2 rows, got 3");
  CHECK(loss(2, 1, dlogit.data(), 1) == "moe: logit: expected at least 2 columns, got 1");
  CHECK(loss(2, 2, dlogit.data(), 3) == "moe: dlogit: expected a matrix of 2 x 2, got 2 x 3");
  CHECK(loss(2, 2, rows.data() + 1, 2).find("moe: dlogit: expected memory apart from logit") == 0);
  CHECK(dlogit == std::vector<double>(8, 9));
}
