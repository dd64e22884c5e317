#include "moe/router/scorer/two_layer.hpp"

#include <cmath>
#include <string>
#include <vector>

#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/router_laws.hpp"

namespace {

using moe::Index;
using Scorer = moe::TwoLayerScorer<double>;
using Router = moe::TokenChoice<Scorer, moe::Softmax, moe::TopKSelection, moe::GatherWeighting>;
using Matrix = std::vector<std::vector<double>>;

Router make(bool bias) {
  Router router(Scorer({.width = 5, .hidden = 20, .outputs = 7, .bias = bias}), moe::Softmax{},
                moe::TopKSelection(3), moe::GatherWeighting{});
  test::randomise(router, 3);
  return router;
}

}  // namespace

TEST_CASE("two layers with a tanh between them", "[two_layer_scorer]") {
  auto router = make(true);
  Matrix w[2], b[2];
  auto copy = [&](const moe::Parameter<double>& p) {
    const std::string name = p.name;
    Matrix& to = (name.find("bias") == std::string::npos ? w : b)[name.find("gate.2") == 0 ? 1 : 0];
    for (Index o = 0; o < p.value.rows; ++o) {
      to.emplace_back();
      for (Index i = 0; i < p.value.cols; ++i) to.back().push_back(p.value(o, i));
    }
  };
  router.scorer().visit_parameters(nullptr, copy);
  REQUIRE((w[0].size() == 20 && w[1].size() == 7 && b[0].size() == 20 && b[1].size() == 7));

  const auto call = test::random_call<double>(4, 5, 2);
  std::vector<double> out(28);
  moe::Logits<double> logits;
  logits.value = moe::MatrixView<double>(out.data(), 4, 7);
  test::MeasuredMemory memory([&](moe::Arena& a) { router.scorer().measure(a, 4, 1); });
  moe::Arena arena = memory.arena();
  moe::SerialExecutor serial;
  router.scorer().logits(call.input(), logits, nullptr, arena, serial);
  for (std::size_t t = 0; t < 4; ++t) {
    for (std::size_t e = 0; e < 7; ++e) {
      double sum = b[1][e][0];
      for (std::size_t h = 0; h < 20; ++h) {
        double inner = b[0][h][0];
        for (std::size_t j = 0; j < 5; ++j) inner += w[0][h][j] * call.x[5 * t + j];
        sum += w[1][e][h] * std::tanh(inner);
      }
      CHECK(std::abs(out[7 * t + e] - sum) <= 64 * 0x1p-52 * 21);  // terms below 1, 26 roundings each
    }
  }
}

TEST_CASE("two-layer routers obey the laws and match central differences", "[two_layer_scorer]") {
  for (const bool bias : {false, true}) {
    auto router = make(bias);
    test::check_router_laws(router);
    test::check_router_gradients(router, 4);
  }
}

TEST_CASE("two-layer scorers start at zero and refuse empty layers", "[two_layer_scorer]") {
  Scorer scorer({.width = 3, .hidden = 4, .outputs = 2});
  double sum = 0;
  auto add = [&](const moe::Parameter<double>& p) { sum += std::abs(p.value(0, 0)); };
  scorer.visit_parameters(nullptr, add);
  CHECK(sum == 0);
  scorer.initialise(3);
  scorer.visit_parameters(nullptr, add);
  CHECK(sum > 0);
  CHECK_THROWS_AS(Scorer({.width = 3, .hidden = 0, .outputs = 2}), moe::config_error);
}
