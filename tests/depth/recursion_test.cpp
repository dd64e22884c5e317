#include "moe/depth/recursion.hpp"

#include <algorithm>
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
using Layer = moe::MixtureOfRecursions<PastBlock>;

Layer made(std::vector<double> shares, bool predictor = true) {
  Layer layer = moe::mixture_of_recursions(
      {.width = 3, .shares = std::move(shares), .scale = 0.8, .predictor = predictor}, PastBlock(3));
  test::draw_all_parameters(layer, 6);
  return layer;
}

}  // namespace

TEST_CASE("Mixture-of-Recursions keeps the laws of layers, by either choice", "[depth]") {
  test::check_layer("loss", [] {
    return moe::mixture_of_recursions({.width = 3, .shares = {1, 0.6, 0.3}, .predictor = false},
                                      PastBlock(3));
  });
  // Without the loss, whose gradient stops at x: tests/depth/mixture_of_depths_test.cpp has its differences.
  test::check_layer("predictor", [] {
    return moe::mixture_of_recursions({.width = 3, .shares = {0.9, 0.5}, .coefficient = 0}, PastBlock(3));
  });
  test::check_layer("token", [] { return moe::token_recursions({.width = 3, .depths = 3}, PastBlock(3)); });
}

TEST_CASE("sets are nested, and each recursion is the block's rows times scale sigma", "[depth][smoke]") {
  test::DepthCall call(13, 3, {0, 6, 13});
  Layer layer = made({1, 0.5, 0.34}, false);
  const auto tape = call.train(layer);
  std::vector<Rows> w;
  test::visit_layer(layer, [&](const moe::Parameter<double>& p) {
    if (std::string(p.name).find("gate.weight") == std::string::npos) return;
    w.push_back({p.value(0, 0), p.value(0, 1), p.value(0, 2)});
  });
  REQUIRE(w.size() == 3);
  Rows h = call.x;
  std::vector<std::vector<Index>> still{{0, 1, 2, 3, 4, 5}, {6, 7, 8, 9, 10, 11, 12}};
  const std::vector<double> factor{1, 0.5, 0.34 / 0.5};
  for (std::size_t r = 0; r < 3; ++r) {
    Rows next = h;
    for (std::size_t s = 0; s < 2; ++s) {
      const auto score = [&](Index t) {
        double sum = 0;
        for (std::size_t j = 0; j < 3; ++j) sum += w[r][j] * h[static_cast<std::size_t>(3 * t) + j];
        return sum;
      };
      std::vector<Index> best = still[s];
      std::sort(best.begin(), best.end(), [&](Index a, Index b) { return score(a) > score(b); });
      best.resize(
          std::max<std::size_t>(1, static_cast<std::size_t>(static_cast<double>(best.size()) * factor[r])));
      std::sort(best.begin(), best.end());
      CHECK(std::includes(still[s].begin(), still[s].end(), best.begin(), best.end()));
      Rows x;
      std::vector<Index> position;
      for (const Index t : best) {
        position.push_back(t - call.ends[s]);
        x.insert(x.end(), h.begin() + 3 * t, h.begin() + 3 * t + 3);
        CHECK(tape.routes(static_cast<Index>(r)).count(t) == 1);
      }
      const Rows f = layer.block()(x, position);
      for (std::size_t i = 0; i < best.size(); ++i) {
        const double g = 0.8 / (1 + std::exp(-score(best[i])));
        for (std::size_t j = 0; j < 3; ++j)
          next[static_cast<std::size_t>(3 * best[i]) + j] += g * f[3 * i + j];
      }
      still[s] = best;
    }
    CHECK(tape.routes(static_cast<Index>(r)).pairs() ==
          static_cast<Index>(still[0].size() + still[1].size()));
    h = next;
  }
  for (std::size_t i = 0; i < h.size(); ++i) CHECK(std::abs(call.y[i] - h[i]) < 1e-14);
}

