// moe_bench: whole layers against this machine's own limits. Names:
//   forward/<storage>/<shape>/tokens:<T>/threads:<N>[/skew:<zipf|same>]    train/...    peer/eigen_loop/...
//   route/<router>/<shape>/tokens:<T>/threads:1
// Shapes (D,F,E,K): S1 = (1024,3584,8,2), S2 = (1024,512,64,8), S3 = (2048,1024,64,8); --moe_shape=D,F,E,K
// adds one.
// --moe_smoke divides widths by 16 and leaves out T > 64: every benchmark for a moment. Counters:
// flops_per_s, bytes_per_s, roofline = best possible time / measured time (docs/performance.md).
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "limits.hpp"
#include "moe/describe.hpp"
#include "peer_eigen.hpp"
#include "problem.hpp"
#include "route.hpp"

namespace {

using namespace bench;

bool smoke = false;

/// Counters of `state` from the costs of all its calls, which took `seconds`.
template <class Real>
void report(benchmark::State& state, const Cost& total, double seconds, Index threads) {
  const Limits& l = limits<Real>(threads, smoke);
  using benchmark::Counter;
  state.counters["flops_per_s"] = Counter(total.flops, Counter::kIsRate);
  state.counters["bytes_per_s"] = Counter(total.bytes, Counter::kIsRate);
  state.counters["roofline"] = std::max(total.flops / l.flops, total.bytes / l.bytes) / seconds;
}

Index rotation(Index tokens) {
  return tokens <= 8 ? 16 : 4;
}

template <class Real>
void forward(benchmark::State& state, const Shape& shape, Index tokens, Index threads, Skew skew) {
  Problem<Real>& p = problem<Real>(shape);
  const auto inputs = batches<Real>(rotation(tokens), tokens, shape.D);
  const std::vector<Real> mask = skew_mask<Real>(skew, shape);
  std::vector<Real> y(inputs[0].size());
  moe::PoolExecutor pool(threads);
  moe::Workspace workspace;
  moe::LayerOutput<Real> out(moe::MatrixView<Real>(y.data(), tokens, shape.D));
  const auto input = [&](std::size_t call) {
    moe::LayerInput<Real> in(
        moe::ConstMatrixView<Real>(inputs[call % inputs.size()].data(), tokens, shape.D));
    if (skew != Skew::uniform) in.logit_mask = moe::ConstMatrixView<Real>(mask.data(), 1, shape.E);
    return in;
  };
  std::vector<Cost> costs;  // of each combination of weights and tokens
  for (std::size_t call = 0; call < inputs.size(); ++call) {
    typename Problem<Real>::Layer::Tape tape;
    moe::RouteStats stats;
    moe::LayerOutput<Real> once(out.y, &stats);
    if (call > 0) {
      p.layer(call).forward(input(call), once, workspace, pool);
    } else {  // verified once per benchmark, with the executor that is timed
      moe::LayerInput<Real> in = input(0);
      in.mode = moe::Mode::inference;
      p.layer(0).forward_train(in, once, tape, workspace, pool);
      const std::vector<Real> taped = y;
      p.layer(0).forward(in, out, workspace, pool);
      if (std::memcmp(taped.data(), y.data(), y.size() * sizeof(Real)) != 0)
        return state.SkipWithError("forward differs from forward_train");
      const std::string difference = p.check(p.layer(0), in.x, out.y, tape.routes());
      if (!difference.empty()) return state.SkipWithError(difference.c_str());
    }
    costs.push_back(cost_of<Real>(shape, tokens, stats));
  }
  Cost total;
  std::size_t call = 0;
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) {
    p.layer(call).forward(input(call), out, workspace, pool);
    benchmark::ClobberMemory();
    total.flops += costs[call % costs.size()].flops;
    total.bytes += costs[call % costs.size()].bytes;
    ++call;
  }
  report<Real>(state, total, seconds_since(start), threads);
}

/// forward_train and backward with all gradients: three passes over the weights' products.
template <class Real>
void train(benchmark::State& state, const Shape& shape, Index tokens, Index threads) {
  Problem<Real>& p = problem<Real>(shape);
  using Layer = typename Problem<Real>::Layer;
  const auto inputs = batches<Real>(2, tokens, shape.D);
  std::vector<Real> y(inputs[0].size()), dx(y.size());
  moe::PoolExecutor pool(threads);
  moe::Workspace workspace;
  typename Layer::Tape tape;
  auto gradients = p.layer(0).make_gradients();
  const auto step = [&](std::size_t call, moe::RouteStats* stats) {
    const moe::ConstMatrixView<Real> x(inputs[call % 2].data(), tokens, shape.D);
    moe::LayerOutput<Real> out(moe::MatrixView<Real>(y.data(), tokens, shape.D), stats);
    p.layer(0).forward_train(x, out, tape, workspace, pool);
    typename Layer::LayerGradients back(x, moe::MatrixView<Real>(dx.data(), tokens, shape.D), gradients);
    p.layer(0).backward(tape, back, workspace, pool);
  };
  moe::RouteStats stats;
  step(0, &stats);
  const std::string difference =
      p.check(p.layer(0), {inputs[0].data(), tokens, shape.D}, {y.data(), tokens, shape.D}, tape.routes());
  if (!difference.empty()) return state.SkipWithError(difference.c_str());
  const Cost once = cost_of<Real>(shape, tokens, stats);
  Cost total;
  std::size_t call = 0;
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) {
    step(call++, nullptr);
    benchmark::ClobberMemory();
    total.flops += 3 * once.flops;
    total.bytes += 4 * once.bytes;  // weights read twice, gradients read and written
  }
  report<Real>(state, total, seconds_since(start), threads);
}

