#include "moe/layer/frame/scaled.hpp"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "moe/expert/bank/glu.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/layer/shared/none.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/catch.hpp"

namespace {

using moe::Index;
using View = moe::MatrixView<double>;
using ConstView = moe::ConstMatrixView<double>;
constexpr Index kTokens = 7, kWidth = 5;

template <class Frame>
auto make(Frame frame) {
  moe::Glu<moe::Silu, double> bank({.experts = 4, .width = kWidth, .hidden = 6});
  bank.initialise(3);
  auto router = moe::softmax_top_k<double>({.width = kWidth, .experts = 4, .k = 2, .load_balance = 0});
  router.scorer().initialise(5, 2);
  return moe::MoeLayer(std::move(router), std::move(bank), moe::Dropless{}, moe::NoShared{},
                       std::move(frame));
}

std::vector<double> random_rows(unsigned seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  std::vector<double> rows(kTokens * kWidth);
  for (double& v : rows) v = normal(random);
  return rows;
}

template <class Layer>
std::vector<double> forward(const Layer& layer, const moe::LayerInput<double>& in) {
  std::vector<double> y(kTokens * kWidth);
  moe::LayerOutput<double> out(View(y.data(), kTokens, kWidth));
  moe::Workspace workspace;
  layer.forward(in, out, workspace);
  return y;
}

}  // namespace

TEST_CASE("experts read scaled rows, the router does not", "[layer][smoke]") {
  const auto scaled = make(moe::ScaledFrame<double>(kWidth, 2));
  const auto plain = make(moe::IdentityFrame{});
  const std::vector<double> x = random_rows(1);
  std::vector<double> twice = x;
  for (double& v : twice) v *= 2;
  moe::LayerInput<double> in(ConstView(twice.data(), kTokens, kWidth));
  in.router_x = ConstView(x.data(), kTokens, kWidth);
  CHECK(forward(scaled, ConstView(x.data(), kTokens, kWidth)) == forward(plain, in));
}

TEST_CASE("gradients through scaled rows match central differences", "[layer]") {
  auto layer = make(moe::ScaledFrame<double>(kWidth, -1.5));
  std::vector<double> x = random_rows(1), dx(x.size());
  const std::vector<double> dy = random_rows(2);
  const auto objective = [&] {
    const std::vector<double> y = forward(layer, ConstView(x.data(), kTokens, kWidth));
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) sum += y[i] * dy[i];
    return sum;
  };
  std::vector<double> y(x.size());
  moe::LayerOutput<double> out(View(y.data(), kTokens, kWidth));
  moe::Workspace workspace;
  typename decltype(layer)::Tape tape;
  layer.forward_train(moe::LayerInput<double>(ConstView(x.data(), kTokens, kWidth)), out, tape, workspace);
  auto gradients = layer.make_gradients();
  typename decltype(layer)::LayerGradients all(ConstView(dy.data(), kTokens, kWidth),
                                               View(dx.data(), kTokens, kWidth), gradients);
  layer.backward(tape, all, workspace);
  const auto check = [&](double& at, double analytic) {
    const double start = at, h = 1e-4;
    const auto value = [&](double shift) {
      at = start + shift;
      const double v = objective();
      at = start;
      return v;
    };
    // h^4 times fifth derivatives below 1e4, and 100 roundings of an objective below 100, over h.
    const double slope = (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h);
    CHECK(std::abs(analytic - slope) <= 1e-8);
  };
  for (std::size_t i = 0; i < x.size(); ++i) check(x[i], dx[i]);
  layer.visit_parameters(gradients, [&](const moe::Parameter<double>& p) {
    INFO(p.name);
    check(p.value(0, 0), p.gradient(0, 0));
  });
}

TEST_CASE("scaled frames refuse a factor that is not finite", "[layer]") {
  CHECK_THROWS_AS(moe::ScaledFrame<float>(4, std::numeric_limits<double>::infinity()), moe::config_error);
  CHECK_THROWS_AS(moe::ScaledFrame<float>(4, std::nan("")), moe::config_error);
  CHECK_THROWS_AS(moe::ScaledFrame<float>(0, 2), moe::config_error);
}
