// Ends a kernel test as skipped (exit code 77) where the processor lacks its instruction set. Runs before
// every static initialiser, because those of the test files may already use the instructions; compiled
// without -m flags.
#include <unistd.h>

namespace {

bool processor_suffices() noexcept {
#if defined(MOE_TEST_NEEDS_AVX512)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
#elif defined(MOE_TEST_NEEDS_AVX2)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return true;
#endif
}

// Below 101 is reserved for the implementation; ordinary initialisers come last.
[[gnu::constructor(101)]] void skip_unless_supported() noexcept {
#if defined(__x86_64__)
  __builtin_cpu_init();
#endif
  if (processor_suffices()) return;
  constexpr char kText[] = "skipped: this processor lacks the instruction set of this test\n";
  static_cast<void>(!write(STDOUT_FILENO, kText, sizeof kText - 1));
  _exit(77);
}

}  // namespace
