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
#include "moe/executor/fork_count.hpp"
#include "moe/executor/spin_hint.hpp"

MOE_NAMESPACE_BEGIN

/// `threads` workers, the calling thread among them. A call from inside a task, or from a second thread while
/// a call runs, is worked off by the caller alone. Threads do not survive fork: a child starts its own at its
/// first call, and destroys or exits with a pool of its parent as if it had none. (A child made inside a task
/// must not return from it.)
class PoolExecutor {
 public:
  /// Throws config_error for threads < 1, std::system_error where the system gives no more threads.
  explicit PoolExecutor(Index threads) {
    require_range("threads", threads, 1, 4096);
    others_ = threads - 1;
    team_.store(new Team(others_), std::memory_order_release);
  }
  PoolExecutor(const PoolExecutor&) = delete;
  PoolExecutor& operator=(const PoolExecutor&) = delete;
  ~PoolExecutor() {
    Team* const team = team_.load(std::memory_order_acquire);
    if (team->is_here()) {
      delete team;
    } else {
      abandon(team);
    }
  }

  Index concurrency() const noexcept { return others_ + 1; }

  template <class F>
  void parallel_for(Index n, F&& f) noexcept {
    static_assert(std::is_nothrow_invocable_v<F&, Index, Index>,
                  "moe: parallel_for needs a noexcept f(index, worker)");
    Team* const team = n <= 1 || others_ == 0 ? nullptr : team_here();
    if (team == nullptr || !team->seize()) {
      for (Index i = 0; i < n; ++i) f(i, Index{0});
      return;
    }
    using Function = std::remove_reference_t<F>;
    team->run(n, const_cast<void*>(static_cast<const void*>(&f)),
              [](void* context, Index index, Index worker) noexcept {
                (*static_cast<Function*>(context))(index, worker);
              });
  }

 private:
  using Call = void (*)(void* context, Index index, Index worker) noexcept;

  /// The threads of one process, and all that they share.
  class Team {
   public:
    explicit Team(Index others)
        : others_(others), workers_(std::make_unique<Worker[]>(static_cast<std::size_t>(others))) {
      try {
        for (Index w = 0; w < others_; ++w) {
          workers_[static_cast<std::size_t>(w)].thread = std::thread([this, w] { work(w + 1); });
        }
      } catch (...) {  // the system gives no more threads
        shut_down();
        throw;
      }
    }
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;
    ~Team() { shut_down(); }

    /// False in a child of the process that has the threads.
    bool is_here() const noexcept { return forks_ == impl::fork_count(); }

    /// False while a call runs; else `run` must follow.
    bool seize() noexcept { return !busy_.exchange(true, std::memory_order_acquire); }

    void run(Index n, void* context, Call call) noexcept {
      context_ = context;
      call_ = call;
      count_ = n;
      next_.store(0, std::memory_order_relaxed);
      gate_.store(kOpen, std::memory_order_release);
      announce();
      claim(0);
      gate_.fetch_sub(kOpen,
                      std::memory_order_relaxed);  // who is not here yet finds nothing left: not waited for
      for (int spins = 0; gate_.load(std::memory_order_acquire) != 0;) {
        if (spins < kSpinsBeforeYield) {
          ++spins;
          cpu_relax();
        } else {  // more threads than cores: let the others have one
          std::this_thread::yield();
        }
      }
      busy_.store(false, std::memory_order_release);
    }

    Team* next_abandoned = nullptr;

   private:
    static constexpr int kSpinsBeforeYield = 1024;
    static constexpr Index kOpen = Index{1} << 16;  // beyond the number of workers
    static constexpr std::chrono::microseconds kSpinTime{50};

    /// A type of ours, so that what the library makes of it carries the ABI tag (contract C7).
    struct Worker {
      std::thread thread;
    };

    void shut_down() noexcept {
      stop_.store(true, std::memory_order_relaxed);
      announce();
      for (Index w = 0; w < others_; ++w) {
        std::thread& thread = workers_[static_cast<std::size_t>(w)].thread;
        if (thread.joinable()) thread.join();
      }
    }

    /// New epoch, everybody up. Either a worker that goes to sleep sees the epoch, or this sees the worker:
    /// both write first and read then, in the one order of seq_cst.
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
        if (!enter()) continue;
        claim(worker);
        gate_.fetch_sub(1, std::memory_order_release);
      }
    }

    /// False when the call is over. To enter one call twice does no harm.
    bool enter() noexcept {
      Index gate = gate_.load(std::memory_order_relaxed);
      while (gate >= kOpen) {
        if (gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acquire,
                                        std::memory_order_relaxed)) {
          return true;
        }
      }
      return false;
    }

    /// Waits for an epoch other than `seen` and returns it.
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
      return epoch_.load(std::memory_order_seq_cst);
    }

    const std::uint32_t forks_ = impl::fork_count();
    Index others_;
    std::unique_ptr<Worker[]> workers_;
    alignas(64) std::atomic<std::uint64_t> epoch_{0};
    alignas(64) std::atomic<Index> next_{0};
    alignas(64) std::atomic<Index> gate_{0};  // workers inside the call, + kOpen while more may come
    alignas(64) std::atomic<bool> busy_{false};
    std::atomic<bool> stop_{false};
    std::atomic<int> sleeping_{0};
    std::mutex mutex_;
    std::condition_variable wake_;
    Index count_ = 0;
    void* context_ = nullptr;
    Call call_ = nullptr;
  };

  /// Null where the system gives a child no memory or threads.
  Team* team_here() noexcept {
    Team* const team = team_.load(std::memory_order_acquire);
    return team->is_here() ? team : replace(team);
  }

  MOE_NOINLINE Team* replace(Team* team) noexcept {
    try {
      auto own = std::make_unique<Team>(others_);
      if (!team_.compare_exchange_strong(team, own.get(), std::memory_order_acq_rel)) {
        return team;  // another thread was first
      }
      abandon(team);
      return own.release();
    } catch (...) {
      return nullptr;
    }
  }

  /// A parent's team: its threads cannot be joined here, its locks may be held for ever. Kept, so that leak
  /// checkers know it.
  static void abandon(Team* team) noexcept { team->next_abandoned = last_abandoned.exchange(team); }

  inline static std::atomic<Team*> last_abandoned{nullptr};
  Index others_ = 0;
  std::atomic<Team*> team_{nullptr};
};

MOE_NAMESPACE_END
