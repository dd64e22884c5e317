// The dense products of soft layers:
//   soft/dispatch/float/D:<D>/slots:<S>/tokens:<T>/threads:<N>    slots = D rows, packing of the rows
//   included soft/weights/...                                              dD = dslots rows^T, of the
//   backward soft/eigen/...                                                the first by Eigen's product
//   soft/gather/.../nonzeros:<n>                                  the first as weighted sums, n rows a slot
// Combine is dispatch with slots and tokens exchanged. The counter fma_fraction is flops over the peak; of a
// gather, whose cost is in its nonzeros, the counter dense_share is its time over that of the dense product
// beside it.
#include <Eigen/Core>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "moe/executor/pool.hpp"
#include "moe/kernel/weighted_sum.hpp"
#include "moe/product/row_mix.hpp"
#include "suite.hpp"

namespace bench {
namespace {

struct Mixture {
  Index width, slots, tokens;
  std::vector<float> row, weight, slot;
  std::vector<const float*> row_at, weight_at;
  std::vector<float*> slot_at, dweight_at;
  Index in[2], out[2];
  moe::Workspace memory;

  Mixture(Index width_, Index slots_, Index tokens_, Index threads)
      : width(width_),
        slots(slots_),
        tokens(tokens_),
        row(static_cast<std::size_t>(tokens * width)),
        weight(static_cast<std::size_t>(slots * stride())),
        slot(static_cast<std::size_t>(slots * width)),
        in{0, tokens},
        out{0, slots} {
    std::mt19937 random(1);
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (float& v : row) v = uniform(random);
    for (float& v : weight) v = uniform(random);
    for (Index t = 0; t < tokens; ++t) row_at.push_back(row.data() + t * width);
    for (Index s = 0; s < slots; ++s) {
      weight_at.push_back(weight.data() + s * stride());
      dweight_at.push_back(weight.data() + s * stride());
      slot_at.push_back(slot.data() + s * width);
    }
    moe::Arena measuring;
    moe::measure_mix_rows<float>(measuring, 1, tokens, width);
    measuring.rewind(0);
    moe::measure_mix_weight_gradients<float>(measuring, 1, tokens, width, threads);
    memory.reserve(measuring.bytes());
  }
  Index stride() const { return moe::row_stride<float>(tokens); }
  double flops() const {
    return 2.0 * static_cast<double>(slots) * static_cast<double>(tokens) * static_cast<double>(width);
  }
  moe::RowMix<float> mix() const { return {1, in, out, row_at.data(), weight_at.data(), width}; }