/// What a user would write with Eigen: for every expert gather its rows, three products, scatter.
template <class Real>
void eigen_loop(benchmark::State& state, const Shape& shape, Index tokens, Index threads) {
  Problem<Real>& p = problem<Real>(shape);
  const auto inputs = batches<Real>(rotation(tokens), tokens, shape.D);
  EigenLoop<Real> peer(p.layer(0), shape, threads);
  std::vector<Real> ours(inputs[0].size()), y(ours.size());
  moe::PoolExecutor pool(threads);
  moe::Workspace workspace;
  std::vector<moe::RouteStats> stats(inputs.size());
  std::vector<typename Problem<Real>::Layer::Tape> tapes(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    moe::LayerOutput<Real> out(moe::MatrixView<Real>(ours.data(), tokens, shape.D), &stats[i]);
    p.layer(0).forward_train(moe::ConstMatrixView<Real>(inputs[i].data(), tokens, shape.D), out, tapes[i],
                             workspace, pool);
  }
  peer.forward(inputs.back().data(), tokens, tapes.back().routes(), y.data());
  const std::string difference = p.check(p.layer(0), {inputs.back().data(), tokens, shape.D},
                                         {y.data(), tokens, shape.D}, tapes.back().routes());
  if (!difference.empty()) return state.SkipWithError(difference.c_str());
  Cost total;
  std::size_t call = 0;
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) {
    const std::size_t i = call++ % inputs.size();
    peer.forward(inputs[i].data(), tokens, tapes[i].routes(), y.data());
    benchmark::ClobberMemory();
    const Cost cost = cost_of<Real>(shape, tokens, stats[i]);
    total.flops += cost.flops;
    total.bytes += cost.bytes;
  }
  report<Real>(state, total, seconds_since(start), threads);
}

template <class... Args>
void add(const std::string& name, Args... args) {
  auto* b = benchmark::RegisterBenchmark(name.c_str(), args...);
  b->UseRealTime()->Unit(benchmark::kMicrosecond);
}

template <class Real>
void add_all(const char* storage, const Shape& shape) {
  for (const Index tokens : {1, 8, 64, 512, 2048}) {
    if (smoke && tokens > 64) continue;
    for (const Index threads : {1, 2}) {
      const std::string rest = std::string(storage) + "/" + shape.name + "/tokens:" + std::to_string(tokens) +
                               "/threads:" + std::to_string(threads);
      add("forward/" + rest, forward<Real>, shape, tokens, threads, Skew::uniform);
      if (std::is_same_v<Real, float>)
        add("peer/eigen_loop/" + rest, eigen_loop<Real>, shape, tokens, threads);
      for (const Skew skew : {Skew::zipf, Skew::same}) {
        if (tokens >= 64)
          add("forward/" + rest + "/skew:" + name_of(skew), forward<Real>, shape, tokens, threads, skew);
      }
      if (tokens >= 64) add("train/" + rest, train<Real>, shape, tokens, threads);
    }
  }
}

/// "D,F,E,K", or exit with a message.
Shape parse_shape(const char* text) {
  Shape shape{"custom", 0, 0, 0, 0};
  char rest = 0;
  if (std::sscanf(text, "%td,%td,%td,%td%c", &shape.D, &shape.F, &shape.E, &shape.K, &rest) != 4 ||
      shape.D < 1 || shape.F < 1 || shape.E < 1 || shape.K < 1 || shape.K > shape.E) {
    std::fprintf(stderr, "--moe_shape: expected D,F,E,K with 1 <= K <= E, got %s\n", text);
    std::exit(2);
  }
  return shape;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<Shape> shapes = {{"S1", 1024, 3584, 8, 2}, {"S2", 1024, 512, 64, 8}, {"S3", 2048, 1024, 64, 8}};
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "--moe_shape=", 12) == 0) {
      shapes.push_back(parse_shape(argv[i] + 12));
    } else if (std::strcmp(argv[i], "--moe_smoke") == 0) {
      smoke = true;
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = kept;
  for (Shape& shape : shapes) {
    if (smoke) shape.D = std::max<Index>(1, shape.D / 16), shape.F = std::max<Index>(1, shape.F / 16);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  const moe::Description d = moe::describe();
  benchmark::AddCustomContext("moe", std::string(d.version) + ", " + d.instructions + ", " + d.compiler);
  for (const Index threads : {1, 2}) {
    const Limits &f = limits<float>(threads, smoke), &g = limits<double>(threads, smoke);
    char text[160];
    std::snprintf(text, sizeof text, "%.1f GFLOP/s float, %.1f GFLOP/s double, %.1f GB/s read",
                  f.flops * 1e-9, g.flops * 1e-9, std::max(f.bytes, g.bytes) * 1e-9);
    benchmark::AddCustomContext("limits, " + std::to_string(threads) + " thread(s)", text);
  }
  for (const Shape& shape : shapes) {
    add_all<float>("float", shape);
    add_all<double>("double", shape);
    for (const Index tokens : {1, 64, 512}) add_routes(shape, tokens);
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
