// UniPool: three layers with routers of their own over one pool, whose gradients are one object that every
// layer's backward adds to; a step's counts are all layers'.
#include <Eigen/Core>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <vector>

#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/unipool.hpp"
#include "support/catch.hpp"

namespace {

using moe::Index;
using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Bank = moe::Glu<moe::Silu, double>;
using Layer = moe::MoeLayer<moe::UniPoolRouter<double>, Bank&>;
constexpr Index kTokens = 6, kWidth = 4, kExperts = 5;
constexpr std::size_t kLayers = 3;

struct Model {
  Bank pool{{.experts = kExperts, .width = kWidth, .hidden = 3}};
  std::vector<Layer> layers;
  std::vector<Layer::Tape> tapes{kLayers};
  std::vector<Layer::Gradients> gradients;
  moe::impl::GradientsOf<Bank> of_pool = pool.make_gradients();
  Rows x, dy;
  moe::RouteStats stats;
  moe::Workspace workspace;

  Model() {
    pool.initialise(2);
    for (std::uint64_t l = 0; l < kLayers; ++l) {
      auto router = moe::unipool_router<double>({.width = kWidth,
                                                 .experts = kExperts,
                                                 .layers = Index{kLayers},
                                                 .scale = 1.2,
                                                 .pool_balance = 0.5});
      router.scorer().initialise(l + 1, 2);
      layers.emplace_back(std::move(router), pool);
      gradients.push_back(layers.back().make_gradients());
    }
    std::srand(7);
    x = Rows::Random(kTokens, kWidth), dy = Rows::Random(kTokens, kWidth);
  }

  /// With residuals around the layers. Counts are added to stats.
  double loss() {
    stats.clear();
    Rows h = x;
    double sum = 0;
    for (std::size_t l = 0; l < kLayers; ++l) {
      Rows y(kTokens, kWidth);
      moe::LayerOutput<double> out(y, &stats);
      layers[l].forward_train(h, out, tapes[l], workspace);
      for (const auto& entry : out.losses) sum += entry.value;
      h += y;
    }
    return sum + (dy.array() * h.array()).sum();
  }
  Rows backward() {
    Rows dh = dy;
    for (std::size_t l = kLayers; l-- > 0;) {
      Rows dx(kTokens, kWidth);
      Layer::LayerGradients back(dh, dx, gradients[l]);
      back.experts = &of_pool;
      layers[l].backward(tapes[l], back, workspace);
      dh += dx;
    }
    return dh;
  }
  void agrees(double& value, double gradient) {
    const double held = value, step = 1e-6;  // beside the kinks of positive parts
    value = held + step;
    const double up = loss();
    value = held - step;
    const double down = loss();
    value = held;
    CHECK(gradient == Approx((up - down) / (2 * step)).epsilon(1e-6).margin(1e-7));
  }
};

}  // namespace

TEST_CASE("three layers train one pool: its gradient is the sum over them", "[depth]") {
  Model model;
  const double before = model.loss();
  CHECK(model.stats.pairs() == Index{kLayers} * kTokens * 2);
  for (Layer& layer : model.layers) layer.on_step_end(model.stats);
  for (Layer& layer : model.layers) {
    const auto& share = layer.router().balancing().part<moe::PoolBalance>().share();
    for (Index e = 0; e < kExperts; ++e) {
      CHECK(share[e] == static_cast<double>(model.stats.load[e]) / static_cast<double>(model.stats.pairs()));
    }
  }
  CHECK(model.loss() != before);  // the load was not even
  Rows dx = model.backward();
  for (Index i = 0; i < dx.size(); ++i) model.agrees(model.x.data()[i], dx.data()[i]);
  auto check = [&](const moe::Parameter<double>& p) {
    INFO(p.name);
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) model.agrees(p.value(o, i), p.gradient(o, i));
    }
  };
  model.pool.visit_parameters(&model.of_pool, check);
  for (std::size_t l = 0; l < kLayers; ++l)
    model.layers[l].router().visit_parameters(&model.gradients[l].router, check);
}
