#include "moe/depth/stochastic_pair.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "moe/expert/bank/mlp.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/catch.hpp"
#include "support/depth_calls.hpp"
#include "support/layer_laws.hpp"
#include "support/same_bits.hpp"
#include "support/taken.hpp"

namespace {

using moe::Index;
using test::Values;
using Bank = moe::Mlp<moe::Silu, double>;
using Inner = moe::MoeLayer<moe::SoftmaxTopK<double>, Bank>;
using Pair = moe::S2Moe<Inner>;

constexpr Index kTokens = 6, kWidth = 4, kExperts = 3;
const std::vector<Index> kEnds{0, 4, 6};

Inner layer(moe::NonFinite non_finite = moe::NonFinite::throw_) {
  return Inner(
      moe::softmax_top_k<double>(
          {.width = kWidth, .experts = kExperts, .k = 2, .load_balance = 0.1, .non_finite = non_finite}),
      Bank({.experts = kExperts, .width = kWidth, .hidden = 3}));
}
auto rows(const Values& x) {
  return test::rows_of(x, kWidth);
}
auto rows(Values& x) {
  return test::rows_of(x, kWidth);
}
const Values kX = test::normal_rows(3, kTokens, kWidth), kDy = test::normal_rows(4, kTokens, kWidth);

moe::LayerInput<double> call(const Values& x, moe::DrawCounter& draws) {
  moe::LayerInput<double> in(rows(x));
  in.segments = moe::Segments(std::span<const Index>(kEnds));
  in.draws = &draws;
  return in;
}

}  // namespace

TEST_CASE("stochastic pairs keep the laws of layers", "[depth]") {
  // Deviations have no gradient, so differences of x agree without noise alone.
  test::check_layer("without noise",
                    [] { return moe::s2moe(layer(), {.noise = 0, .coefficient = 0.4, .tau = 0.5}); });
  test::LayerCall call;
  call.gradients = false;
  test::check_layer(
      "with noise", [] { return moe::s2moe(layer(), {.noise = 0.8}); }, call);
}

TEST_CASE("without noise y is the layer's, to the bit; inference is one pass", "[depth][smoke]") {
  auto pair = moe::s2moe(layer(), {.noise = 0});
  test::draw_parameters(pair, 2);
  const Values x = test::normal_rows(3, kTokens, kWidth);
  Values alone(x.size()), y(x.size());
  moe::LayerOutput<double> plain(test::rows_of(alone, kWidth)), out(test::rows_of(y, kWidth));
  moe::Workspace workspace;
  pair.layer().forward(test::rows_of(x, kWidth), plain, workspace, test::serial());
  auto tape = pair.make_tape();
  pair.forward_train(test::rows_of(x, kWidth), out, tape, workspace, test::serial());
  CHECK(test::same_bits(alone, y));

  auto noisy = moe::s2moe(layer(), {.noise = 2});
  test::draw_parameters(noisy, 2);
  moe::DrawCounter draws(1);
  moe::RouteStats stats;
  moe::LayerInput<double> in(test::rows_of(x, kWidth));
  in.draws = &draws;
  out.stats = &stats;
  y.assign(y.size(), 7);
  noisy.forward(in, out, workspace, test::serial());
  CHECK(test::same_bits(alone, y));
  CHECK(draws.calls() == 1);
  CHECK(stats.tokens == kTokens);
  stats.clear();
  in.mode = moe::Mode::training;
  noisy.forward(in, out, workspace, test::serial());
  CHECK_FALSE(test::same_bits(alone, y));
  CHECK(draws.calls() == 3);       // two passes
  CHECK(stats.tokens == kTokens);  // the first one's
}

