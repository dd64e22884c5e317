#include "moe/depth/paths.hpp"

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

}  // namespace

TEST_CASE("paths through a pool of modules keep the laws of layers", "[depth]") {
  test::check_layer("dna", [] {
    return moe::dna(
        {.width = 3, .steps = 2, .k = 2, .cost = {3, 1, 0}, .cost_coefficient = 0.3, .load_balance = 0.02},
        PastBlock(3), PastBlock(3, 0.5, false));
  });
}

TEST_CASE("a scripted path, attention, MLP, stay, is the modules composed by hand", "[depth][smoke]") {
  test::DepthCall call(5, 3, {0, 2, 5});
  for (Index t = 0; t < 5; ++t) call.x[static_cast<std::size_t>(3 * t)] = 9;
  // Modules that leave the first column alone, which the routers steer by.
  const auto steady = [](PastBlock block) {
    auto still = [](const moe::Parameter<double>& p) { p.value(0, 0) = p.value(0, 1) = p.value(0, 2) = 0; };
    block.visit_parameters(nullptr, still);
    return block;
  };
  auto layer = moe::dna({.width = 3, .steps = 3}, steady(PastBlock(3)), steady(PastBlock(3, 0.5, false)));
  Index step = 0;
  layer.visit_parameters([&](const moe::Parameter<double>& p) {
    if (std::string(p.name).find("gate.weight") != std::string::npos) p.value(step++, 0) = 100;
  });
  REQUIRE(step == 3);
  const auto tape = call.train(layer);
  CHECK(tape.routes(2).pairs() == 0);
  Rows h = call.x;
  for (Index s = 0; s < 2; ++s) {
    Rows next;
    for (std::size_t g = 1; g < call.ends.size(); ++g) {
      Rows x(h.begin() + 3 * call.ends[g - 1], h.begin() + 3 * call.ends[g]);
      std::vector<Index> position;
      for (Index t = call.ends[g - 1]; t < call.ends[g]; ++t) position.push_back(t - call.ends[g - 1]);
      const Rows f = s == 0 ? layer.block<0>()(x, position) : layer.block<1>()(x, position);
      for (std::size_t i = 0; i < x.size(); ++i) next.push_back(x[i] + f[i]);
    }
    h = next;
  }
  for (std::size_t i = 0; i < h.size(); ++i) CHECK(std::abs(call.y[i] - h[i]) < 1e-14);
}

TEST_CASE("costs are those that the router expects, and staying keeps a row's bits", "[depth]") {
  test::DepthCall call(4, 3, {0, 4});
  auto layer = moe::dna({.width = 3, .cost = {2, 0.5}, .cost_coefficient = 0.7}, PastBlock(3));
  test::draw_all_parameters(layer, 5, 3);
  Rows w;
  layer.visit_parameters([&](const moe::Parameter<double>& p) {
    for (Index i = 0; std::string(p.name) == "router.gate.weight" && i < 6; ++i)
      w.push_back(p.value(i / 3, i % 3));
  });
  call.train(layer);
  double sum = 0;
  Index stays = 0;
  for (Index t = 0; t < 4; ++t) {
    const Rows x = call.row(call.x, t);
    double l = 0;
    for (std::size_t j = 0; j < 3; ++j) l += (w[j] - w[3 + j]) * x[j];
    const double p = 1 / (1 + std::exp(-l));
    sum += 2 * p + 0.5 * (1 - p);
    if (p < 0.5) CHECK(test::same_bits(call.row(call.y, t), x));
    stays += p < 0.5 ? 1 : 0;
  }
  CHECK((stays > 0 && stays < 4));
  CHECK(std::abs(call.out.losses.total() - 0.7 * sum / 4) < 1e-14);
}

TEST_CASE("paths refuse options that do not fit", "[depth]") {
  const auto of = [](moe::DnaOptions options) { return moe::dna(options, PastBlock(3), PastBlock(3)); };
  CHECK_THROWS_AS(of({.width = 3, .steps = 0}), moe::config_error);
  CHECK_THROWS_AS(of({.width = 3, .k = 4}), moe::config_error);
  CHECK_THROWS_AS(of({.width = 3, .cost = {1, 1}}), moe::config_error);
  CHECK_THROWS_AS(of({.width = 3, .cost = {1, 1, std::nan("")}}), moe::config_error);
  CHECK_THROWS_AS(of({.width = 3, .cost = {1, 1, 1}, .cost_coefficient = INFINITY}), moe::config_error);
  CHECK_THROWS_AS(of({.width = 3, .load_balance = std::nan("")}), moe::config_error);
}
