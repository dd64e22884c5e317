// Parts of routers that decide how deep a row goes, which are in no list: they are made for one or two
// outputs of one meaning. Layers of them: tests/depth.
#include "moe/router/balance/cost.hpp"
#include "moe/router/balance/focal.hpp"
#include "moe/router/balance/ratio.hpp"
#include "moe/router/balance/taken.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/scorer/features.hpp"
#include "moe/router/scorer/foreseen.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/scorer/window_pool.hpp"
#include "moe/router/scorer/zero_last.hpp"
#include "moe/router/selection/foreseen_top_k.hpp"
#include "moe/router/selection/gate.hpp"
#include "moe/router/weighting/gate.hpp"

#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "support/catch.hpp"

namespace {

using moe::ExpertId;
using moe::Index;

/// What a router of one row of logits chooses and weighs.
struct One {
  std::array<double, 2> logit{}, score{};
  moe::RouterInput<double> in{};
  std::array<ExpertId, 2> id{};
  std::array<double, 2> weight{};
  std::array<bool, 2> keep{};

  Index choose(const moe::GateSelection& gate, const moe::GateWeighting& weighting) {
    const moe::RowContext<double> row{in, 0, 2, logit.data(), score.data()};
    std::array<double, 2> choice = score;
    const Index count = gate.select(row, choice.data(), id.data());
    weighting.forward(row, moe::Chosen{id.data(), count}, weight.data(), keep.data());
    return count;
  }
};

/// A loss over two rows of two logits, their softmaxes as scores and probabilities.
struct Two {
  std::array<double, 4> logit{1.2, -0.4, -0.7, 0.3}, score{};
  std::array<ExpertId, 2> chosen{0, 1};
  std::array<Index, 2> count{1, 1};
  std::array<double, 2> weight{1, 1};
  std::array<bool, 2> keep{true, true}, active{true, true};
  std::array<std::int32_t, 2> label{0, 0};
  moe::RouterInput<double> call{};

  moe::BalanceInput<double> in() {
    for (std::size_t t = 0; t < 2; ++t) {
      score[2 * t] = 1 / (1 + std::exp(logit[2 * t + 1] - logit[2 * t]));
      score[2 * t + 1] = 1 - score[2 * t];
    }
    call.label = label;
    moe::BalanceInput<double> b{.call = call,
                                .logit = {logit.data(), 2, 2},
                                .score = {score.data(), 2, 2},
                                .probability = {score.data(), 2, 2}};
    b.chosen = chosen.data();
    b.chosen_count = count.data();
    b.weight = weight.data();
    b.keep = keep.data();
    b.most = 1;
    b.active = active.data();
    for (const bool a : active) b.active_count += a ? 1 : 0;
    return b;
  }

  /// d loss / d logit by the loss's own backward, scores and probabilities through the softmax.
  template <class Loss>
  std::array<double, 4> gradient(const Loss& loss, double scale) {
    std::array<double, 4> dlogit{}, dscore{}, dprobability{};
    const moe::BalanceInput<double> b = in();
    moe::Arena none;
    moe::BalanceGradients<double> out{};
    out.dlogit = moe::MatrixView<double>(dlogit.data(), 2, 2);
    out.dscore = moe::MatrixView<double>(dscore.data(), 2, 2);
    out.dprobability = moe::MatrixView<double>(dprobability.data(), 2, 2);
    loss.backward(b, scale, out, none);
    for (std::size_t t = 0; t < 2; ++t) {
      const double p = score[2 * t];
      const double dp = dprobability[2 * t] + dscore[2 * t] - dprobability[2 * t + 1] - dscore[2 * t + 1];
      dlogit[2 * t] += dp * p * (1 - p);
      dlogit[2 * t + 1] -= dp * p * (1 - p);
    }
    return dlogit;
  }
  template <class Loss>
  double value(const Loss& loss) {
    moe::Arena none;
    return loss.forward(in(), none);
  }
  template <class Loss>
  void check_differences(const Loss& loss) {
    const std::array<double, 4> analytic = gradient(loss, 1.5);
    for (std::size_t i = 0; i < 4; ++i) {
      const double h = 1e-5, old = logit[i];
      logit[i] = old + h;
      const double up = value(loss);
      logit[i] = old - h;
      const double down = value(loss);
      logit[i] = old;
      CHECK(std::abs(1.5 * (up - down) / (2 * h) - analytic[i]) < 1e-9);
    }
  }
};

}  // namespace

