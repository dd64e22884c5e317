// Executors in the children of fork. (Not under the thread sanitizer, which starts no thread in a child of a
// process that has several.)
#include "moe/executor/fork_count.hpp"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <optional>
#include <thread>
#define EIGEN_USE_THREADS
#include <unsupported/Eigen/CXX11/ThreadPool>

#include "moe/executor/any.hpp"
#include "moe/executor/eigen.hpp"
#include "moe/executor/openmp.hpp"
#include "moe/executor/pool.hpp"
#include "support/catch.hpp"
#include "support/executor_laws.hpp"
#include "support/in_child.hpp"
#include "support/sanitizers.hpp"

namespace {

using moe::Index;
using moe::PoolExecutor;
using test::in_child;

template <class X>
bool works(X& executor) {
  return test::faults_of_call(executor, 100).none() && test::faults_of_call(executor, 3).none();
}

/// Whether as many threads as it says come to a call, which waits for them for 10 s.
bool all_come(PoolExecutor& pool) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  std::atomic<Index> arrived{0};
  pool.parallel_for(pool.concurrency(), [&](Index, Index) noexcept {
    ++arrived;
    while (arrived < pool.concurrency() && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::yield();
    }
  });
  return arrived == pool.concurrency();
}

[[maybe_unused]] PoolExecutor& static_pool() {
  static PoolExecutor pool(3);
  return pool;
}

TEST_CASE("fork_count tells generations apart", "[core][smoke]") {
  const auto here = moe::impl::fork_count();
  CHECK(in_child([here] {
    const auto child = moe::impl::fork_count();
    return child != here &&
           in_child([&] { return moe::impl::fork_count() != child && moe::impl::fork_count() != here; });
  }));
  CHECK(moe::impl::fork_count() == here);
}

TEST_CASE("a PoolExecutor goes on in a child, with threads of its own, and in the parent", "[core][smoke]") {
  std::optional<PoolExecutor> pool(std::in_place, 3);
  for (const bool used_before : {false, true}) {
    CAPTURE(used_before);
    if (used_before) CHECK(works(*pool));
    CHECK(in_child([&] { return works(*pool) && all_come(*pool); }));
    CHECK(in_child([&] {
      const bool good = works(*pool);
      pool.reset();
      return good;
    }));
    CHECK(in_child([&] {
      pool.reset();
      return true;
    }));
    CHECK(
        in_child([&] { return works(*pool) && in_child([&] { return works(*pool) && all_come(*pool); }); }));
    CHECK(in_child([&] {  // first calls from two threads
      std::atomic<bool> other{false};
      std::thread thread([&] { other = works(*pool); });
      const bool good = works(*pool);
      thread.join();
      pool.reset();
      return good && other;
    }));
    CHECK(all_come(*pool));
  }
}

TEST_CASE("a child may be made while a call of another thread runs", "[core][smoke]") {
  PoolExecutor pool(3);
  std::atomic<bool> stop{false};
  std::thread caller([&] {
    while (!stop) pool.parallel_for(10, [](Index, Index) noexcept {});
  });
  Index bad = 0;
  for (int repeat = 0; repeat < 20; ++repeat) bad += !in_child([&] { return works(pool) && all_come(pool); });
  stop = true;
  caller.join();
  CHECK(bad == 0);
  CHECK(works(pool));
}

#if !MOE_TEST_SANITIZED  // the leak checker of a forked child cannot stop its threads: what they hold would
                         // be leaks
TEST_CASE("a child exits with static pools, used there or not", "[core]") {
  CHECK(works(static_pool()));
  CHECK(in_child([]() -> bool { std::exit(0); }));
  CHECK(in_child([]() -> bool { std::exit(works(static_pool()) ? 0 : 1); }));
  CHECK(works(static_pool()));
}
#endif

TEST_CASE("adapters work in a child on the calling thread alone", "[core]") {
  moe::OpenMpExecutor openmp(3);
  Eigen::ThreadPool threads(2);
  moe::EigenExecutor<Eigen::ThreadPool> eigen(threads);
  const moe::AnyExecutor any(openmp);
  CHECK((works(openmp) && works(eigen) && works(any)));
  CHECK(in_child([&] {
    moe::OpenMpExecutor late(2);
    return works(openmp) && works(eigen) && works(any) && works(late);
  }));
  CHECK((works(openmp) && works(eigen) && works(any)));
}

}  // namespace
