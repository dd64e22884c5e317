// What all benchmarks share: shapes, names, the cost of a call and the counters made of it.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "limits.hpp"

namespace bench {

struct Shape {
  std::string name;
  Index D, F, E, K;
};

/// What main() asks for. In a smoke run every benchmark works for a moment, on narrow shapes.
struct Suite {
  std::vector<Shape> shapes;
  std::vector<Index> tokens;
  bool smoke = false;
};

// One file each, which registers its benchmarks.
void add_forward(const Suite& suite);
void add_low_precision(const Suite& suite);
void add_file_formats(const Suite& suite);
void add_train(const Suite& suite);
void add_peers(const Suite& suite);
void add_stages(const Suite& suite);
void add_routes(const Suite& suite);
void add_assignment(const Suite& suite);
void add_schedule(const Suite& suite);
void add_soft(const Suite& suite);
void add_merge(const Suite& suite);
void add_executor(const Suite& suite);
void add_accuracy();

/// "<shape>/tokens:<T>/threads:<N>"
inline std::string cell_name(const Shape& shape, Index tokens, Index threads) {
  return shape.name + "/tokens:" + std::to_string(tokens) + "/threads:" + std::to_string(threads);
}

/// By the clock on the wall, or by the time that f sets.
enum class Timing { real, manual };

/// f(benchmark::State&).
template <class F>
benchmark::internal::Benchmark* add(const std::string& name, F f, Timing timing = Timing::real) {
  auto* const added = benchmark::RegisterBenchmark(name.c_str(), std::move(f));
  timing == Timing::manual ? added->UseManualTime() : added->UseRealTime();
  return added->Unit(benchmark::kMicrosecond);
}

inline double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// What calls must do: arithmetic of the experts and of the router, bytes of the distinct weights they touch,
/// of X and of Y.
struct Cost {
  double expert_flops = 0;
  double router_flops = 0;
  double bytes = 0;

  Cost& operator+=(const Cost& c) {
    expert_flops += c.expert_flops, router_flops += c.router_flops, bytes += c.bytes;
    return *this;
  }
  double flops() const { return expert_flops + router_flops; }
  /// The shortest time in which a machine of these limits can do it, arithmetic behind memory or the other
  /// way round.
  double best_seconds(const Limits& l) const {
    return std::max(expert_flops / l.peak + router_flops / l.float_peak, bytes / l.bytes);
  }
};

/// Counters of calls that cost `total` and took `seconds`, all of them; the limits were measured beside them.
inline void report(benchmark::State& state, const Cost& total, double seconds, const Limits& l) {
  state.counters["flops_per_s"] = total.flops() / seconds;
  state.counters["bytes_per_s"] = total.bytes / seconds;
  state.counters["roofline"] = total.best_seconds(l) / seconds;
  state.counters["peak_flops"] = l.peak;
  state.counters["fma_flops"] = l.float_peak;
  state.counters["read_bytes"] = l.bytes;
}

}  // namespace bench
