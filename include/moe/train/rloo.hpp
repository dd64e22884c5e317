// REINFORCE with a leave-one-out baseline (Kool, van Hoof and Welling 2019): advantages of several samples of
// one batch.
#pragma once

#include "moe/core/check.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/kernel/finite.hpp"

MOE_NAMESPACE_BEGIN

/// loss [M, T]: what row t cost in sample m of M >= 2, drawn apart (a loss of a whole sequence or batch
/// stands in each of its rows). advantage(m, t) = (loss(m, t) - mean over the samples) / (M - 1), for the
/// backward of sample m: the gradients of the M backwards add up to
///   1/M sum over m of (loss(m) - mean of the others) grad ln Q(m),
/// whose mean is the gradient of the mean loss. That is a sum over samples for the router alone: dy of each
/// is the caller's to divide by M. `advantage` may be `loss`. Throws shape_error, numeric_error for a loss
/// that is not finite.
inline void rloo(const ConstMatrixView<double>& loss, const MatrixView<double>& advantage) {
  if (loss.rows < 2) fail<shape_error>("loss: expected at least 2 rows, one per sample, got ", loss.rows);
  require_shape("advantage", advantage, loss.rows, loss.cols);
  if (!same_view(loss, advantage)) require_disjoint("loss", loss, "advantage", advantage);
  for (Index m = 0; m < loss.rows; ++m) {
    for (Index t = 0; t < loss.cols; ++t) {
      if (!is_finite(loss(m, t))) {
        fail<numeric_error>("loss: expected finite values, got ", loss(m, t), " of sample ", m, ", row ", t);
      }
    }
  }
  const auto samples = static_cast<double>(loss.rows);
  for (Index t = 0; t < loss.cols; ++t) {
    double mean = 0;
    for (Index m = 0; m < loss.rows; ++m) mean += loss(m, t) / samples;
    for (Index m = 0; m < loss.rows; ++m) advantage(m, t) = (loss(m, t) - mean) / (samples - 1);
  }
}

MOE_NAMESPACE_END
