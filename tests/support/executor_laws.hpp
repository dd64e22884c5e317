// What every executor must do (core/executor.hpp), and its adapters must do beyond: work when called from
// inside a task and from two threads at once. Workers only count; what they counted is checked afterwards.
#pragma once

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "moe/core/executor.hpp"
#include "support/catch.hpp"

namespace test {

using moe::Index;

/// What went wrong in one call; all 0 when it was right.
struct CallFaults {
  Index missed = 0;    // indices that did not run
  Index repeated = 0;  // indices that ran more than once
  Index outside = 0;   // indices or workers outside their range
  Index shared = 0;    // a worker used by two tasks at the same time
  Index unseen = 0;    // plain writes of a task that the caller does not see

  bool none() const { return missed + repeated + outside + shared + unseen == 0; }
};

/// One call with n tasks; `inside` runs in each. Everything is allocated before the call.
template <class X, class Inside>
CallFaults faults_of_call(X& executor, Index n, const Inside& inside) {
  const Index workers = executor.concurrency();
  const auto size = static_cast<std::size_t>(n > 0 ? n : 0);
  std::vector<std::atomic<int>> runs(size);
  std::vector<std::atomic<bool>> in_use(static_cast<std::size_t>(workers));
  std::vector<Index> result(size, -1);  // not atomic: the call itself must order these writes
  std::atomic<Index> outside{0}, shared{0};
  executor.parallel_for(n, [&](Index i, Index worker) noexcept {
    if (i < 0 || i >= n || worker < 0 || worker >= workers) {
      ++outside;
      return;
    }
    if (in_use[static_cast<std::size_t>(worker)].exchange(true)) ++shared;
    ++runs[static_cast<std::size_t>(i)];
    result[static_cast<std::size_t>(i)] = i;
    inside(i);
    in_use[static_cast<std::size_t>(worker)].store(false);
  });
  CallFaults faults;
  faults.outside = outside;
  faults.shared = shared;
  for (std::size_t i = 0; i < size; ++i) {
    faults.missed += runs[i] == 0;
    faults.repeated += runs[i] > 1;
    faults.unseen += result[i] != static_cast<Index>(i);
  }
  return faults;
}

template <class X>
CallFaults faults_of_call(X& executor, Index n) {
  return faults_of_call(executor, n, [](Index) noexcept {});
}

/// The contract of the concept.
template <class X>
void check_executor(X& executor) {
  REQUIRE(Index{executor.concurrency()} >= 1);
  for (const Index n : {-1, 0, 1, 2, 3, 4, 5, 7, 8, 64, 1000}) {
    CAPTURE(n);
    CHECK(faults_of_call(executor, n).none());
  }
}

/// Many calls with hardly any work, back to back: every start and end is a chance for a race.
template <class X>
void check_tiny_calls(X& executor, Index calls) {
  Index bad = 0;
  for (Index c = 0; c < calls; ++c) bad += !faults_of_call(executor, c % 5).none();
  CHECK(bad == 0);
}

/// Each task makes a call of its own, and each of those again.
template <class X>
void check_nested_calls(X& executor) {
  const Index outer = 2 * executor.concurrency() + 1;
  std::atomic<Index> bad{0}, inner{0};
  const CallFaults faults = faults_of_call(executor, outer, [&](Index) noexcept {
    const CallFaults nested = faults_of_call(executor, 5, [&](Index) noexcept {
      bad += !faults_of_call(executor, 3).none();
      ++inner;
    });
    bad += !nested.none();
  });
  CHECK(faults.none());
  CHECK(bad == 0);
  CHECK(inner == 5 * outer);
}

/// Two threads call the same executor at the same time.
template <class X>
void check_concurrent_calls(X& executor, Index calls) {
  std::atomic<Index> bad{0}, ready{0};
  const auto caller = [&](Index n) {
    ++ready;
    while (ready != 2) std::this_thread::yield();
    for (Index c = 0; c < calls; ++c) bad += !faults_of_call(executor, n + c % 3).none();
  };
  std::thread other(caller, 7);
  caller(4);
  other.join();
  CHECK(bad == 0);
}

template <class X>
void check_executor_adapter(X& executor, Index calls) {
  check_executor(executor);
  check_tiny_calls(executor, calls);
  check_nested_calls(executor);
  check_concurrent_calls(executor, calls / 4);
}

}  // namespace test
