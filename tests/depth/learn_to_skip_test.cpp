#include "moe/depth/learn_to_skip.hpp"

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

TEST_CASE("Learning to Skip keeps the laws of layers", "[depth]") {
  // Straight through: what its gradient is, the case below says.
  test::check_layer("LearnToSkip", [] { return moe::learn_to_skip({.width = 3}, PastBlock(3)); },
                    {.gradients = false});
}

TEST_CASE("rows execute or keep their bits; the loss holds the mean, in a plain loop", "[depth][smoke]") {
  test::DepthCall call(9, 3, {0, 4, 9});
  auto layer = moe::learn_to_skip({.width = 3, .target = 0.3, .coefficient = 0.7, .noise = 0}, PastBlock(3));
  test::draw_all_parameters(layer, 5, 2);
  Rows w;
  layer.visit_parameters([&](const moe::Parameter<double>& p) {
    for (Index i = 0; std::string(p.name) == "router.gate.weight" && i < 6; ++i)
      w.push_back(p.value(i / 3, i % 3));
  });
  const auto tape = call.train(layer);
  auto gradients = call.backward(layer, tape, 1.5);
  double mean = 0;
  Rows share, f(27, 0);
  Index executed = 0;
  for (std::size_t s = 1; s < call.ends.size(); ++s) {
    Rows x;
    std::vector<Index> position;
    for (Index t = call.ends[s - 1]; t < call.ends[s]; ++t) {
      const Rows row = call.row(call.x, t);
      double l = 0;
      for (std::size_t j = 0; j < 3; ++j) l += (w[j] - w[3 + j]) * row[j];
      share.push_back(1 / (1 + std::exp(-l)));
      mean += share.back() / 9;
      if (share.back() < 0.5) continue;
      position.push_back(t - call.ends[s - 1]);
      x.insert(x.end(), row.begin(), row.end());
      ++executed;
    }
    const Rows of = layer.block()(x, position);
    for (std::size_t i = 0; i < position.size(); ++i) {
      const auto t = static_cast<std::size_t>(call.ends[s - 1] + position[i]);
      for (std::size_t j = 0; j < 3; ++j) f[3 * t + j] = of[3 * i + j];
    }
  }
  CHECK((executed > 0 && executed < 9));
  CHECK(std::abs(call.out.losses.total() - 0.7 * (mean - 0.3) * (mean - 0.3)) < 1e-15);
  Rows want(6, 0);
  for (Index t = 0; t < 9; ++t) {
    const auto at = static_cast<std::size_t>(t);
    const Rows x = call.row(call.x, t), dy = call.row(call.dy, t);
    if (share[at] < 0.5) CHECK(test::same_bits(call.row(call.y, t), x));
    double dm = 1.5 * 0.7 * 2 * (mean - 0.3) / 9;
    for (std::size_t j = 0; j < 3; ++j) {
      CHECK(std::abs(call.y[3 * at + j] - (x[j] + f[3 * at + j])) < 1e-15);
      dm += dy[j] * f[3 * at + j];  // 0 for the rows that did not execute
    }
    for (std::size_t j = 0; j < 3; ++j) {
      want[j] += dm * share[at] * (1 - share[at]) * x[j];
      want[3 + j] -= dm * share[at] * (1 - share[at]) * x[j];
    }
  }
  layer.visit_parameters(gradients, [&](const moe::Parameter<double>& p) {
    for (Index i = 0; std::string(p.name) == "router.gate.weight" && i < 6; ++i)
      CHECK(std::abs(p.gradient(i / 3, i % 3) - want[static_cast<std::size_t>(i)]) < 1e-14);
  });
}

TEST_CASE("noise belongs to training, which needs draws; a row that draws executes as often as its share",
          "[depth]") {
  test::DepthCall call(2000, 3, {0, 2000});
  for (Index t = 0; t < 2000; ++t) {
    for (std::size_t j = 0; j < 3; ++j) call.x[static_cast<std::size_t>(3 * t) + j] = j == 0 ? 1 : 0;
  }
  auto layer = moe::learn_to_skip({.width = 3}, PastBlock(3, 0.3, false));
  layer.visit_parameters([](const moe::Parameter<double>& p) {
    if (std::string(p.name) == "router.gate.weight") p.value(1, 0) = 1;
  });
  const auto tape = call.train(layer);
  const double share = 1 / (1 + std::exp(1.0));
  CHECK(std::abs(static_cast<double>(tape.routes().pairs()) / 2000 - share) <
        4 * std::sqrt(share * (1 - share) / 2000));
  call.forward(layer);
  CHECK(test::same_bits(call.y, call.x));
  call.in.draws = nullptr;
  CHECK_THROWS_AS(call.train(layer), moe::config_error);
  call.forward(layer);
  CHECK_THROWS_AS(moe::learn_to_skip({.width = 0}, PastBlock(3)), moe::config_error);
  CHECK_THROWS_AS(moe::learn_to_skip({.width = 3, .target = -0.1}, PastBlock(3)), moe::config_error);
  CHECK_THROWS_AS(moe::learn_to_skip({.width = 3, .coefficient = std::nan("")}, PastBlock(3)),
                  moe::config_error);
  CHECK_THROWS_AS(moe::learn_to_skip({.width = 3, .noise = -1}, PastBlock(3)), moe::config_error);
}
