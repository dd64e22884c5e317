// What contract C7 forbids, for the test of check_weak_symbols.sh: weak functions without the ABI tag whose
// code depends on the -m flags.
__attribute__((noinline)) inline float untagged_sum(const float* x, int n) {
  float sum = 0;
  for (int i = 0; i < n; ++i) sum += x[i] * x[i];
  return sum;
}

template <class T>
__attribute__((noinline)) T untagged_constant(T x) {
  return x * T(0.5);
}

float MOE_ABI_ENTRY(const float* x, int n);
float MOE_ABI_ENTRY(const float* x, int n) {
  return untagged_sum(x, n) + static_cast<float>(untagged_constant<double>(x[0]));
}