TEST_CASE("one recursion of all rows is the block; inference is causal and nested too", "[depth]") {
  test::DepthCall call(6, 3, {0, 6});
  Layer one = made({1});
  test::visit_layer(one, [](const moe::Parameter<double>& p) {
    if (std::string(p.name) == "router.gate.weight") p.value(0, 0) = p.value(0, 1) = p.value(0, 2) = 0;
  });
  call.train(one);
  const Rows f = one.block()(call.x, {0, 1, 2, 3, 4, 5});
  for (std::size_t i = 0; i < f.size(); ++i) CHECK(std::abs(call.y[i] - (call.x[i] + 0.4 * f[i])) < 1e-15);

  for (const bool predictor : {true, false}) {
    const Layer layer = made({0.8, 0.5}, predictor);
    test::DepthCall now(9, 3, {0, 9}), later(9, 3, {0, 9});
    for (std::size_t i = 18; i < 27; ++i) later.x[i] = 2 - later.x[i];
    moe::Workspace workspace;
    auto tape = layer.make_tape();
    now.in.mode = moe::Mode::inference;
    layer.forward_train(now.in, now.out, tape, workspace, test::serial());
    later.forward(layer);
    Index taken = 0;
    for (Index t = 0; t < 9; ++t) {
      if (t < 6) CHECK(test::same_bits(now.row(now.y, t), later.row(later.y, t)));
      CHECK(tape.routes(1).count(t) <= tape.routes(0).count(t));
      taken += tape.routes(0).count(t);
    }
    CHECK((taken > 0 && taken < 9));
  }
}

TEST_CASE("a number of recursions for each row: f once less its depth, and the softmax on the last",
          "[depth]") {
  test::DepthCall call(8, 3, {0, 8});
  auto layer = moe::token_recursions({.width = 3, .depths = 3, .balance = 0.2}, PastBlock(3, 0.3, false));
  test::draw_all_parameters(layer, 3);
  const auto tape = call.train(layer);
  std::vector<Index> of_depth(3, 0);
  for (Index t = 0; t < 8; ++t) {
    const Index depth = 1 + tape.routes().expert[t];
    ++of_depth[static_cast<std::size_t>(depth - 1)];
    Rows h = call.row(call.x, t);
    for (Index r = 1; r <= depth; ++r) {
      const Rows f = layer.block()(h, {t});
      for (std::size_t j = 0; j < 3; ++j) h[j] += (r == depth ? tape.routes().weight[t] : 1.0) * f[j];
    }
    for (std::size_t j = 0; j < 3; ++j) CHECK(std::abs(call.row(call.y, t)[j] - h[j]) < 1e-14);
  }
  CHECK(std::count(of_depth.begin(), of_depth.end(), 0) <= 1);
  CHECK(call.out.losses.total() > 0);
}

TEST_CASE("Mixture-of-Recursions refuses what it cannot obey", "[depth]") {
  const auto of = [](std::vector<double> shares, double scale = 0.1) {
    return moe::mixture_of_recursions({.width = 3, .shares = std::move(shares), .scale = scale},
                                      PastBlock(3));
  };
  CHECK_THROWS_AS(of({}), moe::config_error);
  CHECK_THROWS_AS(of({0.5, 0.6}), moe::config_error);
  CHECK_THROWS_AS(of({1, 0}), moe::config_error);
  CHECK_THROWS_AS(of({1.2}), moe::config_error);
  CHECK_THROWS_AS(of({std::nan("")}), moe::config_error);
  CHECK_THROWS_AS(of({1}, INFINITY), moe::config_error);
  CHECK_THROWS_AS(moe::token_recursions({.width = 3, .depths = 0}, PastBlock(3)), moe::config_error);
  CHECK_THROWS_AS(moe::token_recursions({.width = 3, .balance = std::nan("")}, PastBlock(3)),
                  moe::config_error);
}
