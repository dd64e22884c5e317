#include "moe/depth/mixture_of_depths.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "moe/layer/isolated_layer.hpp"
#include "support/catch.hpp"
#include "support/depth_call.hpp"
#include "support/layer_laws.hpp"
#include "support/past_block.hpp"
#include "support/same_bits.hpp"

namespace {

using moe::Foresight;
using moe::Index;
using test::PastBlock;
using Rows = std::vector<double>;
using Layer = moe::MixtureOfDepths<PastBlock>;
static_assert(Layer::coupling(true) == moe::Coupling::per_segment);
static_assert(moe::MixtureOfDepthsRouter<double>::coupling(false) == moe::Coupling::row_independent);

Layer made(double share, Foresight foresight = Foresight::predictor, std::uint64_t seed = 7) {
  Layer layer = moe::mixture_of_depths(
      {.width = 3, .share = share, .foresight = foresight, .coefficient = 0.7}, PastBlock(3));
  if (seed != 0) test::draw_all_parameters(layer, seed, 0.6);
  return layer;
}

/// r of every row, by the router's first parameter.
Rows scores(Layer& layer, const test::DepthCall& call) {
  Rows r;
  layer.visit_parameters([&](const moe::Parameter<double>& p) {
    if (std::string(p.name) != "router.gate.weight") return;
    for (Index t = 0; t < call.tokens; ++t) {
      const Rows x = call.row(call.x, t);
      double sum = 0;
      for (Index j = 0; j < 3; ++j) sum += p.value(0, j) * x[static_cast<std::size_t>(j)];
      r.push_back(sum);
    }
  });
  return r;
}

}  // namespace

TEST_CASE("Mixture-of-Depths keeps the laws of layers, with either foresight", "[depth]") {
  const auto of = [](Foresight foresight, double coefficient) {
    return [=] {
      return moe::mixture_of_depths(
          {.width = 3, .share = 0.6, .foresight = foresight, .coefficient = coefficient}, PastBlock(3));
    };
  };
  test::check_layer("loss", of(Foresight::loss, 0.7), of(Foresight::predictor, 1), {.seed = 2});
  // Differences of the predictor's loss would see x, where its gradient stops: they are taken below.
  test::check_layer("predictor", of(Foresight::predictor, 0), of(Foresight::loss, 1));
}

TEST_CASE("in training the best rows of a sequence go through the block, weighed by r itself",
          "[depth][smoke]") {
  test::DepthCall call(11, 3, {0, 5, 11});
  Layer layer = made(0.5);
  const Rows r = scores(layer, call);
  const auto tape = call.train(layer);
  Rows want = call.x;
  double loss = 0;
  for (std::size_t s = 1; s < call.ends.size(); ++s) {
    const Index begin = call.ends[s - 1], end = call.ends[s], taken = (end - begin) / 2;
    std::vector<Index> order(static_cast<std::size_t>(end - begin));
    std::iota(order.begin(), order.end(), begin);
    std::sort(order.begin(), order.end(), [&](Index a, Index b) {
      return r[static_cast<std::size_t>(a)] > r[static_cast<std::size_t>(b)];
    });
    std::vector<Index> row(order.begin(), order.begin() + taken), position;
    std::sort(row.begin(), row.end());
    Rows x;
    for (const Index t : row) {
      position.push_back(t - begin);
      for (const double v : call.row(call.x, t)) x.push_back(v);
    }
    const Rows f = layer.block()(x, position);
    for (std::size_t i = 0; i < row.size(); ++i) {
      for (std::size_t k = 0; k < 3; ++k) {
        want[static_cast<std::size_t>(row[i]) * 3 + k] += r[static_cast<std::size_t>(row[i])] * f[i * 3 + k];
      }
    }
    for (Index t = begin; t < end; ++t) {
      const bool in = std::count(row.begin(), row.end(), t) > 0;
      CHECK(tape.routes().count(t) == (in ? 1 : 0));
      if (!in) CHECK(test::same_bits(call.row(call.y, t), call.row(call.x, t)));
    }
  }
  for (std::size_t i = 0; i < want.size(); ++i) CHECK(std::abs(call.y[i] - want[i]) < 1e-14);

  // The loss of foresight, of sigma(r) here.
  Layer of_loss = made(0.5, Foresight::loss);
  const Rows own = scores(of_loss, call);
  const auto second = call.train(of_loss);
  for (Index t = 0; t < 11; ++t) {
    const double p = 1 / (1 + std::exp(-own[static_cast<std::size_t>(t)]));
    loss -= std::log(second.routes().count(t) > 0 ? p : 1 - p) / 11;
  }
  CHECK(std::abs(call.out.losses.total() - 0.7 * loss) < 1e-14);
}

