// Calls the layer as compiled for the baseline, then as compiled for what this processor has (exit code 77:
// neither of the higher sets is there or linked). Each must give the right result, whichever object was
// linked first.
#include <cstdio>

// Largest error, relative to its bound, over all that use_layer.cpp computes: right if at most 1.
double use_layer_sse2();
[[gnu::weak]] double use_layer_avx2();
[[gnu::weak]] double use_layer_avx512();

namespace {

int failures = 0;

void check(const char* isa, double error) {
  const bool right = error <= 1;  // NaN is not
  std::printf("%s: error / bound = %g = %a%s\n", isa, error, error, right ? "" : " WRONG");
  if (!right) ++failures;
}

}  // namespace

int main() {
  bool higher = false;
  check("sse2", use_layer_sse2());
  if (use_layer_avx2 != nullptr && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    check("avx2", use_layer_avx2());
    higher = true;
  }
  if (use_layer_avx512 != nullptr && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
    check("avx512", use_layer_avx512());
    higher = true;
  }
  check("sse2 again", use_layer_sse2());
  if (failures != 0) return 1;
  return higher ? 0 : 77;
}
