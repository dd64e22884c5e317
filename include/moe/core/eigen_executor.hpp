// Adapter for Eigen's thread pool, or any pool with NumThreads() and Schedule(function). Eigen is not included
// here. Eigen queues std::function, so a call allocates: take PoolExecutor where that matters.
#pragma once

#include <atomic>
#include <type_traits>

#include "moe/core/executor.hpp"
#include "moe/kernel/cpu.hpp"

MOE_NAMESPACE_BEGIN

template <class Pool>
concept SchedulesTasks = requires(Pool& pool, void (*task)()) {
  { pool.NumThreads() } -> std::convertible_to<int>;
  pool.Schedule(task);
};

/// Borrows the pool. The calling thread works too, so concurrency is NumThreads() + 1. Not to be called from
/// inside one of the pool's own tasks when all its threads are busy.
template <SchedulesTasks Pool>
class EigenExecutor {
 public:
  explicit EigenExecutor(Pool& pool) noexcept : pool_(&pool) {}

  Index concurrency() const noexcept { return Index{pool_->NumThreads()} + 1; }

  template <class F>
  void parallel_for(Index n, F&& f) const {
    static_assert(std::is_nothrow_invocable_v<F&, Index, Index>,
                  "moe: parallel_for needs a noexcept f(index, worker)");
    const Index helpers = n <= 1 ? 0 : concurrency() - 1;
    std::atomic<Index> next{0};
    std::atomic<Index> running{helpers};
    const auto claim = [&](Index worker) noexcept {
      for (Index i = next.fetch_add(1, std::memory_order_relaxed); i < n;
           i = next.fetch_add(1, std::memory_order_relaxed)) {
        f(i, worker);
      }
    };
    for (Index w = 1; w <= helpers; ++w) {
      pool_->Schedule([&claim, &running, w] {
        claim(w);
        running.fetch_sub(1, std::memory_order_release);
      });
    }
    claim(0);
    while (running.load(std::memory_order_acquire) != 0) cpu_relax();
  }

 private:
  Pool* pool_;
};

MOE_NAMESPACE_END
