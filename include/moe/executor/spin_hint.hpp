// Hints to the processor that have no portable spelling; each is empty where the target has none.
#pragma once

#include "moe/config.hpp"

MOE_NAMESPACE_BEGIN

/// Inside a spin loop.
MOE_ALWAYS_INLINE void cpu_relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

MOE_NAMESPACE_END
