#include "moe/depth/depth_controller.hpp"

#include <array>
#include <cmath>

#include "support/catch.hpp"
#include "support/depth_call.hpp"
#include "support/layer_laws.hpp"
#include "support/past_block.hpp"
#include "support/same_bits.hpp"

namespace {

using moe::Index;
using test::PastBlock;
using Rows = std::vector<double>;

/// Labels of the rows by their numbers, the same for the rows of the segments {0, 3, 7}.
void label(moe::LayerInput<double>& in, const std::vector<Index>& rows) {
  static std::vector<std::vector<std::int32_t>> kept;
  kept.emplace_back();
  for (const Index t : rows) kept.back().push_back(t < 3 ? 2 : 0);
  in.label = kept.back();
  if (kept.size() > 64) kept.erase(kept.begin(), kept.begin() + 32);
}

}  // namespace

TEST_CASE("Dr.LLM keeps the laws of layers", "[depth]") {
  test::check_layer("DrLlm",
                    [] {
                      return moe::dr_llm(
                          {.width = 3, .hidden = 4, .windows = 2, .class_weight = {0.5, 1, 1.5}},
                          PastBlock(3));
                    },
                    {.columns = label});
}

TEST_CASE("skip keeps the bits, execute is the block, repeat is the block twice", "[depth]") {
  test::DepthCall call(6, 3, {0, 2, 4, 6});
  // The mean of the first column of a segment decides: -1 skip, 0 execute, 1 repeat.
  const Rows first{-2, 0, 0.5, -0.5, 3, -1};
  for (Index t = 0; t < 6; ++t) call.x[static_cast<std::size_t>(3 * t)] = first[static_cast<std::size_t>(t)];
  auto layer = moe::dr_llm({.width = 3, .hidden = 1, .windows = 1, .coefficient = 0}, PastBlock(3));
  layer.visit_parameters([](const moe::Parameter<double>& p) {
    const std::string name = p.name;
    if (name == "router.gate.0.weight") p.value(0, 0) = 1;
    if (name == "router.gate.2.weight") p.value(0, 0) = -4, p.value(2, 0) = 4;
    if (name == "router.gate.2.bias") p.value(1, 0) = 1;
  });
  call.forward(layer);
  for (const Index t : std::array<Index, 2>{0, 1})
    CHECK(test::same_bits(call.row(call.y, t), call.row(call.x, t)));
  for (const Index begin : std::array<Index, 2>{2, 4}) {
    Rows h = call.row(call.x, begin);
    for (const double v : call.row(call.x, begin + 1)) h.push_back(v);
    for (Index pass = 0; pass < begin / 2; ++pass) {
      const Rows f = layer.block()(h, {0, 1});
      for (std::size_t i = 0; i < 6; ++i) h[i] += f[i];
    }
    for (std::size_t i = 0; i < 6; ++i)
      CHECK(std::abs(call.y[static_cast<std::size_t>(3 * begin) + i] - h[i]) < 1e-15);
  }
}

TEST_CASE("windows: the mean over them of the router's logits of their means, in a plain loop",
          "[depth][smoke]") {
  test::DepthCall call(7, 3, {0, 7});
  auto layer = moe::dr_llm({.width = 3, .hidden = 2, .windows = 3, .gamma = 3, .class_weight = {2, 0.5, 1}},
                           PastBlock(3));
  test::draw_all_parameters(layer, 2);
  std::array<Rows, 4> w;
  layer.visit_parameters([&](const moe::Parameter<double>& p) {
    const std::array<const char*, 4> names{"router.gate.0.weight", "router.gate.0.bias",
                                           "router.gate.2.weight", "router.gate.2.bias"};
    for (std::size_t k = 0; k < 4; ++k) {
      for (Index i = 0; std::string(p.name) == names[k] && i < p.value.size(); ++i)
        w[k].push_back(p.value(i / p.value.cols, i % p.value.cols));
    }
  });
  const std::vector<std::int32_t> labels(7, 1);
  call.in.label = labels;
  const auto tape = call.train(layer);
  Rows logit(3, 0);
  const std::array<Index, 4> ends{0, 3, 6, 7};  // 3 rows each, the last window shorter
  for (std::size_t v = 1; v < 4; ++v) {
    Rows mean(3, 0), h(2);
    for (Index t = ends[v - 1]; t < ends[v]; ++t) {
      for (std::size_t j = 0; j < 3; ++j)
        mean[j] += call.row(call.x, t)[j] / static_cast<double>(ends[v] - ends[v - 1]);
    }
    for (std::size_t o = 0; o < 2; ++o) {
      h[o] = w[1][o];
      for (std::size_t j = 0; j < 3; ++j) h[o] += w[0][3 * o + j] * mean[j];
      h[o] = std::tanh(h[o]);
    }
    for (std::size_t e = 0; e < 3; ++e)
      logit[e] += (w[3][e] + w[2][2 * e] * h[0] + w[2][2 * e + 1] * h[1]) / 3;
  }
  Index best = 0;
  double sum = 0;
  for (Index e = 0; e < 3; ++e) {
    sum += std::exp(logit[static_cast<std::size_t>(e)]);
    if (logit[static_cast<std::size_t>(e)] > logit[static_cast<std::size_t>(best)]) best = e;
  }
  for (Index t = 0; t < 7; ++t) CHECK(tape.routes().expert[t] == best);
  const double p = std::exp(logit[1]) / sum;
  CHECK(std::abs(call.out.losses.total() + 0.5 * std::pow(1 - p, 3) * std::log(p)) < 1e-14);
}

TEST_CASE("classes of rare labels weigh more; what does not fit is refused", "[depth]") {
  const std::vector<double> weight = moe::class_balance({1, 10, 1000}, 0.99);
  CHECK(std::abs(weight[0] + weight[1] + weight[2] - 3) < 1e-14);
  CHECK(std::abs(weight[0] / weight[1] - (1 - std::pow(0.99, 10)) / 0.01) < 1e-10);
  CHECK(moe::class_balance({5, 7}, 0) == std::vector<double>{1, 1});
  CHECK_THROWS_AS(moe::class_balance({}, 0.5), moe::config_error);
  CHECK_THROWS_AS(moe::class_balance({1}, 1), moe::config_error);
  CHECK_THROWS_AS(moe::class_balance({-1}, 0.5), moe::config_error);
  const auto of = [](moe::DrLlmOptions options) { return moe::dr_llm(options, PastBlock(3)); };
  CHECK_THROWS_AS(of({.width = 3, .hidden = 0}), moe::config_error);
  CHECK_THROWS_AS(of({.width = 3, .windows = 0}), moe::config_error);
  CHECK_THROWS_AS(of({.width = 3, .gamma = 0.5}), moe::config_error);
  CHECK_THROWS_AS(of({.width = 3, .class_weight = {1, 1}}), moe::config_error);
  CHECK_THROWS_AS(of({.width = 3, .class_weight = {1, 1, -1}}), moe::config_error);
  CHECK_THROWS_AS(of({.width = 3, .coefficient = std::nan("")}), moe::config_error);
  test::DepthCall call(4, 3, {0, 4});
  const auto layer = of({.width = 3, .hidden = 2});
  CHECK_THROWS_AS(call.train(layer), moe::config_error);
  const std::vector<std::int32_t> labels{0, 1, 2, 3};
  call.in.label = labels;
  CHECK_THROWS_AS(call.train(layer), moe::route_error);
  call.forward(layer);
}
