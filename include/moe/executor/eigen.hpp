// Adapter for Eigen's thread pool, or any pool with NumThreads() and Schedule(function). Eigen is not
// included here. Eigen queues std::function, so a call allocates: take PoolExecutor where that matters.
#pragma once

#include <algorithm>
#include <atomic>
#include <concepts>
#include <memory>
#include <thread>
#include <type_traits>

#include "moe/core/executor.hpp"
#include "moe/executor/spin_hint.hpp"

MOE_NAMESPACE_BEGIN

template <class Pool>
concept SchedulesTasks = requires(Pool& pool, void (*task)()) {
  { pool.NumThreads() } -> std::convertible_to<int>;
  pool.Schedule(task);
};

/// Borrows the pool. The calling thread works too, so concurrency is NumThreads() + 1. A call waits for the
/// tasks that have begun, never for one still in the queue, so it may come from inside one of the pool's own
/// tasks.
template <SchedulesTasks Pool>
class EigenExecutor {
 public:
  explicit EigenExecutor(Pool& pool) noexcept : pool_(&pool) {}

  Index concurrency() const noexcept { return static_cast<Index>(pool_->NumThreads()) + 1; }

  template <class F>
  void parallel_for(Index n, F&& f) const {
    static_assert(std::is_nothrow_invocable_v<F&, Index, Index>,
                  "moe: parallel_for needs a noexcept f(index, worker)");
    const Index helpers = std::min(concurrency(), n) - 1;
    if (helpers <= 0) {
      for (Index i = 0; i < n; ++i) f(i, Index{0});
      return;
    }
    const auto call = std::make_shared<Call<std::remove_reference_t<F>>>(f, n);
    try {
      for (Index w = 1; w <= helpers; ++w) {
        pool_->Schedule([call, w] { call->work(w); });
      }
    } catch (...) {  // no memory for one more task: those that are queued help
    }
    call->work(0);
    for (int spins = 0; call->done.load(std::memory_order_acquire) != n;) {
      if (spins < kSpinsBeforeYield) {
        ++spins;
        cpu_relax();
      } else {
        std::this_thread::yield();
      }
    }
  }

 private:
  static constexpr int kSpinsBeforeYield = 1024;

  /// Shared with the tasks: one that begins after all indices are claimed finds nothing to do, and `f` gone.
  template <class F>
  struct Call {
    Call(F& function, Index n) noexcept : f(&function), count(n) {}

    void work(Index worker) noexcept {
      Index mine = 0;
      for (Index i = next.fetch_add(1, std::memory_order_relaxed); i < count;
           i = next.fetch_add(1, std::memory_order_relaxed)) {
        (*f)(i, worker);
        ++mine;
      }
      if (mine > 0) done.fetch_add(mine, std::memory_order_release);
    }

    F* f;
    Index count;
    std::atomic<Index> next{0};
    std::atomic<Index> done{0};
  };

  Pool* pool_;
};

MOE_NAMESPACE_END
