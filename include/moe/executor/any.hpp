// Any executor behind a function pointer, so that code which takes it is compiled once. It borrows what it
// stands for, and costs one indirect call per parallel_for and one per index.
#pragma once

#include <type_traits>

#include "moe/core/executor.hpp"
#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

class AnyExecutor {
 public:
  template <Executor X>
  requires(!std::is_same_v<X, AnyExecutor>) explicit AnyExecutor(X& executor) noexcept
      : executor_(&executor), concurrency_(executor.concurrency()), run_(&run<X>) {}

  Index concurrency() const noexcept { return concurrency_; }

  template <class F>
  void parallel_for(Index n, F&& f) const {
    using Function = std::remove_reference_t<F>;
    static_assert(noexcept(f(Index{}, Index{})), "moe: parallel_for wants a noexcept function");
    run_(executor_, n, const_cast<void*>(static_cast<const void*>(&f)),
         [](void* function, Index i, Index worker) noexcept {
           (*static_cast<Function*>(function))(i, worker);
         });
  }

 private:
  using Call = void (*)(void* function, Index i, Index worker) noexcept;

  template <class X>
  static void run(void* executor, Index n, void* function, Call call) {
    static_cast<X*>(executor)->parallel_for(
        n, [function, call](Index i, Index worker) noexcept { call(function, i, worker); });
  }

  void* executor_;
  Index concurrency_;
  void (*run_)(void*, Index, void*, Call);
};

MOE_NAMESPACE_END
