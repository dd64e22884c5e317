// Threads do not survive fork: the child has the one that called it. What holds threads asks here whether its
// process is still the one that started them.
#pragma once

#include <atomic>
#include <cstdint>

#include "moe/config.hpp"

#if __has_include(<pthread.h>)
#include <pthread.h>
#endif

MOE_NAMESPACE_BEGIN

namespace impl {

inline std::atomic<std::uint32_t> fork_counter{0};

/// From the first call on counts the forks that lie between this process and the one that made the call.
inline std::uint32_t fork_count() noexcept {
#if __has_include(<pthread.h>)
  // Fails for want of memory only; then the count stays 0.
  static const int registered = ::pthread_atfork(
      nullptr, nullptr, [] { fork_counter.store(fork_counter.load() + 1, std::memory_order_relaxed); });
  static_cast<void>(registered);
#endif
  return fork_counter.load(std::memory_order_relaxed);
}

}  // namespace impl

MOE_NAMESPACE_END
