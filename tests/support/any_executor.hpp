// An executor chosen at run time: what compiles with it compiles once.
#pragma once

#include <type_traits>

#include "moe/core/executor.hpp"
#include "support/kernels.hpp"

namespace test {

using moe::Index;

/// Any executor behind function pointers.
class AnyExecutor {
 public:
  template <moe::Executor X>
  requires(!std::is_same_v<X, AnyExecutor>) AnyExecutor(X& executor)
      : executor_(&executor),
        concurrency_(executor.concurrency()),
        run_([](void* x, Index n, void* f, Call call) {
          static_cast<X*>(x)->parallel_for(n,
                                           [f, call](Index i, Index worker) noexcept { call(f, i, worker); });
        }) {}
  Index concurrency() const noexcept { return concurrency_; }
  template <class F>
  void parallel_for(Index n, F&& f) {
    using Function = std::remove_reference_t<F>;
    run_(executor_, n, const_cast<void*>(static_cast<const void*>(&f)),
         [](void* g, Index i, Index worker) noexcept { (*static_cast<Function*>(g))(i, worker); });
  }

 private:
  using Call = void (*)(void*, Index, Index) noexcept;
  void* executor_;
  Index concurrency_;
  void (*run_)(void*, Index, void*, Call);
};

/// The calling thread.
inline AnyExecutor& serial() {
  static moe::SerialExecutor serial;
  static AnyExecutor any(serial);
  return any;
}

}  // namespace test
