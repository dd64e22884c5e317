// Who runs the tiles. The library starts no thread by itself: a call gets an executor, and its result does
// not depend on which. Adapters: PoolExecutor (executor/pool.hpp), OpenMpExecutor
// (executor/openmp.hpp), EigenExecutor (executor/eigen.hpp).
#pragma once

#include <concepts>
#include <type_traits>

#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {
struct NoWork {
  void operator()(Index, Index) const noexcept {}
};
}  // namespace impl

/// `concurrency()`: how many workers may call at once, >= 1. `parallel_for(n, f)`: f(index, worker) once for
/// every index in [0, n), worker in [0, concurrency()), no two calls with one worker at the same time;
/// returns when all are done. f is noexcept; the order is free.
template <class X>
concept Executor = requires(X& x, Index n, impl::NoWork& work) {
  { x.concurrency() } -> std::convertible_to<Index>;
  { x.parallel_for(n, work) } -> std::same_as<void>;
  { x.parallel_for(n, impl::NoWork{}) } -> std::same_as<void>;
};

/// The calling thread.
class SerialExecutor {
 public:
  Index concurrency() const noexcept { return 1; }

  template <class F>
  void parallel_for(Index n, F&& f) const noexcept {
    static_assert(std::is_nothrow_invocable_v<F&, Index, Index>,
                  "moe: parallel_for needs a noexcept f(index, worker)");
    for (Index i = 0; i < n; ++i) f(i, Index{0});
  }
};

MOE_NAMESPACE_END
