// A Mixture-of-Experts layer over Eigen matrices: inference, training, and what the router did.
#include <Eigen/Core>
#include <cstdio>

#include "moe/moe.hpp"

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

int main() {
  auto router = moe::softmax_top_k<float>({.width = 64, .experts = 8, .k = 2});  // 2 of 8 experts per token
  moe::Glu<moe::Silu> experts({.experts = 8, .width = 64, .hidden = 128});       // SwiGLU
  router.scorer().initialise(1);
  experts.initialise(2);
  moe::MoeLayer layer(std::move(router), std::move(experts));

  const Rows x = Rows::Random(256, 64), target = x.cwiseAbs();
  Rows y(256, 64), dy(256, 64);
  moe::RouteStats stats;
  moe::LayerOutput<float> out(y, &stats);
  moe::Workspace workspace;
  moe::PoolExecutor threads(2);
  layer.forward(x, out, workspace, threads);  // inference: y from x
  const float before = (y - target).squaredNorm();

  decltype(layer)::Tape tape;  // training: a forward that remembers, a backward, an optimiser
  auto gradients = layer.make_gradients();
  const moe::TrainedLayer trained(layer, gradients);
  moe::AdamW<float> optimiser({.decay = 0.01});
  for (int step = 0; step < 100; ++step) {
    layer.forward_train(x, out, tape, workspace, threads);
    dy = (y - target) / 256;
    decltype(layer)::LayerGradients back(dy, {}, gradients);
    layer.backward(tape, back, workspace, threads);
    moe::clip_by_global_norm(trained, 1.0, threads);
    optimiser.step(trained, 0.01, threads);  // and the gradients are 0 again
  }
  const float after = (y - target).squaredNorm();
  std::printf("loss %.0f -> %.0f, %.2f experts per token, busiest expert %.0f%% above the mean\n", before,
              after, stats.experts_per_token(), 100 * stats.max_violation());
  return after < before / 2 ? 0 : 1;
}
