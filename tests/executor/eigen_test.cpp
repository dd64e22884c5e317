// The adapter over a minimal pool. Eigen's own: eigen_thread_pool_test.cpp.
#include "moe/executor/eigen.hpp"

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <new>
#include <thread>
#include <type_traits>
#include <vector>

#include "support/catch.hpp"
#include "support/executor_laws.hpp"

namespace {

using moe::Index;

/// What the adapter needs and no more; may be told to fail.
class PoolArchetype {
 public:
  struct Count {
    short value;
    operator int() const noexcept { return value; }  // NOLINT(google-explicit-constructor)
  };

  explicit PoolArchetype(short threads) {
    for (short t = 0; t < threads; ++t) threads_.emplace_back([this] { work(); });
  }
  PoolArchetype(PoolArchetype&&) = delete;
  ~PoolArchetype() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  Count NumThreads() { return {static_cast<short>(threads_.size())}; }

  template <class Task>
  void Schedule(Task task) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (accepts_ == 0) throw std::bad_alloc();
      if (accepts_ > 0) --accepts_;
      tasks_.emplace_back(std::move(task));
    }
    wake_.notify_one();
  }

  /// Schedule works `count` times more, then throws.
  void accept(Index count) {
    const std::lock_guard<std::mutex> lock(mutex_);
    accepts_ = count;
  }
  /// No task begins until it is released.
  void hold(bool on) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      hold_ = on;
    }
    wake_.notify_all();
  }

 private:
  void work() {
    for (;;) {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [this] { return stop_ || (!hold_ && !tasks_.empty()); });
      if (tasks_.empty()) return;
      const std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;
  Index accepts_ = -1;
  bool hold_ = false;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

struct NotAPool {
  int NumThreads() { return 1; }
};
static_assert(moe::SchedulesTasks<PoolArchetype> && !moe::SchedulesTasks<NotAPool>);
static_assert(moe::Executor<moe::EigenExecutor<PoolArchetype>>);
static_assert(std::is_copy_constructible_v<moe::EigenExecutor<PoolArchetype>>);

TEST_CASE("EigenExecutor keeps the executor's contract on any pool", "[core][smoke][threads]") {
  const short threads = GENERATE(as<short>{}, 0, 1, 2, 7);
  CAPTURE(threads);
  PoolArchetype pool(threads);
  moe::EigenExecutor executor(pool);
  CHECK(executor.concurrency() == threads + 1);
  test::check_executor_adapter(executor, 1000);
}

TEST_CASE("EigenExecutor: called from the pool's own tasks", "[core][smoke][threads]") {
  PoolArchetype pool(2);
  moe::EigenExecutor executor(pool);
  std::atomic<Index> bad{0}, done{0};
  for (int task = 0; task < 20; ++task) {
    pool.Schedule([&] {
      bad += !test::faults_of_call(executor, 9).none();
      ++done;
    });
  }
  while (done != 20) std::this_thread::yield();
  CHECK(bad == 0);
}

TEST_CASE("EigenExecutor waits for no task that has not begun", "[core][smoke][threads]") {
  PoolArchetype pool(2);
  moe::EigenExecutor executor(pool);
  pool.hold(true);
  CHECK(test::faults_of_call(executor, 5).none());  // the caller works it off; its function is gone now
  pool.hold(false);
  test::check_executor(executor);
}

TEST_CASE("EigenExecutor goes on with fewer threads when the pool takes no task", "[core][smoke][threads]") {
  PoolArchetype pool(3);
  moe::EigenExecutor executor(pool);
  for (Index accepted = 0; accepted <= 3; ++accepted) {
    pool.accept(accepted);
    CHECK(test::faults_of_call(executor, 100).none());
  }
}

}  // namespace
