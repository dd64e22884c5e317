// What the contract C7 tests compile once per instruction set; MOE_ABI_ENTRY names the function of this copy.
#include <cmath>
#include <limits>

#include "moe/core/executor.hpp"
#include "moe/kernel/gemm_tile.hpp"

double MOE_ABI_ENTRY();

namespace {

constexpr moe::Index kDepth = 37;
constexpr moe::Index kColumns = moe::kPanel<float>;

float value(moe::Index i) {
  return static_cast<float>((i * 7919) % 101 - 50) / 64.0f;
}

}  // namespace

// Largest |error| of a matrix tile, as a multiple of its bound gamma_n * sum |a||b|, n = depth.
double MOE_ABI_ENTRY() {
  alignas(64) float panel[kDepth * kColumns];
  alignas(64) float tile[kColumns];
  float row[kDepth];
  for (moe::Index k = 0; k < kDepth; ++k) row[k] = value(k);
  for (moe::Index i = 0; i < kDepth * kColumns; ++i) panel[i] = value(i + kDepth);

  const float* rows[] = {row};
  moe::SerialExecutor().parallel_for(1, [&](moe::Index, moe::Index) noexcept {
    moe::gemm_tile<moe::native_arch>(rows, 1, kDepth, panel, tile);
  });

  double worst = 0;
  for (moe::Index c = 0; c < kColumns; ++c) {
    double exact = 0;
    double magnitude = 0;
    for (moe::Index k = 0; k < kDepth; ++k) {
      const double term = static_cast<double>(row[k]) * static_cast<double>(panel[k * kColumns + c]);
      exact += term;
      magnitude += std::fabs(term);
    }
    const double unit = 0.5 * static_cast<double>(std::numeric_limits<float>::epsilon());
    const double bound = 2 * static_cast<double>(kDepth) * unit * magnitude;  // a rounding per product and sum
    const double error = std::fabs(static_cast<double>(tile[c]) - exact) / bound;
    if (!(error <= worst)) worst = error;
  }
  return worst;
}