TEST_CASE("all rows taken with r = 1 are an ordinary residual block", "[depth]") {
  test::DepthCall call(6, 3, {0, 6});
  for (Index t = 0; t < 6; ++t) call.x[static_cast<std::size_t>(3 * t)] = 1;
  Layer layer = made(1, Foresight::loss, 0);
  layer.visit_parameters([](const moe::Parameter<double>& p) {
    if (std::string(p.name) == "router.gate.weight") p.value(0, 0) = 1;
  });
  call.train(layer);
  const Rows f = layer.block()(call.x, {0, 1, 2, 3, 4, 5});
  for (std::size_t i = 0; i < f.size(); ++i) CHECK(std::abs(call.y[i] - (call.x[i] + f[i])) < 1e-15);
}

TEST_CASE("inference is causal: rows to come change nothing, and it takes what the predictor foretells",
          "[depth]") {
  for (const Foresight foresight : {Foresight::predictor, Foresight::loss}) {
    const Layer layer = made(0.4, foresight);
    test::DepthCall call(8, 3, {0, 8}), later(8, 3, {0, 8});
    for (std::size_t i = 15; i < 24; ++i) later.x[i] = -3 * later.x[i] + 1;
    call.forward(layer);
    later.forward(layer);
    Index taken = 0;
    for (Index t = 0; t < 8; ++t) {
      if (t < 5) CHECK(test::same_bits(call.row(call.y, t), later.row(later.y, t)));
      taken += test::same_bits(call.row(call.y, t), call.row(call.x, t)) ? 0 : 1;
    }
    CHECK((taken > 0 && taken < 8));
    // A threshold of the call moves it; training is not causal.
    call.in.options.threshold = 1e-9;
    call.forward(layer);
    for (Index t = 0; t < 8; ++t) CHECK(call.row(call.y, t) != call.row(call.x, t));
  }
}

TEST_CASE("the predictor trains on detached rows: it changes no gradient but its own", "[depth]") {
  test::DepthCall call(7, 3, {0, 3, 7});
  Layer layer = made(0.5);
  const auto tape = call.train(layer);
  call.backward(layer, tape, 0);
  const Rows dx = call.dx;
  auto gradients = call.backward(layer, tape, 5);
  CHECK(test::same_bits(dx, call.dx));
  Index compared = 0;
  layer.visit_parameters(gradients, [&](const moe::Parameter<double>& p) {
    if (std::string(p.name).find("predictor") == std::string::npos) return;
    for (Index i = 0; i < p.value.size(); ++i) {
      const Index o = i / p.value.cols, j = i % p.value.cols;
      const double old = p.value(o, j), h = 1e-5;
      const auto loss_at = [&](double value) {
        p.value(o, j) = value;
        call.train(layer);
        p.value(o, j) = old;
        return 5 * call.out.losses.total();
      };
      CHECK(std::abs((loss_at(old + h) - loss_at(old - h)) / (2 * h) - p.gradient(o, j)) < 1e-8);
      ++compared;
    }
  });
  CHECK(compared == 3 + 1 + 1 + 1);
}

TEST_CASE("for several users: a choice of depth that stays within requests is isolated", "[depth]") {
  const moe::IsolatedLayer<Layer> layer(made(0.5));
  test::DepthCall call(5, 3, {0, 2, 5}), other(5, 3, {0, 2, 5});
  for (std::size_t i = 6; i < 15; ++i) other.x[i] = -other.x[i];
  for (const bool training : {false, true}) {
    call.in.mode = other.in.mode = training ? moe::Mode::training : moe::Mode::inference;
    call.forward(layer);
    other.forward(layer);
    for (const Index t : std::array<Index, 2>{0, 1})
      CHECK(test::same_bits(call.row(call.y, t), other.row(other.y, t)));
  }
  call.in.segments = moe::Segments();
  call.in.mode = moe::Mode::inference;
  CHECK_THROWS_AS(call.forward(layer), moe::config_error);
}

TEST_CASE("Mixture-of-Depths refuses what it cannot obey", "[depth]") {
  const auto of = [](moe::MixtureOfDepthsOptions options) {
    return moe::mixture_of_depths(options, PastBlock(3));
  };
  CHECK_THROWS_AS(of({.width = 3, .share = 0}), moe::config_error);
  CHECK_THROWS_AS(of({.width = 3, .share = 1.5}), moe::config_error);
  CHECK_THROWS_AS(of({.width = 3, .share = std::nan("")}), moe::config_error);
  CHECK_THROWS_AS(of({.width = 4}), moe::config_error);
  CHECK_THROWS_AS(of({.width = 3, .hidden = -1}), moe::config_error);
  CHECK_THROWS_AS(of({.width = 3, .coefficient = INFINITY}), moe::config_error);
  test::DepthCall call(4, 3, {0, 4});
  const Layer layer = made(0.5);
  call.in.options.threshold = 0.4;
  CHECK_THROWS_AS(call.train(layer), moe::config_error);
  call.in.options.threshold = 1;
  CHECK_THROWS_AS(call.forward(layer), moe::config_error);
  call.in.options = {.capacity_factor = 0.5};
  call.train(layer);
  CHECK_THROWS_AS(call.forward(layer), moe::config_error);
  call.in.options = {.experts_per_token = 1};
  CHECK_THROWS_AS(call.train(layer), moe::config_error);
  CHECK_THROWS_AS(call.forward(layer), moe::config_error);
}