TEST_CASE("noisy rows, gate and contrast by hand", "[depth]") {
  const double noise = 0.7, tau = 0.4, coefficient = 0.3;
  Pair pair = moe::s2moe(layer(), {.noise = noise, .coefficient = coefficient, .tau = tau});
  test::draw_parameters(pair, 2);
  moe::DrawCounter draws(9);
  Values y(kX.size());
  moe::LayerOutput<double> out(rows(y));
  auto tape = pair.make_tape();
  moe::Workspace workspace;
  const auto in = call(kX, draws);
  pair.forward_train(in, out, tape, workspace, test::serial());

  // The copies, from the formula.
  const moe::KeyedRandom draw(9, 0, moe::DrawStream::row_noise);
  Values noisy(kX.size()), factor(kX.size());
  for (std::size_t s = 1; s < kEnds.size(); ++s) {
    for (Index j = 0; j < kWidth; ++j) {
      double mean = 0, square = 0;
      const double count = static_cast<double>(kEnds[s] - kEnds[s - 1]);
      const auto at = [](Index t, Index column) { return static_cast<std::size_t>(t * kWidth + column); };
      for (Index t = kEnds[s - 1]; t < kEnds[s]; ++t) mean += kX[at(t, j)] / count;
      for (Index t = kEnds[s - 1]; t < kEnds[s]; ++t)
        square += (kX[at(t, j)] - mean) * (kX[at(t, j)] - mean) / count;
      for (Index t = kEnds[s - 1]; t < kEnds[s]; ++t) {
        const auto row = static_cast<std::uint64_t>(t);
        const auto lane = static_cast<std::uint32_t>(2 * j);
        factor[at(t, j)] = 1 + noise * std::sqrt(square) * draw.normal(row, lane);
        noisy[at(t, j)] = factor[at(t, j)] * kX[at(t, j)] + noise * mean +
                          noise * std::sqrt(square) * draw.normal(row, lane + 1);
      }
    }
  }
  // Both passes, and what is made of them.
  auto& inner = pair.layer();
  test::Trained first(inner, call(kX, draws), kDy, 0);
  test::Trained second(inner, call(noisy, draws), kDy, 0);
  Values weight;
  double bias = 0;
  test::visit_layer(pair, [&](const moe::Parameter<double>& p) {
    if (std::string(p.name) == "pair.gate.weight") {
      for (Index j = 0; j < kWidth; ++j) weight.push_back(p.value(0, j));
    }
    if (std::string(p.name) == "pair.gate.bias") bias = p.value(0, 0);
  });
  std::vector<double> gate;
  for (Index t = 0; t < kTokens; ++t) {
    double z = bias;
    for (Index j = 0; j < kWidth; ++j)
      z += weight[static_cast<std::size_t>(j)] * kX[static_cast<std::size_t>(t * kWidth + j)];
    gate.push_back(1 / (1 + std::exp(-z)));
    for (Index j = 0; j < kWidth; ++j) {
      const auto i = static_cast<std::size_t>(t * kWidth + j);
      CHECK(std::abs(y[i] - (gate.back() * first.y[i] + (1 - gate.back()) * second.y[i])) <= 1e-13);
    }
  }
  const auto cosine = [&](Index t, Index s) {
    double ab = 0, aa = 0, bb = 0;
    for (Index j = 0; j < kWidth; ++j) {
      const double a = first.y[static_cast<std::size_t>(t * kWidth + j)],
                   b = second.y[static_cast<std::size_t>(s * kWidth + j)];
      ab += a * b;
      aa += a * a;
      bb += b * b;
    }
    return ab / std::sqrt(aa * bb);
  };
  double contrast = 0;
  for (std::size_t s = 1; s < kEnds.size(); ++s) {
    for (Index t = kEnds[s - 1]; t < kEnds[s]; ++t) {
      double sum = 0;
      for (Index k = kEnds[s - 1]; k < kEnds[s]; ++k) sum += std::exp(cosine(t, k) / tau);
      contrast += (std::log(sum) - cosine(t, t) / tau) / kTokens;
    }
  }
  CHECK(std::abs(out.losses.total() - (first.losses + second.losses + coefficient * contrast)) <= 1e-12);

  // dx without losses: through the first pass, the factors of the copies, and the gate.
  auto gradients = pair.make_gradients();
  Values dx(kX.size());
  Pair::LayerGradients to(rows(kDy), rows(dx), gradients);
  to.auxiliary_scale = 0;
  pair.backward(tape, to, workspace, test::serial());
  Values du(kX.size()), dother(kX.size());
  for (std::size_t i = 0; i < du.size(); ++i) {
    const double g = gate[i / kWidth];
    du[i] = g * kDy[i];
    dother[i] = (1 - g) * kDy[i];
  }
  test::Trained back_first(inner, call(kX, draws), du, 0);
  test::Trained back_second(inner, call(noisy, draws), dother, 0);
  for (Index t = 0; t < kTokens; ++t) {
    const double g = gate[static_cast<std::size_t>(t)];
    double dz = 0;
    for (Index j = 0; j < kWidth; ++j) {
      const auto i = static_cast<std::size_t>(t * kWidth + j);
      dz += g * (1 - g) * kDy[i] * (first.y[i] - second.y[i]);
    }
    for (Index j = 0; j < kWidth; ++j) {
      const auto i = static_cast<std::size_t>(t * kWidth + j);
      CHECK(std::abs(dx[i] - (back_first.dx[i] + factor[i] * back_second.dx[i] +
                              dz * weight[static_cast<std::size_t>(j)])) <= 1e-12);
    }
  }
}

