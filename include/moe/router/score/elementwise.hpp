// What scores of one logit each have in common: probabilities are shares of the sum.
#pragma once

#include "moe/core/types.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/router/row_context.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// probability = score / sum of scores (0 where the sum is 0), for scores >= 0.
struct ShareOfSum {
  template <class Real>
  void probability(const RowContext<Real>& row, Real* out) const noexcept {
    const Real sum = moe::sum_row(row.score, row.n);
    for (Index i = 0; i < row.n; ++i) out[i] = sum > 0 ? row.score[i] / sum : Real{0};
  }
  /// d score_i = (dp_i - sum_j p_j dp_j) / sum.
  template <class Real>
  void probability_backward(const RowContext<Real>& row, const Real* probability, const Real* dprobability,
                            Real* dscore) const noexcept {
    const Real sum = moe::sum_row(row.score, row.n);
    if (!(sum > 0)) return;
    const Real mean = moe::dot(probability, dprobability, row.n);
    for (Index i = 0; i < row.n; ++i) dscore[i] += (dprobability[i] - mean) / sum;
  }
};

/// Applies an activation to every logit.
template <Activation Act>
struct ElementwiseScore : ShareOfSum {
  template <class Real>
  void forward(const RowContext<Real>& row, Real* score) const noexcept {
    activate_row(Act{}, row.logit, score, row.n);
  }
  template <class Real>
  void backward(const RowContext<Real>& row, const Real* dscore, Real* dlogit) const noexcept {
    for (Index i = 0; i < row.n; ++i) {
      // A masked logit gets nothing: its derivative may be 0 * inf.
      if (!is_neg_inf(row.logit[i])) dlogit[i] += dscore[i] * Act{}.derivative(row.logit[i]);
    }
  }
};

}  // namespace impl

MOE_NAMESPACE_END
