// Weights on the input, f_e(w x): WeightPlace::input of router/concept.hpp, in the layer.
#include <cmath>
#include <random>
#include <vector>

#include "moe/executor/pool.hpp"
#include "moe/expert/bank/composite.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/catch.hpp"

namespace {

using moe::Index;
using View = moe::MatrixView<double>;
using ConstView = moe::ConstMatrixView<double>;
using Bank = moe::Composite<moe::Glu<moe::Silu, double>, moe::ZeroComputation<double>>;
using Layer = moe::MoeLayer<moe::SoftmaxTopK<double>, Bank>;
constexpr Index kTokens = 6, kWidth = 5;

Layer make(moe::WeightPlace place) {
  moe::Glu<moe::Silu, double> glu({.experts = 3, .width = kWidth, .hidden = 4, .bias = true});
  moe::ZeroComputation<double> cheap({.width = kWidth, .zero = 1, .copy = 1, .constant = 1});
  glu.initialise(3);
  cheap.initialise(4);
  auto router = moe::softmax_top_k<double>({.width = kWidth, .experts = 6, .k = 3, .load_balance = 0});
  router.scorer().initialise(5, 2);
  router.set_weight_place(place);
  return Layer(std::move(router), Bank(std::move(glu), std::move(cheap)));
}

struct Case {
  std::vector<double> x, dy;
  Case() {
    std::mt19937_64 random(8);
    std::normal_distribution<double> normal;
    for (Index i = 0; i < kTokens * kWidth; ++i) {
      x.push_back(normal(random));
      dy.push_back(normal(random));
    }
  }
  ConstView rows() const { return {x.data(), kTokens, kWidth}; }
  double objective(const Layer& layer) const {
    std::vector<double> y(x.size());
    moe::Workspace workspace;
    moe::LayerOutput<double> out(View(y.data(), kTokens, kWidth));
    layer.forward(moe::LayerInput<double>(rows()), out, workspace);
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) sum += y[i] * dy[i];
    return sum;
  }
};

}  // namespace

TEST_CASE("with weights on the input an expert reads w x, once", "[layer][smoke]") {
  const Case c;
  Layer layer = make(moe::WeightPlace::input);
  std::vector<double> y(c.x.size()), want(c.x.size(), 0);
  moe::Workspace workspace;
  Layer::Tape tape;
  moe::LayerOutput<double> out(View(y.data(), kTokens, kWidth));
  layer.forward_train(moe::LayerInput<double>(c.rows()), out, tape, workspace);

  // One pair at a time through the same bank.
  moe::SerialExecutor serial;
  for (Index t = 0; t < kTokens; ++t) {
    for (Index p = tape.routes().offsets[t]; p < tape.routes().offsets[t + 1]; ++p) {
      double scaled[kWidth], z[2 * kWidth];
      for (Index j = 0; j < kWidth; ++j) scaled[j] = tape.routes().weight[p] * c.rows()(t, j);
      const double* row = scaled;
      const double* result = z;
      const std::int32_t token = 0;
      Index offsets[7];
      for (Index e = 0; e <= 6; ++e) offsets[e] = e > Index{tape.routes().expert[p]} ? 1 : 0;
      moe::Arena measuring;
      layer.experts().measure(measuring, 1, 1);
      moe::Workspace scratch;
      moe::Arena arena = scratch.arena(measuring.bytes());
      layer.experts().forward(moe::RowBatch<double>{&row, &token, offsets, 6},
                              moe::RowSink<double>{z, 2 * kWidth, &result}, arena, serial);
      for (Index j = 0; j < kWidth && result != nullptr; ++j) {
        want[static_cast<std::size_t>(t * kWidth + j)] += result[j];
      }
    }
  }
  for (std::size_t i = 0; i < y.size(); ++i)
    CHECK(std::abs(y[i] - want[i]) <= 1e-15 * (1 + std::abs(want[i])));
  // And that is not w f(x).
  Layer usual = make(moe::WeightPlace::result);
  CHECK(std::abs(c.objective(layer) - c.objective(usual)) > 1e-3);
}

TEST_CASE("with weights on the input gradients match central differences", "[layer]") {
  Case c;
  Layer layer = make(moe::WeightPlace::input);
  moe::Workspace workspace;
  Layer::Tape tape;
  std::vector<double> y(c.x.size()), dx(c.x.size());
  moe::LayerOutput<double> out(View(y.data(), kTokens, kWidth));
  auto gradients = layer.make_gradients(), without_dx = layer.make_gradients();
  layer.forward_train(moe::LayerInput<double>(c.rows()), out, tape, workspace);
  Layer::LayerGradients all(ConstView(c.dy.data(), kTokens, kWidth), View(dx.data(), kTokens, kWidth),
                            gradients);
  layer.backward(tape, all, workspace);
  Layer::LayerGradients some(ConstView(c.dy.data(), kTokens, kWidth), View{}, without_dx);
  layer.backward(tape, some, workspace);

  const auto check = [&](double& at, double analytic) {
    const double start = at, h = 1e-4;
    const auto value = [&](double shift) {
      at = start + shift;
      const double v = c.objective(layer);
      at = start;
      return v;
    };
    const double slope = (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h);
    // h^4 times fifth derivatives below 1e4, and 100 roundings of an objective below 100, over h.
    CHECK(std::abs(analytic - slope) <= 1e-8);
  };
  for (std::size_t i = 0; i < c.x.size(); ++i) check(c.x[i], dx[i]);
  layer.visit_parameters(gradients, [&](const moe::Parameter<double>& p) {
    INFO(p.name);
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) check(p.value(o, i), p.gradient(o, i));
    }
  });
  // Frozen dx changes no gradient of a parameter.
  std::vector<double> first, second;
  layer.visit_storage(gradients,
                      [&](const char*, double*, double* g, Index n) { first.insert(first.end(), g, g + n); });
  layer.visit_storage(
      without_dx, [&](const char*, double*, double* g, Index n) { second.insert(second.end(), g, g + n); });
  CHECK(first == second);
}

TEST_CASE("with weights on the input a row's bits do not depend on the batch or the threads", "[layer]") {
  const Case c;
  const Layer layer = make(moe::WeightPlace::input);
  std::vector<double> whole(c.x.size()), pooled(c.x.size()), alone(kWidth);
  moe::Workspace workspace;
  moe::LayerOutput<double> out(View(whole.data(), kTokens, kWidth)),
      again(View(pooled.data(), kTokens, kWidth));
  moe::PoolExecutor pool(3);
  layer.forward(moe::LayerInput<double>(c.rows()), out, workspace);
  layer.forward(moe::LayerInput<double>(c.rows()), again, workspace, pool);
  CHECK(whole == pooled);
  for (Index t = 0; t < kTokens; ++t) {
    moe::LayerOutput<double> one(View(alone.data(), 1, kWidth));
    layer.forward(moe::LayerInput<double>(ConstView(c.x.data() + t * kWidth, 1, kWidth)), one, workspace);
    CHECK(std::equal(alone.begin(), alone.end(), whole.begin() + t * kWidth));
  }
}