TEST_CASE("a gate: the threshold itself executes, a masked first output never", "[router]") {
  const moe::GateSelection gate(moe::GateSelection::Options{});
  const moe::GateWeighting hard({.straight_through = true}), soft({.experts = 2, .scale = 0.5});
  One one;
  one.score = {0.5, 0.5};
  CHECK(one.choose(gate, soft) == 1);
  CHECK((one.id[0] == 0 && one.weight[0] == 0.25 && one.keep[0]));
  one.score = {0.49, 0.51};
  one.choose(gate, soft);
  CHECK((one.id[0] == 1 && one.weight[0] == 0.255 && one.keep[0]));
  one.choose(gate, hard);
  CHECK((one.weight[0] == 1 && !one.keep[0]));
  one.in.options.threshold = 0.4;
  one.choose(gate, hard);
  CHECK((one.id[0] == 0 && one.weight[0] == 1 && one.keep[0]));
  one.in.options.threshold = 0.6;
  one.in.training = true;
  one.choose(moe::GateSelection({.all_in_training = true}), hard);
  CHECK((one.id[0] == 0 && one.weight[0] == 0 && one.keep[0]));
  one.score = {-std::numeric_limits<double>::infinity(), 1};
  one.choose(gate, soft);
  CHECK(one.id[0] == 1);
}

TEST_CASE("a gate's gradient: the scale, or straight through; none for what is nothing", "[router]") {
  One one;
  const moe::RowContext<double> row{one.in, 0, 2, one.logit.data(), one.score.data()};
  const std::array<double, 1> dweight{3};
  const auto dscore = [&](const moe::GateWeighting& weighting, ExpertId id) {
    std::array<double, 2> d{1, 1};
    weighting.backward(row, moe::Chosen{&id, 1}, dweight.data(), d.data());
    return d;
  };
  CHECK(dscore(moe::GateWeighting({.scale = 0.5}), 0) == std::array<double, 2>{2.5, 1});
  CHECK(dscore(moe::GateWeighting({.straight_through = true, .scale = 0.5}), 0) ==
        std::array<double, 2>{4, 1});
  CHECK(dscore(moe::GateWeighting({.experts = 1}), 1) == std::array<double, 2>{1, 1});
  CHECK(dscore(moe::GateWeighting({.experts = 2}), 1) == std::array<double, 2>{1, 4});
  CHECK_THROWS_AS(moe::GateSelection({.threshold = 1}), moe::config_error);
  CHECK_THROWS_AS(moe::GateWeighting({.experts = 0}), moe::config_error);
  CHECK_THROWS_AS(moe::GateWeighting({.threshold = -0.1}), moe::config_error);
  CHECK_THROWS_AS(moe::GateWeighting({.scale = std::nan("")}), moe::config_error);
}

TEST_CASE("losses of gates: values by hand, gradients by differences", "[router]") {
  Two two;
  two.in();
  const double p0 = two.score[0], p1 = two.score[2];
  const moe::RatioLoss squared({.coefficient = 2, .target = 0.3, .output = 1});
  const double off = 1 - (p0 + p1) / 2 - 0.3;
  CHECK(std::abs(two.value(squared) - 2 * off * off) < 1e-15);
  two.check_differences(squared);

  const moe::CostLoss cost({.coefficient = 0.5, .cost = {3, 1}});
  CHECK(std::abs(two.value(cost) - 0.5 * (2 * (p0 + p1) + 2) / 2) < 1e-15);
  two.check_differences(cost);

  const moe::TakenLoss taken({.coefficient = 0.7});
  two.count = {1, 0};
  const auto entropy = [](double l) { return std::log(1 + std::exp(-l)); };
  CHECK(std::abs(two.value(taken) - 0.7 * (entropy(-0.4) + entropy(-0.3)) / 2) < 1e-15);
  two.check_differences(taken);
  two.logit = {0, 900, 0, -900};
  CHECK(two.value(taken) == 0);  // and no overflow
  two.logit = {1.2, -0.4, -0.7, 0.3};

  for (const double gamma : {0.0, 1.0, 2.5}) {
    two.label = {0, 1};
    const moe::FocalLoss focal({.gamma = gamma, .weight = {0.5, 2}});
    const double want =
        -(0.5 * std::pow(1 - p0, gamma) * std::log(p0) + 2 * std::pow(p1, gamma) * std::log(1 - p1)) / 2;
    CHECK(std::abs(two.value(focal) - want) < 1e-15);
    two.check_differences(focal);
  }
  two.active = {false, false};
  for (const double g : two.gradient(squared, 1)) CHECK(g == 0);
  CHECK(two.value(squared) + two.value(cost) + two.value(taken) == 0);
}

