#include "moe/core/executor.hpp"

#include <thread>
#include <type_traits>

#include "support/archetypes.hpp"
#include "support/catch.hpp"
#include "support/executor_laws.hpp"

namespace {

using moe::Index;

struct NoCount {
  void parallel_for(Index, const moe::impl::NoWork&) const {}
};
struct NoCall {
  Index concurrency() const { return 1; }
};
struct ReturnsSomething {
  Index concurrency() const { return 1; }
  int parallel_for(Index, const moe::impl::NoWork&) const { return 0; }
};
struct LvaluesOnly {
  Index concurrency() const { return 1; }
  template <class F>
  void parallel_for(Index, F&) const {}
};
static_assert(moe::Executor<moe::SerialExecutor>);
static_assert(moe::Executor<const moe::SerialExecutor>);
static_assert(moe::Executor<moe::SerialExecutor&>);
static_assert(!moe::Executor<NoCount>);
static_assert(!moe::Executor<NoCall>);
static_assert(!moe::Executor<ReturnsSomething>);
static_assert(!moe::Executor<LvaluesOnly>);

/// The laws must notice what they are there for.
struct RunsTwice : moe::SerialExecutor {
  template <class F>
  void parallel_for(Index n, const F& f) const {
    moe::SerialExecutor::parallel_for(n, f);
    if (n > 0) f(n - 1, 0);
  }
};
struct MissesLast : moe::SerialExecutor {
  template <class F>
  void parallel_for(Index n, const F& f) const {
    moe::SerialExecutor::parallel_for(n - 1, f);
  }
};
struct WrongWorker : moe::SerialExecutor {
  template <class F>
  void parallel_for(Index n, const F& f) const {
    for (Index i = 0; i < n; ++i) f(i, 1);
  }
};
struct OneWorkerForAll : moe::SerialExecutor {
  template <class F>
  void parallel_for(Index n, const F& f) const {
    if (n < 2) return moe::SerialExecutor::parallel_for(n, f);
    std::thread other([&] { f(0, 0); });
    for (Index i = 1; i < n; ++i) f(i, 0);
    other.join();
  }
};

TEST_CASE("SerialExecutor keeps the executor's contract", "[core]") {
  moe::SerialExecutor executor;
  CHECK(executor.concurrency() == 1);
  test::check_executor_adapter(executor, 1000);
}

TEST_CASE("SerialExecutor runs in ascending order", "[core]") {
  Index next = 0;
  bool ascending = true;
  moe::SerialExecutor{}.parallel_for(100, [&](Index i, Index) noexcept { ascending &= i == next++; });
  CHECK(ascending);
  CHECK(next == 100);
}

TEST_CASE("the executor archetype keeps the contract", "[core]") {
  test::ExecutorArchetype executor(0);
  test::check_executor(executor);
}

TEST_CASE("the executor laws find faults", "[core]") {
  RunsTwice twice;
  CHECK(test::faults_of_call(twice, 4).repeated == 1);
  MissesLast misses;
  CHECK(test::faults_of_call(misses, 4).missed == 1);
  CHECK(test::faults_of_call(misses, 4).unseen == 1);
  WrongWorker wrong;
  CHECK(test::faults_of_call(wrong, 4).outside == 4);

  // Both threads are inside a task at once, so the second to come finds worker 0 taken.
  OneWorkerForAll one;
  std::atomic<int> inside{0};
  const test::CallFaults faults = test::faults_of_call(one, 2, [&](Index) noexcept {
    ++inside;
    while (inside != 2) std::this_thread::yield();
  });
  CHECK(faults.shared == 1);
}

}  // namespace
