// CV^2 = variance / mean^2 of a few non-negative sums, with its gradient: what Shazeer's balancing losses are
// made of.
#pragma once

#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// Population variance, as in Shazeer et al. 1701.06538 (Tutel: sample variance). 0, without gradient, where
/// the mean is 0.
struct SquaredVariation {
  double mean = 0;
  double value = 0;
  Index count = 0;

  SquaredVariation(const double* x, Index n) noexcept : count(n) {
    for (Index i = 0; i < n; ++i) mean += x[i];
    mean /= static_cast<double>(n);
    if (!(mean > 0)) return;
    for (Index i = 0; i < n; ++i) value += (x[i] / mean - 1) * (x[i] / mean - 1);
    value /= static_cast<double>(n);
  }

  /// d value / d x_i, for an x_i that was counted.
  double gradient(double x) const noexcept {
    return mean > 0 ? 2 * (x / mean - 1 - value) / (mean * static_cast<double>(count)) : 0.0;
  }
};

}  // namespace impl

MOE_NAMESPACE_END
