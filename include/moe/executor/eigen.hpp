// Adapter for Eigen's thread pool, or any pool with NumThreads() and Schedule(function). Eigen is not
// included here.
#pragma once

#include <algorithm>
#include <atomic>
#include <concepts>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <utility>

#include "moe/core/executor.hpp"
#include "moe/executor/fork_count.hpp"
#include "moe/executor/spin_hint.hpp"

MOE_NAMESPACE_BEGIN

template <class Pool>
concept SchedulesTasks = requires(Pool& pool, void (*task)()) {
  { pool.NumThreads() } -> std::convertible_to<int>;
  pool.Schedule(task);
};

/// Borrows the pool. The calling thread works too, so concurrency is NumThreads() + 1. A call waits for the
/// tasks that have begun, never for one still in the queue, so it may come from inside one of the pool's own
/// tasks. It allocates nothing: a task is one pointer, which std::function keeps in itself. In a child made
/// by fork, where the pool's threads are gone, the caller works alone.
template <SchedulesTasks Pool>
class EigenExecutor {
 public:
  explicit EigenExecutor(Pool& pool) : pool_(&pool), calls_(std::make_shared<Calls>()) {}

  Index concurrency() const noexcept { return static_cast<Index>(pool_->NumThreads()) + 1; }

  template <class F>
  void parallel_for(Index n, F&& f) const {
    static_assert(std::is_nothrow_invocable_v<F&, Index, Index>,
                  "moe: parallel_for needs a noexcept f(index, worker)");
    const Index helpers = (std::min)(concurrency(), n) - 1;
    Call* const call = helpers <= 0 || forks_ != impl::fork_count() ? nullptr : free_call();
    if (call == nullptr) {
      for (Index i = 0; i < n; ++i) f(i, Index{0});
      return;
    }
    using Function = std::remove_reference_t<F>;
    call->begin(calls_, n, helpers, const_cast<void*>(static_cast<const void*>(&f)),
                [](void* context, Index index, Index worker) noexcept {
                  (*static_cast<Function*>(context))(index, worker);
                });
    Index queued = 0;
    try {
      for (; queued < helpers; ++queued) {
        pool_->Schedule([call] { call->help(); });
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
    call->leave(1 + helpers - queued);
  }

 private:
  static constexpr int kSpinsBeforeYield = 1024;
  /// Calls whose tasks may be in the queue at once. Who finds none left works alone: the pool is behind.
  static constexpr Index kCalls = 16;

  struct Call;
  struct Calls;

  /// Shared with the tasks: one that begins after all indices are claimed finds nothing to do, and the
  /// function gone. Free again when all tasks have been here.
  struct Call {
    void begin(std::shared_ptr<Calls> all, Index n, Index helpers, void* function,
               void (*function_call)(void*, Index, Index) noexcept) noexcept {
      owner = std::move(all);
      context = function;
      run = function_call;
      count = n;
      next.store(0, std::memory_order_relaxed);
      done.store(0, std::memory_order_relaxed);
      workers.store(1, std::memory_order_relaxed);
      present.store(1 + helpers, std::memory_order_relaxed);
    }

    void work(Index worker) noexcept {
      Index mine = 0;
      for (Index i = next.fetch_add(1, std::memory_order_relaxed); i < count;
           i = next.fetch_add(1, std::memory_order_relaxed)) {
        run(context, i, worker);
        ++mine;
      }
      if (mine > 0) done.fetch_add(mine, std::memory_order_release);
    }

    void help() noexcept {
      work(workers.fetch_add(1, std::memory_order_relaxed));
      leave(1);
    }

    void leave(Index leaving) noexcept {
      if (present.fetch_sub(leaving, std::memory_order_acq_rel) != leaving) return;
      const std::shared_ptr<Calls> last = std::move(owner);  // may be all that keeps this
      taken.store(false, std::memory_order_release);
    }

    std::atomic<bool> taken{false};
    std::shared_ptr<Calls> owner;  // while taken: tasks may outlive the executor
    void* context = nullptr;
    void (*run)(void*, Index, Index) noexcept = nullptr;
    Index count = 0;
    std::atomic<Index> next{0};
    std::atomic<Index> done{0};
    std::atomic<Index> workers{0};
    std::atomic<Index> present{0};  // the caller, and tasks that have not ended
  };
  struct Calls {
    Call call[kCalls];
  };

  Call* free_call() const noexcept {
    for (Call& call : calls_->call) {
      if (!call.taken.exchange(true, std::memory_order_acquire)) return &call;
    }
    return nullptr;
  }

  Pool* pool_;
  std::shared_ptr<Calls> calls_;
  std::uint32_t forks_ = impl::fork_count();
};

MOE_NAMESPACE_END