TEST_CASE("a stochastic pair's parameters by differences, with noise, balance and contrast", "[depth]") {
  Pair pair = moe::s2moe(layer(), {.noise = 0.3, .coefficient = 0.3, .tau = 0.4});
  test::draw_parameters(pair, 2);
  Values y(kX.size()), dx(kX.size());
  moe::LayerOutput<double> out(rows(y));
  auto tape = pair.make_tape();
  moe::Workspace workspace;
  const auto loss = [&] {
    moe::DrawCounter draws(9);
    pair.forward_train(call(kX, draws), out, tape, workspace, test::serial());
    double sum = 0.7 * out.losses.total();
    for (std::size_t i = 0; i < y.size(); ++i) sum += kDy[i] * y[i];
    return sum;
  };
  loss();
  auto gradients = pair.make_gradients();
  Pair::LayerGradients to(rows(kDy), rows(dx), gradients);
  to.auxiliary_scale = 0.7;
  pair.backward(tape, to, workspace, test::serial());
  pair.visit_parameters(gradients, [&](const moe::Parameter<double>& p) {
    for (Index i = 0; i < p.value.size(); i += 2) {
      double& entry = p.value(i / p.value.cols, i % p.value.cols);
      const double old = entry, h = 1e-4;
      const auto at = [&](double value) {
        entry = value;
        const double f = loss();
        entry = old;
        return f;
      };
      const double near = (at(old + h) - at(old - h)) / (2 * h),
                   far = (at(old + 2 * h) - at(old - 2 * h)) / (4 * h);
      CAPTURE(p.name, i);
      // Rounding: a loss of order 10 over h.
      CHECK(std::abs((4 * near - far) / 3 - p.gradient(i / p.value.cols, i % p.value.cols)) <=
            std::abs(near - far) + 1e-10);
    }
  });
}

TEST_CASE("a row that is isolated is NaN and in no deviation, contrast or gradient", "[depth]") {
  auto pair = moe::s2moe(layer(moe::NonFinite::isolate_row), {.noise = 0.5});
  test::draw_parameters(pair, 2);
  Values bad = kX, bad_dy = kDy;
  bad[kWidth] = std::numeric_limits<double>::infinity();
  for (Index j = 0; j < kWidth; ++j) bad_dy[static_cast<std::size_t>(kWidth + j)] = NAN;
  moe::DrawCounter draws(9), again(9);
  const bool valid[] = {true, false, true, true, true, true};
  auto in = call(kX, again);
  in.valid = valid;
  test::Trained isolated(pair, call(bad, draws), bad_dy), padded(pair, in, kDy);
  for (std::size_t i = 0; i < kX.size(); ++i) {
    if (i / kWidth == 1) {
      CHECK(std::isnan(isolated.y[i]));
      CHECK(isolated.dx[i] == 0);
    } else {
      CHECK(isolated.y[i] == padded.y[i]);
      CHECK(isolated.dx[i] == padded.dx[i]);
    }
  }
  CHECK(isolated.losses == padded.losses);
  CHECK(test::flat_gradients(pair, isolated.gradients) == test::flat_gradients(pair, padded.gradients));
}

TEST_CASE("stochastic pairs refuse options out of range and training without draws", "[depth]") {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::nan("");
  for (const double bad : {-1.0, inf, nan})
    CHECK_THROWS_AS(moe::s2moe(layer(), {.noise = bad}), moe::config_error);
  for (const double bad : {inf, nan})
    CHECK_THROWS_AS(moe::s2moe(layer(), {.coefficient = bad}), moe::config_error);
  for (const double bad : {0.0, -1.0, inf, nan})
    CHECK_THROWS_AS(moe::s2moe(layer(), {.tau = bad}), moe::config_error);
  auto pair = moe::s2moe(layer());
  Values y(kX.size(), 7);
  moe::LayerOutput<double> out(rows(y));
  auto tape = pair.make_tape();
  moe::Workspace workspace;
  CHECK_THROWS_AS(pair.forward_train(rows(kX), out, tape, workspace, test::serial()), moe::config_error);
  moe::DrawCounter draws(1);
  auto in = call(kX, draws);
  in.router_x = rows(kX);
  CHECK_THROWS_AS(pair.forward_train(in, out, tape, workspace, test::serial()), moe::config_error);
  CHECK(y == Values(y.size(), 7));
  CHECK(draws.calls() == 0);
  const auto moved = test::taken(pair);
  CHECK_THROWS_AS(pair.forward(rows(kX), out, workspace, test::serial()), moe::state_error);
}
