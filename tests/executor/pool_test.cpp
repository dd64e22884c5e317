#include "moe/executor/pool.hpp"

#include <atomic>
#include <chrono>
#include <thread>
#include <type_traits>

#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/executor_laws.hpp"

namespace {

using moe::Index;
using moe::PoolExecutor;

static_assert(moe::Executor<PoolExecutor>);
static_assert(!std::is_copy_constructible_v<PoolExecutor> && !std::is_move_constructible_v<PoolExecutor>);
static_assert(!std::is_copy_assignable_v<PoolExecutor>);

/// A call whose tasks wait for each other, so that every worker must take one. Workers that came, before
/// patience (10 s) ended.
Index workers_that_meet(PoolExecutor& pool) {
  const Index all = pool.concurrency();
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  std::atomic<Index> arrived{0};
  pool.parallel_for(all, [&](Index, Index) noexcept {
    ++arrived;
    while (arrived < all && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  });
  return arrived;
}

TEST_CASE("PoolExecutor keeps the executor's contract", "[core][smoke][threads]") {
  const Index threads = GENERATE(as<Index>{}, 1, 2, 3, 8);
  CAPTURE(threads);
  PoolExecutor pool(threads);
  CHECK(pool.concurrency() == threads);
  test::check_executor_adapter(pool, 2000);
}

TEST_CASE("PoolExecutor: every worker takes part, at once and after sleep", "[core][smoke][threads]") {
  const Index threads = GENERATE(as<Index>{}, 1, 2, 3, 8);
  CAPTURE(threads);
  PoolExecutor pool(threads);
  CHECK(workers_that_meet(pool) == threads);
  // Around the 50 us after which a worker goes to sleep, and far beyond.
  for (const int pause : {0, 20, 40, 45, 50, 55, 60, 80, 120, 500, 3000}) {
    for (int repeat = 0; repeat < 20; ++repeat) {
      std::this_thread::sleep_for(std::chrono::microseconds(pause));
      const Index met = workers_that_meet(pool);
      if (met != threads) {
        CAPTURE(pause, repeat);
        CHECK(met == threads);
      }
    }
  }
}

TEST_CASE("PoolExecutor: one call's tasks may be fewer than its threads", "[core][smoke][threads]") {
  PoolExecutor pool(8);
  Index bad = 0;
  for (Index n = 0; n < 200; ++n) bad += !test::faults_of_call(pool, n % 8).none();
  CHECK(bad == 0);
}

TEST_CASE("PoolExecutor is built and torn down at any moment", "[core][smoke][threads]") {
  for (int repeat = 0; repeat < 60; ++repeat) {
    PoolExecutor unused(1 + repeat % 4);
  }
  Index bad = 0;
  for (int repeat = 0; repeat < 60; ++repeat) {
    PoolExecutor pool(1 + repeat % 4);
    if (repeat % 3 == 1) std::this_thread::sleep_for(std::chrono::microseconds(repeat * 3));
    bad += !test::faults_of_call(pool, 16).none();
    if (repeat % 3 == 2) std::this_thread::sleep_for(std::chrono::microseconds(repeat * 3));
  }
  CHECK(bad == 0);
}

TEST_CASE("PoolExecutor: callers come and go", "[core][smoke][threads]") {
  PoolExecutor pool(3);
  Index bad = 0;
  for (int repeat = 0; repeat < 40; ++repeat) {
    std::thread([&] { bad += !test::faults_of_call(pool, 10).none(); }).join();
  }
  CHECK(bad == 0);
}

TEST_CASE("PoolExecutor: pools within pools", "[core][smoke][threads]") {
  PoolExecutor outer(2), inner(3);
  std::atomic<Index> bad{0};
  const test::CallFaults faults =
      test::faults_of_call(outer, 50, [&](Index) noexcept { bad += !test::faults_of_call(inner, 6).none(); });
  CHECK(faults.none());
  CHECK(bad == 0);
}

TEST_CASE("PoolExecutor takes a const function object", "[core]") {
  PoolExecutor pool(2);
  std::atomic<Index> sum{0};
  const auto add = [&](Index i, Index) noexcept { sum += i; };
  pool.parallel_for(10, add);
  CHECK(sum == 45);
}

TEST_CASE("PoolExecutor: number of threads out of range", "[core]") {
  for (const Index threads : {Index{0}, Index{-1}, Index{4097}, PTRDIFF_MIN, PTRDIFF_MAX}) {
    CHECK(test::message_of<moe::config_error>([&] { PoolExecutor pool(threads); }) ==
          "moe: threads: expected a value in [1, 4096], got " + std::to_string(threads));
  }
}

}  // namespace
