#include "moe/depth/router_tuning.hpp"

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
using Token = moe::TokenRouterTuning<PastBlock>;

/// The router's weights.
template <class Layer>
void set(Layer& layer, std::array<double, 3> w) {
  layer.visit_parameters([&](const moe::Parameter<double>& p) {
    if (std::string(p.name) != "router.gate.weight") return;
    for (Index j = 0; j < 3; ++j) p.value(0, j) = w[static_cast<std::size_t>(j)];
  });
}

}  // namespace

TEST_CASE("Router-Tuning keeps the laws of layers", "[depth]") {
  // Straight through: what its gradient is, the cases below say.
  const test::LayerCall call{.ends = {0, 3, 3, 7}, .gradients = false};
  test::check_layer(
      "RouterTuning", [] { return moe::router_tuning({.width = 3}, PastBlock(3)); }, call);
  test::check_layer(
      "TokenRouterTuning", [] { return moe::token_router_tuning({.width = 3}, PastBlock(3)); }, call);
}

TEST_CASE("a sequence executes or is skipped as a whole, and exactly 1/2 executes", "[depth][smoke]") {
  test::DepthCall call(6, 3, {0, 2, 4, 6});
  // Means of the first column: 1, 0 and -1.
  const Rows first{2, 0, 3, -3, -1.5, -0.5};
  for (Index t = 0; t < 6; ++t) call.x[static_cast<std::size_t>(3 * t)] = first[static_cast<std::size_t>(t)];
  auto layer = moe::router_tuning({.width = 3}, PastBlock(3));
  set(layer, {4, 0, 0});
  for (const bool training : {false, true}) {
    CAPTURE(training);
    if (training) call.train(layer);
    if (!training) call.forward(layer);
    for (const Index begin : std::array<Index, 2>{0, 2}) {
      Rows x = call.row(call.x, begin);
      for (const double v : call.row(call.x, begin + 1)) x.push_back(v);
      const Rows f = layer.block()(x, {0, 1});
      for (std::size_t i = 0; i < 6; ++i) {
        CHECK(std::abs(call.y[static_cast<std::size_t>(3 * begin) + i] - (x[i] + f[i])) < 1e-15);
      }
    }
    for (const Index t : std::array<Index, 2>{4, 5})
      CHECK(test::same_bits(call.row(call.y, t), call.row(call.x, t)));
  }
  call.in.options.threshold = 0.6;
  call.forward(layer);
  CHECK(test::same_bits(call.row(call.y, 2), call.row(call.x, 2)));
}

TEST_CASE("the loss is what executes above the capacity, and 0 at it", "[depth]") {
  test::DepthCall call(4, 3, {0, 4});
  for (Index t = 0; t < 4; ++t) call.x[static_cast<std::size_t>(3 * t)] = t < 3 ? 1.0 : -1.0;
  for (const double capacity : {0.25, 0.75, 1.0}) {
    auto layer = moe::token_router_tuning({.width = 3, .capacity = capacity, .coefficient = 2}, PastBlock(3));
    set(layer, {5, 0, 0});
    const auto tape = call.train(layer);
    CHECK(call.out.losses.total() == (capacity < 0.75 ? 2 * (0.75 - capacity) : 0.0));
    call.dy.assign(call.dy.size(), 0);
    auto gradients = call.backward(layer, tape);
    // d loss / d score = 2 / T above the capacity, through sigma'(5 or -5) and the row.
    const double slope = 1 / (1 + std::exp(-5.0)) / (1 + std::exp(5.0));
    layer.visit_parameters(gradients, [&](const moe::Parameter<double>& p) {
      if (std::string(p.name) != "router.gate.weight") return;
      for (Index j = 0; j < 3; ++j) {
        double sum = 0;
        for (Index t = 0; t < 4; ++t) sum += call.x[static_cast<std::size_t>(3 * t + j)];
        CHECK(std::abs(p.gradient(0, j) - (capacity < 0.75 ? 0.5 * slope * sum : 0)) < 1e-15);
      }
    });
  }
}

TEST_CASE("rows that are skipped teach the router too: what they would have had", "[depth]") {
  test::DepthCall call(3, 3, {0, 3});
  auto layer = moe::token_router_tuning({.width = 3, .coefficient = 0}, PastBlock(3));
  set(layer, {3, -2, 1});
  const auto tape = call.train(layer);
  const Rows f = layer.block()(call.x, {0, 1, 2});
  auto gradients = call.backward(layer, tape);
  std::array<double, 3> want{};
  Index skipped = 0;
  for (Index t = 0; t < 3; ++t) {
    const Rows x = call.row(call.x, t), dy = call.row(call.dy, t);
    const double p = 1 / (1 + std::exp(-(3 * x[0] - 2 * x[1] + x[2])));
    double dm = 0;
    for (std::size_t j = 0; j < 3; ++j) dm += dy[j] * f[static_cast<std::size_t>(3 * t) + j];
    for (std::size_t j = 0; j < 3; ++j) want[j] += dm * p * (1 - p) * x[j];
    skipped += p < 0.5 ? 1 : 0;
  }
  CHECK((skipped > 0 && skipped < 3));
  layer.visit_parameters(gradients, [&](const moe::Parameter<double>& p) {
    if (std::string(p.name) != "router.gate.weight") return;
    for (Index j = 0; j < 3; ++j)
      CHECK(std::abs(p.gradient(0, j) - want[static_cast<std::size_t>(j)]) < 1e-14);
  });
}

TEST_CASE("Router-Tuning refuses what it cannot obey", "[depth]") {
  const auto of = [](moe::RouterTuningOptions options) { return moe::router_tuning(options, PastBlock(3)); };
  CHECK_THROWS_AS(of({.width = 0}), moe::config_error);
  CHECK_THROWS_AS(of({.width = 3, .threshold = 0}), moe::config_error);
  CHECK_THROWS_AS(of({.width = 3, .threshold = std::nan("")}), moe::config_error);
  CHECK_THROWS_AS(of({.width = 3, .capacity = 1.1}), moe::config_error);
  CHECK_THROWS_AS(of({.width = 3, .coefficient = INFINITY}), moe::config_error);
  test::DepthCall call(4, 3, {0, 4});
  const Token layer = moe::token_router_tuning({.width = 3}, PastBlock(3));
  call.in.options.capacity_factor = 0.5;
  CHECK_THROWS_AS(call.forward(layer), moe::config_error);
}
