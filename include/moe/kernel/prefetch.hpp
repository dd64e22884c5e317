// Hints about memory and registers; empty where the compiler has none. They change no result.
#pragma once

#include <cstdint>

#include "moe/config.hpp"

MOE_NAMESPACE_BEGIN

/// Brings the cache line at p into the second-level cache, to be read. Any address is harmless.
MOE_ALWAYS_INLINE void prefetch_l2(const void* p) noexcept {
#if defined(__GNUC__) || defined(__clang__)
  __builtin_prefetch(p, 0, 2);
#else
  static_cast<void>(p);
#endif
}

/// prefetch_l2 for templates. (g++ 12 drops the calls of a pointer to prefetch_l2: it has no result.)
struct FetchLine {
  MOE_ALWAYS_INLINE void operator()(const void* p) const noexcept { prefetch_l2(p); }
};

/// Whether this processor is AMD's: its memory wants other prefetches than Intel's with the same
/// instructions.
inline bool on_amd() noexcept {
#if (defined(__GNUC__) || defined(__clang__)) && (defined(__x86_64__) || defined(__i386__))
  static const bool amd = (__builtin_cpu_init(), __builtin_cpu_is("amd") != 0);
  return amd;
#else
  return false;
#endif
}

/// The first cache line that begins at p or behind it.
MOE_ALWAYS_INLINE const char* next_line(const char* p) noexcept {
  return p + (-reinterpret_cast<std::uintptr_t>(p) % 64);
}

/// Brings the cache line at p into the first-level cache, to be written.
MOE_ALWAYS_INLINE void prefetch_write(const void* p) noexcept {
#if defined(__GNUC__) || defined(__clang__)
  __builtin_prefetch(p, 1, 3);
#else
  static_cast<void>(p);
#endif
}

/// Makes g++ load the batch x into a register here and once. It would otherwise repeat the load as a memory
/// operand of every instruction that uses x, which costs a third of the speed where 512-bit loads are one a
/// cycle.
template <class B>
MOE_ALWAYS_INLINE void hold_in_register(B& x) noexcept {
#if defined(__GNUC__) && !defined(__clang__) && defined(__SSE2__)
  __asm__("" : "+v"(x.data));
#else
  static_cast<void>(x);
#endif
}

MOE_NAMESPACE_END
