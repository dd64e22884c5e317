// Models of the concepts that can do what the concept says and nothing else: what compiles and works with
// them asks for no more.
#pragma once

#include "moe/core/executor.hpp"
#include "moe/plan/concept.hpp"

namespace test {

/// Executor: not movable, calls are not const, the number of workers is not an Index. Runs indices from the
/// last to the first and changes the worker with each, so that code that counts on an order or on worker 0
/// fails.
class ExecutorArchetype {
 public:
  struct Count {
    operator moe::Index() const noexcept { return 3; }  // NOLINT(google-explicit-constructor)
  };

  explicit ExecutorArchetype(int) {}
  ExecutorArchetype(ExecutorArchetype&&) = delete;

  Count concurrency() { return {}; }

  template <class F>
  void parallel_for(moe::Index n, const F& f) {
    for (moe::Index i = n - 1; i >= 0; --i) f(i, i % 3);
  }
};
static_assert(moe::Executor<ExecutorArchetype>);

/// CapacityPolicy: no default, no assignment. Drops the pairs whose position is a multiple of `step`.
class CapacityArchetype {
 public:
  static constexpr moe::Coupling coupling = moe::Coupling::per_batch;

  explicit CapacityArchetype(moe::Index step) : step_(step) {}
  CapacityArchetype(const CapacityArchetype&) = default;
  CapacityArchetype& operator=(const CapacityArchetype&) = delete;

  void measure(moe::Arena& arena, moe::Index pairs, moe::Index) const { arena.take<bool>(pairs); }

  template <class Real>
  void limit(const moe::RouteTable<Real>& table, const moe::Segments&, bool* keep, moe::Arena& arena) const {
    bool* const doomed = arena.take<bool>(table.pairs());
    for (moe::Index p = 0; p < table.pairs(); ++p) doomed[p] = p % step_ == 0;
    for (moe::Index p = 0; p < table.pairs(); ++p) {
      if (doomed[p]) keep[p] = false;
    }
  }

 private:
  const moe::Index step_;
};
static_assert(moe::CapacityPolicy<CapacityArchetype>);

}  // namespace test