TEST_CASE("what executes above a share: one-sided, over the rows that weigh", "[router]") {
  Two two;
  two.chosen = {0, 0};
  two.weight = {1, 0};
  const moe::RatioLoss above({.coefficient = 2, .target = 0.2, .form = moe::RatioForm::above});
  CHECK(std::abs(two.value(above) - 2 * (0.5 - 0.2)) < 1e-15);
  const double p = (two.in(), two.score[0]);
  CHECK(std::abs(two.gradient(above, 1)[0] - 2 * 0.5 * p * (1 - p)) < 1e-15);
  const moe::RatioLoss at({.target = 0.5, .form = moe::RatioForm::above});
  CHECK(two.value(at) == 0);
  CHECK(two.gradient(at, 1) == std::array<double, 4>{});
  CHECK(two.value(moe::RatioLoss({.target = 0.9, .form = moe::RatioForm::above})) == 0);
  CHECK_THROWS_AS(moe::RatioLoss({.output = -1}), moe::config_error);
  CHECK_THROWS_AS(moe::RatioLoss({.output = 2}).check(2), moe::config_error);
  CHECK_THROWS_AS(moe::RatioLoss({.target = std::nan("")}), moe::config_error);
}

TEST_CASE("scorers put together refuse what does not fit", "[router]") {
  using Linear = moe::LinearScorer<double>;
  using Foreseen = moe::ForeseenScorer<Linear, Linear>;
  const auto linear = [](Index width, Index outputs) { return Linear({.width = width, .outputs = outputs}); };
  CHECK(moe::ZeroLast<Linear>(linear(3, 2)).outputs() == 3);
  CHECK(Foreseen(linear(3, 1), linear(3, 1)).outputs() == 2);
  CHECK(Foreseen(linear(3, 1), std::nullopt).outputs() == 1);
  CHECK_THROWS_AS(Foreseen(linear(3, 1), linear(2, 1)), moe::shape_error);
  CHECK_THROWS_AS(Foreseen(linear(3, 1), linear(3, 2)), moe::config_error);
  CHECK_THROWS_AS(moe::WindowPool<Linear>(linear(3, 2), 0), moe::config_error);
  CHECK(moe::FeatureScorer<Linear>(linear(4, 1)).width() == 0);
  CHECK_THROWS_AS(moe::ForeseenTopK({.share = 0.5}).check(3), moe::config_error);
}

TEST_CASE("a window without rows counts for nothing, and rows that are spoiled have no part", "[router]") {
  using Linear = moe::LinearScorer<double>;
  Linear linear({.width = 1, .outputs = 1});
  auto set = [](const moe::Parameter<double>& p) { p.value(0, 0) = 2; };
  linear.visit_parameters(nullptr, set);
  const moe::WindowPool<Linear> pool(linear, 3);
  const std::array<double, 6> x{1, 3, std::numeric_limits<double>::quiet_NaN(), 7, 8, 5};
  const std::array<bool, 6> valid{true, true, true, false, true, false};
  const std::array<Index, 2> ends{0, 6};
  moe::RouterInput<double> in;
  in.x = moe::ConstMatrixView<double>(x.data(), 6, 1);
  in.valid = valid;
  in.segments = moe::Segments(std::span<const Index>(ends));
  std::array<double, 6> logit{};
  moe::Arena measuring;
  pool.measure(measuring, 6, 1);
  moe::Workspace workspace;
  moe::Arena arena = workspace.arena(measuring.bytes());
  moe::SerialExecutor serial;
  pool.logits(in, moe::Logits<double>{.value = {logit.data(), 6, 1}}, nullptr, arena, serial);
  // Windows {1, 3}, {NaN, padding}, {8, padding}: logits 4, none, 16.
  CHECK(logit[0] == 10);
  CHECK(logit[1] == 10);
  CHECK(logit[4] == 10);
  CHECK(std::isnan(logit[2]));
}
