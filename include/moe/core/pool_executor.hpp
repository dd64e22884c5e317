// A small persistent pool. Workers spin for at most 50 microseconds after their last task, then sleep.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/kernel/cpu.hpp"

MOE_NAMESPACE_BEGIN

/// `threads` workers, the calling thread among them. A call from inside a task, or from a second thread while a
/// call runs, is worked off by the caller alone.
class PoolExecutor {
 public:
  /// Throws config_error for threads < 1.
  explicit PoolExecutor(Index threads) : others_(threads - 1) {
    require_range("threads", threads, 1, 4096);
    workers_ = std::make_unique<std::jthread[]>(static_cast<std::size_t>(others_));
    for (Index w = 0; w < others_; ++w) {
      workers_[static_cast<std::size_t>(w)] = std::jthread([this, w] { work(w + 1); });
    }
  }
  PoolExecutor(const PoolExecutor&) = delete;
  PoolExecutor& operator=(const PoolExecutor&) = delete;
  ~PoolExecutor() {
    stop_.store(true, std::memory_order_relaxed);
    announce();
    workers_.reset();  // joins, while the mutex still lives
  }

  Index concurrency() const noexcept { return others_ + 1; }

  template <class F>
  void parallel_for(Index n, F&& f) noexcept {
    static_assert(std::is_nothrow_invocable_v<F&, Index, Index>,
                  "moe: parallel_for needs a noexcept f(index, worker)");
    if (n <= 1 || others_ == 0 || busy_.exchange(true, std::memory_order_acquire)) {
      for (Index i = 0; i < n; ++i) f(i, Index{0});
      return;
    }
    using Function = std::remove_reference_t<F>;
    context_ = const_cast<void*>(static_cast<const void*>(&f));
    call_ = [](void* context, Index index, Index worker) noexcept {
      (*static_cast<Function*>(context))(index, worker);
    };
    count_ = n;
    next_.store(0, std::memory_order_relaxed);
    running_.store(others_, std::memory_order_relaxed);
    announce();
    claim(0);
    for (int spins = 0; running_.load(std::memory_order_acquire) != 0; ++spins) {
      // More threads than cores: let the others have one.
      if (spins < kSpinsPerLook) {
        cpu_relax();
      } else {
        std::this_thread::yield();
      }
    }
    busy_.store(false, std::memory_order_release);
  }

 private:
  static constexpr int kSpinsPerLook = 1024;
  static constexpr std::chrono::microseconds kSpinTime{50};

  void announce() noexcept {
    epoch_.fetch_add(1, std::memory_order_seq_cst);
    if (sleeping_.load(std::memory_order_seq_cst) > 0) {
      const std::lock_guard<std::mutex> lock(mutex_);
      wake_.notify_all();
    }
  }

  void claim(Index worker) noexcept {
    for (Index i = next_.fetch_add(1, std::memory_order_relaxed); i < count_;
         i = next_.fetch_add(1, std::memory_order_relaxed)) {
      call_(context_, i, worker);
    }
  }

  void work(Index worker) noexcept {
    std::uint64_t seen = 0;
    for (;;) {
      seen = await_epoch(seen);
      if (stop_.load(std::memory_order_relaxed)) return;
      claim(worker);
      running_.fetch_sub(1, std::memory_order_release);
    }
  }

  /// Returns the first epoch after `seen`: every worker takes part in every call, so none is ever skipped.
  std::uint64_t await_epoch(std::uint64_t seen) noexcept {
    const auto changed = [&] { return epoch_.load(std::memory_order_seq_cst) != seen; };
    const auto sleep_at = std::chrono::steady_clock::now() + kSpinTime;
    while (!changed()) {
      for (int i = 0; i < 32 && !changed(); ++i) cpu_relax();
      if (std::chrono::steady_clock::now() < sleep_at) continue;
      std::unique_lock<std::mutex> lock(mutex_);
      sleeping_.fetch_add(1, std::memory_order_seq_cst);
      wake_.wait(lock, changed);
      sleeping_.fetch_sub(1, std::memory_order_relaxed);
    }
    return seen + 1;
  }

  Index others_;
  std::unique_ptr<std::jthread[]> workers_;
  alignas(64) std::atomic<std::uint64_t> epoch_{0};
  alignas(64) std::atomic<Index> next_{0};
  alignas(64) std::atomic<Index> running_{0};
  alignas(64) std::atomic<bool> busy_{false};
  std::atomic<bool> stop_{false};
  std::atomic<int> sleeping_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  Index count_ = 0;
  void* context_ = nullptr;
  void (*call_)(void*, Index, Index) noexcept = nullptr;
};

MOE_NAMESPACE_END
