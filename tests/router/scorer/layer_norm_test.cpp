#include "moe/router/scorer/layer_norm.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/router_laws.hpp"

namespace {

using moe::Index;
using Scorer = moe::LayerNormScorer<moe::LinearScorer<double>>;
using Router = moe::TokenChoice<Scorer, moe::Softmax, moe::TopKSelection, moe::GatherWeighting>;

}  // namespace

TEST_CASE("rows are centred, divided by their deviation, scaled and shifted", "[layer_norm_scorer]") {
  // W = identity shows what was read.
  Scorer scorer(moe::LinearScorer<double>({.width = 4, .outputs = 4}), 0.5);
  const std::vector<double> scale{1, -2, 0.5, 3}, shift{0.25, 0, -1, 2};
  auto set = [&](const moe::Parameter<double>& p) {
    const std::string name = p.name;
    for (Index j = 0; j < 4; ++j) {
      if (name == "gate.weight") {
        p.value(j, j) = 1;
      } else {
        p.value(j, 0) = (name == "norm.scale" ? scale : shift)[static_cast<std::size_t>(j)];
      }
    }
  };
  scorer.visit_parameters(nullptr, set);
  auto call = test::random_call<double>(3, 4, 1);
  std::vector<double> out(12);
  moe::Logits<double> logits;
  logits.value = moe::MatrixView<double>(out.data(), 3, 4);
  test::MeasuredMemory memory([&](moe::Arena& a) { scorer.measure(a, 3, 1); });
  moe::Arena arena = memory.arena();
  moe::SerialExecutor serial;
  scorer.logits(call.input(), logits, nullptr, arena, serial);
  for (Index t = 0; t < 3; ++t) {
    double mean = 0, squares = 0, most = 0;
    for (Index j = 0; j < 4; ++j) mean += call.row(t)[j] / 4, most = std::max(most, std::abs(call.row(t)[j]));
    for (Index j = 0; j < 4; ++j) squares += (call.row(t)[j] - mean) * (call.row(t)[j] - mean);
    for (Index j = 0; j < 4; ++j) {
      const auto i = static_cast<std::size_t>(j);
      const double inverse = 1 / std::sqrt(squares / 4 + 0.5);
      const double want = (call.row(t)[j] - mean) * inverse * scale[i] + shift[i];
      CHECK(std::abs(out[static_cast<std::size_t>(4 * t) + i] - want) <=
            64 * 0x1p-52 * (1 + most * inverse * std::abs(scale[i])));
    }
  }
}

TEST_CASE("rows behind a layer norm obey the laws of routers and match central differences",
          "[layer_norm_scorer]") {
  Router router(Scorer(moe::LinearScorer<double>({.width = 5, .outputs = 7}), 1e-5), moe::Softmax{},
                moe::TopKSelection(3), moe::GatherWeighting{});
  test::randomise(router, 3);
  test::check_router_laws(router);
  test::check_router_gradients(router, 5);
}

TEST_CASE("an eps of a layer norm is a finite number", "[layer_norm_scorer]") {
  for (const double eps : {-1.0, std::numeric_limits<double>::quiet_NaN()}) {
    CHECK_THROWS_AS(Scorer(moe::LinearScorer<double>({.width = 4, .outputs = 4}), eps), moe::config_error);
  }
}
