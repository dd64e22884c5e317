// Adapter for OpenMP. Compiled without OpenMP it runs on the calling thread.
#pragma once

#include <atomic>
#include <type_traits>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/executor/openmp_region.hpp"

MOE_NAMESPACE_BEGIN

/// One parallel region per call, tasks claimed from a counter.
class OpenMpExecutor {
 public:
  /// `threads` 0: as many as OpenMP would take. Throws config_error below 0.
  explicit OpenMpExecutor(Index threads = 0) : threads_(threads) {
    require_range("threads", threads, 0, 4096);
    if (threads == 0) threads_ = openmp_max_threads();
  }

  Index concurrency() const noexcept { return threads_; }

  template <class F>
  void parallel_for(Index n, F&& f) const noexcept {
    static_assert(std::is_nothrow_invocable_v<F&, Index, Index>,
                  "moe: parallel_for needs a noexcept f(index, worker)");
    std::atomic<Index> next{0};
    openmp_region(n <= 1 ? 1 : threads_, [&](Index worker) noexcept {
      for (Index i = next.fetch_add(1, std::memory_order_relaxed); i < n;
           i = next.fetch_add(1, std::memory_order_relaxed)) {
        f(i, worker);
      }
    });
  }

 private:
  Index threads_;
};

MOE_NAMESPACE_END
