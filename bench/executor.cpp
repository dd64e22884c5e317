// What a parallel_for costs that has nothing to do:
//   executor/pool_spinning/threads:<N>   called again at once, workers still spin
//   executor/pool_slept/threads:<N>      called 1 ms later, workers sleep
// The counter median_ns is the median call in nanoseconds.
#include <algorithm>

#include "moe/executor/pool.hpp"
#include "suite.hpp"

namespace bench {
namespace {

void empty_calls(benchmark::State& state, Index threads, double pause_seconds) {
  moe::PoolExecutor pool(threads);
  std::vector<double> seconds;
  for (auto _ : state) {
    // A caller that works meanwhile, rather than one that sleeps: its own core is awake.
    const auto idle = std::chrono::steady_clock::now();
    while (seconds_since(idle) < pause_seconds) {
    }
    const auto start = std::chrono::steady_clock::now();
    pool.parallel_for(threads, [](Index, Index) noexcept {});
    seconds.push_back(seconds_since(start));
    state.SetIterationTime(seconds.back());
  }
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  state.counters["median_ns"] = *middle * 1e9;
}

}  // namespace

void add_executor(const Suite&) {
  for (const Index threads : {1, 2}) {
    const std::string rest = "/threads:" + std::to_string(threads);
    const auto add_calls = [&](const char* name, double pause_seconds, int calls) {
      add(
          name + rest, [=](benchmark::State& state) { empty_calls(state, threads, pause_seconds); },
          Timing::manual)
          ->Iterations(calls)
          ->Unit(benchmark::kNanosecond);
    };
    add_calls("executor/pool_spinning", 0, 10'000);
    add_calls("executor/pool_slept", 1e-3, 200);
  }
}

}  // namespace bench
