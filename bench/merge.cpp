// Merging experts by their parameters:
//   merge/forward/float/<shape>/threads:<N>    one expert = sum of p_e theta_e, all E of them
//   merge/backward/float/<shape>/threads:<N>   d p_e and the experts' gradients, from that of the merged one
//   merge/layer/float/<shape>/tokens:<T>/threads:<N>   a MergingLayer over one segment of T rows
// The counter bytes_per_s counts numbers read and written; read_fraction is that of the bytes read over the
// machine's limit (backward reads parameters and gradients and writes gradients as well: read_fraction counts
// what it reads).
#include <chrono>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "moe/executor/pool.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/layer/soft/merging_layer.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/soft/segment_mixer.hpp"
#include "suite.hpp"

namespace bench {
namespace {

using Bank = moe::Glu<moe::Silu, float>;
using Layer = moe::MergingLayer<moe::SegmentMixer<moe::LinearScorer<float>>, Bank>;

/// Banks that fit no cache: as many experts as take 192 MiB at least.
Index experts_of(const Shape& shape, bool smoke) {
  const Index bytes = 3 * shape.D * shape.F * Index{sizeof(float)};
  return smoke ? shape.E : std::max(shape.E, (Index{192} << 20) / bytes);
}

/// Empty, or which number of the merged expert is wrong.
std::string check(const Bank& bank, const std::vector<float>& p, const Bank::Merged& one) {
  const auto all = moe::Index{bank.experts()};
  std::vector<double> sum, size;
  Index at = 0;
  moe::visit_parameters(bank, [&](const auto& q) {
    if (std::string(q.name).find("down_proj") == std::string::npos) return;
    const Index e = at++;
    for (Index o = 0; o < q.value.rows; o += 37) {
      for (Index i = 0; i < q.value.cols; i += 41) {
        const double term =
            static_cast<double>(p[static_cast<std::size_t>(e)]) * static_cast<double>(q.value(o, i));
        const auto n = static_cast<std::size_t>((o / 37) * ((q.value.cols + 40) / 41) + i / 41);
        if (e == 0) sum.resize(std::max(sum.size(), n + 1)), size.resize(sum.size());
        sum[n] += term, size[n] += std::abs(term);
      }
    }
  });
  const Index panel = moe::kPanel<float>;
  for (Index o = 0; o < bank.width(); o += 37) {
    for (Index i = 0; i < bank.hidden(); i += 41) {
      const auto n = static_cast<std::size_t>((o / 37) * ((bank.hidden() + 40) / 41) + i / 41);
      const double got =
          static_cast<double>(one.second.data[(o / panel) * bank.hidden() * panel + i * panel + o % panel]);
      if (!(std::abs(got - sum[n]) <= static_cast<double>(all + 1) * 0x1p-24 * size[n])) {
        return "row " + std::to_string(o) + ", column " + std::to_string(i) + ": expected " +
               std::to_string(sum[n]) + ", got " + std::to_string(got);
      }
    }
  }
  return {};
}

void merge(benchmark::State& state, const Shape& shape, bool smoke, bool backward, Index threads) {
  moe::PoolExecutor pool(threads);
  Bank bank({experts_of(shape, smoke), shape.D, shape.F});
  bank.initialise(1, pool);
  std::vector<float> p(static_cast<std::size_t>(bank.experts())), dp(p.size());
  for (std::size_t e = 0; e < p.size(); ++e) p[e] = 1 / static_cast<float>(p.size() + e);
  moe::Arena measuring;
  bank.take_merged(measuring);
  bank.measure_merge_backward(measuring, threads);
  moe::Workspace memory;
  moe::Arena arena = memory.arena(measuring.bytes());
  const Bank::Merged one = bank.take_merged(arena);
  const Index mark = arena.mark();
  Bank::Gradients gradients(bank.make_gradients());
  bank.merge(p.data(), one, arena, pool);
  const std::string wrong = check(bank, p, one);
  if (!wrong.empty()) return state.SkipWithError(wrong.c_str());
  const auto run = [&] {
    if (backward) {
      bank.merge_backward(p.data(), one, dp.data(), &gradients, arena, pool);
      arena.rewind(mark);
    } else {
      bank.merge(p.data(), one, arena, pool);
    }
  };
  run();
  const LimitsBeside limits(Instruction::fma_float, threads);
  double timed = 0;
  for (auto _ : state) {
    const auto begin = std::chrono::steady_clock::now();
    run();
    benchmark::ClobberMemory();
    const double seconds = seconds_since(begin);
    state.SetIterationTime(seconds);
    timed += seconds;
  }
  const double bank_bytes = static_cast<double>(bank.bytes()),
               expert = bank_bytes / static_cast<double>(p.size());
  const double read = backward ? 2 * bank_bytes + expert : bank_bytes;
  const double written = backward ? bank_bytes : expert;
  const double calls = static_cast<double>(state.iterations());
  const double limit = limits.mean().bytes;
  state.counters["bytes_per_s"] = (read + written) * calls / timed;
  state.counters["read_bytes"] = limit;
  state.counters["read_fraction"] = read * calls / timed / limit;
}

void layer(benchmark::State& state, const Shape& shape, bool smoke, Index tokens, Index threads) {
  moe::PoolExecutor pool(threads);
  const Index experts = experts_of(shape, smoke);
  Layer merging(moe::SegmentMixer<moe::LinearScorer<float>>(
                    moe::LinearScorer<float>({.width = shape.D, .outputs = experts})),
                Bank({experts, shape.D, shape.F}));
  merging.router().scorer().initialise(2);
  merging.experts().initialise(1, pool);
  std::mt19937 random(3);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> x(static_cast<std::size_t>(tokens * shape.D)), y(x.size());
  for (float& v : x) v = uniform(random);
  moe::LayerInput<float> in(moe::ConstMatrixView<float>(x.data(), tokens, shape.D));
  in.segments = moe::Segments::uniform(tokens);
  moe::LayerOutput<float> out(moe::MatrixView<float>(y.data(), tokens, shape.D));
  moe::Workspace workspace;
  merging.forward(in, out, workspace, pool);
  const LimitsBeside limits(Instruction::fma_float, threads);
  double timed = 0;
  for (auto _ : state) {
    const auto begin = std::chrono::steady_clock::now();
    merging.forward(in, out, workspace, pool);
    const double seconds = seconds_since(begin);
    state.SetIterationTime(seconds);
    timed += seconds;
  }
  Cost cost;
  cost.expert_flops = 6.0 * static_cast<double>(tokens * shape.D) * static_cast<double>(shape.F);
  cost.bytes = static_cast<double>(merging.experts().bytes());
  Cost total;
  for (benchmark::IterationCount i = 0; i < state.iterations(); ++i) total += cost;
  report(state, total, timed, limits.mean());
}

}  // namespace

void add_merge(const Suite& suite) {
  for (const Shape& shape : suite.shapes) {
    for (const Index threads : {1, 2}) {
      const std::string cell = shape.name + "/threads:" + std::to_string(threads);
      for (const bool backward : {false, true}) {
        add(
            std::string("merge/") + (backward ? "backward" : "forward") + "/float/" + cell,
            [=, smoke = suite.smoke](benchmark::State& state) {
              merge(state, shape, smoke, backward, threads);
            },
            Timing::manual);
      }
      for (const Index tokens : suite.tokens) {
        add(
            "merge/layer/float/" + cell_name(shape, tokens, threads),
            [=, smoke = suite.smoke](benchmark::State& state) {
              layer(state, shape, smoke, tokens, threads);
            },
            Timing::manual);
      }
    }
  }
}

}  // namespace bench
