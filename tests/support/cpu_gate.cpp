// Ends a kernel test as skipped (exit code 77) where the processor lacks its instruction set. Runs before
// every static initialiser, because those of the test files may already use the instructions; compiled
// without -m flags.
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace {

#if defined(MOE_TEST_NEEDS_AVX512DOT) || defined(MOE_TEST_NEEDS_AVXVNNI)
/// A bit of leaf 7, subleaf 1, register EAX: not every compiler's __builtin_cpu_supports knows these.
bool has_leaf_7_1(int bit) noexcept {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> bit & 1) != 0;
}
#endif

bool processor_suffices() noexcept {
#if defined(MOE_TEST_NEEDS_AVX512DOT)
  return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni") &&
         __builtin_cpu_supports("fma") && has_leaf_7_1(5);  // AVX512_BF16
#elif defined(MOE_TEST_NEEDS_AVXVNNI)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_leaf_7_1(4);  // AVX-VNNI
#elif defined(MOE_TEST_NEEDS_AVX512)
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
