// Training:
//   train/<storage>/<shape>/tokens:<T>/threads:<N>         forward_train and backward with all gradients
//   train_step/...                                         and SGD with momentum over the packed ranges
// The counter fma_fraction is the flops of all three passes over the peak. After the optimiser nothing is
// repacked: it works on what the kernels read. Its share of the step is the counter optimiser_share.
#include "moe/train/sgd.hpp"
#include "moe/train/trained_layer.hpp"
#include "problem.hpp"

namespace bench {
namespace {

template <class Real>
void train(benchmark::State& state, const std::string& name, const Shape& shape, Index tokens, Index threads,
           bool optimise) {
  using P = Problem<Real>;
  using Layer = typename P::Layer;
  const auto p = problem<Real>(shape);
  const auto inputs = batches<Real>(2, tokens, shape.D);
  Layer& layer = p->layer(0);
  std::vector<Real> y(inputs->front().size()), dx(y.size());
  moe::PoolExecutor pool(threads);
  moe::Workspace workspace;
  typename Layer::Tape tape;
  auto gradients = layer.make_gradients();
  moe::Sgd<Real> optimiser({.momentum = 0.9});
  double optimising = 0;
  const auto step = [&](std::size_t call) {
    const moe::ConstMatrixView<Real> x((*inputs)[call % 2].data(), tokens, shape.D);
    moe::LayerOutput<Real> out(moe::MatrixView<Real>(y.data(), tokens, shape.D));
    layer.forward_train(x, out, tape, workspace, pool);
    typename Layer::LayerGradients back(x, moe::MatrixView<Real>(dx.data(), tokens, shape.D), gradients);
    layer.backward(tape, back, workspace, pool);
    if (!optimise) return;
    const auto start = std::chrono::steady_clock::now();
    optimiser.step(moe::TrainedLayer(layer, gradients), 1e-6, pool);
    optimising += seconds_since(start);
  };
  const moe::ConstMatrixView<Real> x(inputs->front().data(), tokens, shape.D);
  const Routing<Real> routing(layer.router(), moe::LayerInput<Real>(x));
  if (to_verify(name)) {
    moe::LayerOutput<Real> out(moe::MatrixView<Real>(y.data(), tokens, shape.D));
    layer.forward_train(x, out, tape, workspace, pool);
    const std::string difference = p->check(layer, x, out.y, routing.table());
    if (!difference.empty()) return state.SkipWithError(difference.c_str());
  }
  step(0);  // tape, workspace and momentum grow
  optimising = 0;
  const LimitsBeside limits(StorageInfo<Real>::kInstruction, threads);
  // Weights are read twice, their gradients read and written.
  const Cost forward = p->cost(routing);
  Cost total;
  std::size_t call = 0;
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) {
    step(call++);
    benchmark::ClobberMemory();
    total += {3 * forward.expert_flops, 3 * forward.router_flops, 4 * forward.bytes};
  }
  const double seconds = seconds_since(start);
  const Limits l = limits.mean();
  report(state, total, seconds, l);
  state.counters["fma_fraction"] = total.flops() / seconds / l.peak;
  if (optimise) state.counters["optimiser_share"] = optimising / seconds;
}

template <class Real>
void add_storage(const Suite& suite) {
  for (const Shape& shape : suite.shapes) {
    for (const Index tokens : suite.tokens) {
      if (tokens < 64) continue;
      for (const Index threads : {1, 2}) {
        for (const bool optimise : {false, true}) {
          const std::string name = std::string(optimise ? "train_step/" : "train/") +
                                   StorageInfo<Real>::kName + "/" + cell_name(shape, tokens, threads);
          add(name,
              [=](benchmark::State& state) { train<Real>(state, name, shape, tokens, threads, optimise); });
        }
      }
    }
  }
}

}  // namespace

void add_train(const Suite& suite) {
  add_storage<float>(suite);
  add_storage<double>(suite);
}

}  // namespace bench
