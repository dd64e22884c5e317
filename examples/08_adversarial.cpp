// Training against adversarial inputs by turns, as AdvMoE does (Zhang et al. 2308.10110): a step of the
// router with the experts frozen, then one of the experts with the router frozen, each on rows that were
// moved to where the layer is worst. What is frozen keeps its bits, decay and momentum or not: checked at
// every step.
#include <Eigen/Core>
#include <cstdio>
#include <vector>

#include "moe/moe.hpp"

namespace {

using moe::Index;
using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Layer = moe::MoeLayer<moe::SoftmaxTopK<float>, moe::Glu<moe::Silu>>;
using Backward = Layer::LayerGradients;

constexpr Index kWidth = 16, kExperts = 6, kRows = 256;
constexpr float kRadius = 0.1f;  // of the attack, in every column

Layer make_layer() {
  auto router = moe::softmax_top_k<float>({.width = kWidth, .experts = kExperts, .k = 2});
  router.scorer().initialise(1);
  moe::Glu<moe::Silu> experts({.experts = kExperts, .width = kWidth, .hidden = 32});
  experts.initialise(2);
  return {std::move(router), std::move(experts)};
}

struct Trainer {
  Layer layer = make_layer();
  Layer::Gradients gradients = layer.make_gradients();
  moe::AdamW<float> optimiser;
  Layer::Tape tape;
  moe::Workspace workspace;
  Rows y{kRows, kWidth}, dx{kRows, kWidth};
  bool frozen_moved = false;

  /// Squared error at x, and its gradients: to dx, and to those parts for which `back` has gradients.
  float backward(const Rows& x, const Rows& target, Backward back) {
    moe::LayerOutput<float> out(y);
    layer.forward_train(x, out, tape, workspace);
    const Rows dy = (y - target) / 64;
    back.dy = dy;
    back.dx = dx;
    layer.backward(tape, back, workspace);
    return (y - target).squaredNorm();
  }

  /// x, moved by the radius to where the error grows; no parameter has a gradient.
  Rows attacked(const Rows& x, const Rows& target) {
    backward(x, target, {});
    return x + kRadius * dx.cwiseSign();
  }

  /// One step of the parts for which `back` has gradients: the others are frozen.
  void step(const Rows& x, const Rows& target, Backward back) {
    backward(attacked(x, target), target, back);
    const moe::TrainedLayer trained(layer, back);
    const std::vector<float> before = frozen(trained);
    optimiser.step(trained, 0.01);
    frozen_moved = frozen_moved || frozen(trained) != before;
  }
  static std::vector<float> frozen(const auto& trained) {
    std::vector<float> all;
    trained.visit_storage([&](const char*, const float* values, const float* gradients, Index n) {
      if (gradients == nullptr) all.insert(all.end(), values, values + n);
    });
    return all;
  }
};

}  // namespace

int main() {
  Trainer trainer;
  const Rows x = Rows::Random(kRows, kWidth), target = x.cwiseAbs() - 0.3f * x.rowwise().reverse();
  Backward router, experts;  // who learns
  router.router = &trainer.gradients.router;
  experts.experts = &trainer.gradients.experts;
  const auto error = [&](const Rows& rows) {
    return static_cast<double>(trainer.backward(rows, target, {}));
  };
  const double clean = error(x), robust = error(trainer.attacked(x, target));
  for (int round = 0; round < 150; ++round) {
    trainer.step(x, target, router);
    trainer.step(x, target, experts);
  }
  const double clean_after = error(x), robust_after = error(trainer.attacked(x, target));
  std::printf("squared error %.0f -> %.0f, attacked %.0f -> %.0f\n", clean, clean_after, robust,
              robust_after);
  std::printf("frozen parts %s\n", trainer.frozen_moved ? "moved" : "kept their bits");
  return !trainer.frozen_moved && robust_after < robust / 3 ? 0 : 1;
}