  template <class Executor>
  void dispatch(Executor& executor) {
    moe::Arena arena = memory.arena(0);
    moe::mix_rows(mix(), slot_at.data(), false, arena, executor);
  }
  template <class Executor>
  void weights(Executor& executor) {
    moe::Arena arena = memory.arena(0);
    moe::mix_weight_gradients(mix(), slot_at.data(), dweight_at.data(), arena, executor);
  }
  void eigen() {
    using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const Eigen::Map<const Matrix, 0, Eigen::OuterStride<>> d(weight.data(), slots, tokens,
                                                              Eigen::OuterStride<>(stride()));
    const Eigen::Map<const Matrix> x(row.data(), tokens, width);
    Eigen::Map<Matrix>(slot.data(), slots, width).noalias() = d * x;
  }
  /// Slot s reads every (tokens / n)-th row.
  template <class Executor>
  void gather(Index n, Executor& executor) {
    constexpr Index kMost = 64;
    executor.parallel_for(slots, [&](Index s, Index) noexcept {
      const float* rows[kMost];
      float weights[kMost];
      float* const to = slot_at[static_cast<std::size_t>(s)];
      for (Index first = 0; first < n; first += kMost) {
        const Index count = std::min(kMost, n - first);
        for (Index i = 0; i < count; ++i) {
          const Index t = ((first + i) * (tokens / n) + s) % tokens;
          rows[i] = row_at[static_cast<std::size_t>(t)];
          weights[i] = weight_at[static_cast<std::size_t>(s)][t];
        }
        if (first == 0) {
          moe::weighted_sum_rows(rows, weights, count, to, width);
        } else {
          moe::accumulate_weighted_rows(rows, weights, count, to, width);
        }
      }
    });
  }
  /// Empty, or which slot of a dispatch is wrong.
  std::string check() const {
    for (Index s = 0; s < slots; s += std::max<Index>(1, slots / 7)) {
      for (Index j = 0; j < width; j += 97) {
        double sum = 0, size = 0;
        for (Index t = 0; t < tokens; ++t) {
          const double term = static_cast<double>(weight_at[static_cast<std::size_t>(s)][t]) *
                              static_cast<double>(row_at[static_cast<std::size_t>(t)][j]);
          sum += term, size += std::abs(term);
        }
        const double got = static_cast<double>(slot_at[static_cast<std::size_t>(s)][j]);
        if (!(std::abs(got - sum) <= static_cast<double>(tokens + 1) * 0x1p-24 * size)) {
          return "slot " + std::to_string(s) + ", column " + std::to_string(j) + ": expected " +
                 std::to_string(sum) + ", got " + std::to_string(got);
        }
      }
    }
    return {};
  }
};

enum class Product { dispatch, weights, eigen, gather };

void soft(benchmark::State& state, Product product, Index width, Index slots, Index tokens, Index threads,
          Index nonzeros) {
  Mixture m(width, slots, tokens, threads);
  moe::PoolExecutor pool(threads);
#if defined(_OPENMP)
  Eigen::setNbThreads(static_cast<int>(threads));
#else
  if (product == Product::eigen && threads > 1) return state.SkipWithError("Eigen has no threads here");
#endif
  const auto run = [&] {
    switch (product) {
      case Product::dispatch:
        return m.dispatch(pool);
      case Product::weights:
        return m.weights(pool);
      case Product::eigen:
        return m.eigen();
      case Product::gather:
        return m.gather(nonzeros, pool);
    }
  };
  m.dispatch(pool);
  if (product == Product::dispatch || product == Product::eigen) run();
  const std::string wrong = m.check();
  if (!wrong.empty()) return state.SkipWithError(wrong.c_str());
  run();
  const LimitsBeside limits(Instruction::fma_float, threads);
  double timed = 0, dense = 0;
  for (auto _ : state) {
    const auto begin = std::chrono::steady_clock::now();
    run();
    benchmark::ClobberMemory();
    const double seconds = seconds_since(begin);
    state.SetIterationTime(seconds);
    timed += seconds;
    if (product != Product::gather) continue;
    const auto then = std::chrono::steady_clock::now();
    m.dispatch(pool);
    dense += seconds_since(then);
  }
  const double calls = static_cast<double>(state.iterations());
  if (product == Product::gather) {
    state.counters["dense_share"] = timed / dense;
    return;
  }
  const double rate = m.flops() * calls / timed;
  state.counters["flops_per_s"] = rate;
  state.counters["fma_fraction"] = rate / limits.mean().peak;
}

}  // namespace

void add_soft(const Suite& suite) {
  const Index width = suite.smoke ? 64 : 1024;
  const std::pair<const char*, Product> products[] = {
      {"dispatch", Product::dispatch}, {"weights", Product::weights}, {"eigen", Product::eigen}};
  for (const Index tokens : {64, 512, 2048}) {
    if (suite.smoke && tokens > 64) continue;
    for (const Index slots : {64, 512, 2048}) {
      if (slots > tokens) continue;
      for (const Index threads : {1, 2}) {
        const std::string cell = "/float/D:" + std::to_string(width) + "/slots:" + std::to_string(slots) +
                                 "/tokens:" + std::to_string(tokens) + "/threads:" + std::to_string(threads);
        for (const auto& [name, product] : products) {
          add(
              "soft/" + std::string(name) + cell,
              [=, what = product](benchmark::State& state) {
                soft(state, what, width, slots, tokens, threads, 0);
              },
              Timing::manual);
        }
        for (Index n = 1; n <= tokens; n *= 8) {
          add(
              "soft/gather" + cell + "/nonzeros:" + std::to_string(n),
              [=](benchmark::State& state) {
                soft(state, Product::gather, width, slots, tokens, threads, n);
              },
              Timing::manual);
        }
      }
    }
  }
}

}  // namespace bench
