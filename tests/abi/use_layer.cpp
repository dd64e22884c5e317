// What the contract C7 tests compile once per instruction set: a layer trained for some steps through every
// stage, forward and backward, on two threads. MOE_ABI_ENTRY names the function of this copy. Data are plain
// arrays, because Eigen's own matrices are the program's weak symbols, not the library's.
#include <Eigen/Core>

#include "moe/moe.hpp"

double MOE_ABI_ENTRY();

namespace {

constexpr moe::Index kTokens = 67;  // no multiple of any vector or tile
constexpr moe::Index kWidth = 19;
using Rows = Eigen::Map<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;

float value(moe::Index i) {
  return static_cast<float>((i * 7919) % 101 - 50) / 50.0f;
}

}  // namespace

// Squared error after training, relative to the least that counts as trained: half of the error before.
double MOE_ABI_ENTRY() {
  auto router = moe::softmax_top_k<float>({.width = kWidth, .experts = 5, .k = 2});
  moe::Glu<moe::Silu> experts({.experts = 5, .width = kWidth, .hidden = 23});
  router.scorer().initialise(1);
  experts.initialise(2);
  moe::MoeLayer layer(std::move(router), std::move(experts));

  float x[kTokens * kWidth];
  float y[kTokens * kWidth];
  float dy[kTokens * kWidth];
  for (moe::Index i = 0; i < kTokens * kWidth; ++i) x[i] = value(i);

  const Rows x_map(x, kTokens, kWidth);
  Rows y_map(y, kTokens, kWidth);
  const Rows dy_map(dy, kTokens, kWidth);
  moe::LayerOutput<float> out(y_map);
  moe::Workspace workspace;
  moe::PoolExecutor threads(2);
  decltype(layer)::Tape tape;
  auto gradients = layer.make_gradients();
  const moe::TrainedLayer trained(layer, gradients);
  moe::AdamW<float> optimiser;

  double first = 0;
  double last = 0;
  for (int step = 0; step < 60; ++step) {
    layer.forward_train(x_map, out, tape, workspace, threads);
    last = 0;
    for (moe::Index i = 0; i < kTokens * kWidth; ++i) {
      const float difference = y[i] - (x[i] < 0 ? -x[i] : x[i]);
      dy[i] = difference / kTokens;
      last += static_cast<double>(difference) * static_cast<double>(difference);
    }
    if (step == 0) first = last;
    decltype(layer)::LayerGradients back(dy_map, {}, gradients);
    layer.backward(tape, back, workspace, threads);
    moe::clip_by_global_norm(trained, 10, threads);
    optimiser.step(trained, 0.01, threads);
  }
  return last / (0.5 * first);
}
