// expect: moe: parallel_for needs a noexcept f\(index, worker\)
#include "moe/core/executor.hpp"

void call() {
  const moe::SerialExecutor executor;
#if defined(MOE_MUST_COMPILE)
  executor.parallel_for(1, [](moe::Index, moe::Index) noexcept {});
#else
  executor.parallel_for(1, [](moe::Index, moe::Index) {});
#endif
}
