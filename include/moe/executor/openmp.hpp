// Adapter for OpenMP. Compiled without OpenMP it runs on the calling thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <type_traits>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/executor/fork_count.hpp"
#include "moe/executor/openmp_region.hpp"

MOE_NAMESPACE_BEGIN

/// One parallel region per call, tasks claimed from a counter. Always of the same number of threads, for a
/// runtime may allocate a team when that changes (libgomp does); what would run on one thread, as a call from
/// inside a region does by default, opens none. In a child of a process that had opened one, where the
/// runtime's threads are gone, the caller works alone.
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
    if (n <= 1 || threads_ == 1 || !openmp_may_branch() || !threads_are_here()) {
      for (Index i = 0; i < n; ++i) f(i, Index{0});
      return;
    }
    std::atomic<Index> next{0};
    openmp_region(threads_, [&](Index worker) noexcept {
      for (Index i = next.fetch_add(1, std::memory_order_relaxed); i < n;
           i = next.fetch_add(1, std::memory_order_relaxed)) {
        f(i, worker);
      }
    });
  }

 private:
  /// False in a child of the process that was the first to ask. libgomp would wait there for ever.
  static bool threads_are_here() noexcept {
    static const std::uint32_t forks = impl::fork_count();
    return forks == impl::fork_count();
  }

  Index threads_;
};

MOE_NAMESPACE_END
