// What scores of one logit each have in common: probabilities are shares of the sum.
#pragma once

#include "moe/core/types.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// probability = score / sum of scores (0 where the sum is 0), for scores >= 0.
struct ShareOfSum {
  template <class Real>
  static void forward(const Real* score, Real* out, Index n) noexcept {
    const Real sum = moe::sum_row(score, n);
    for (Index i = 0; i < n; ++i) out[i] = sum > 0 ? score[i] / sum : Real{0};
  }
  /// d score_i = (dp_i - sum_j p_j dp_j) / sum.
  template <class Real>
  static void backward(const Real* score, const Real* probability, const Real* dprobability, Real* dscore,
                       Index n) noexcept {
    const Real sum = moe::sum_row(score, n);
    if (!(sum > 0)) return;
    const Real mean = moe::dot(probability, dprobability, n);
    for (Index i = 0; i < n; ++i) dscore[i] += (dprobability[i] - mean) / sum;
  }
};

/// Applies an activation to every logit; probabilities are shares of the sum.
template <Activation Act>
struct ElementwiseScore {
  template <class Real>
  void forward(const Real* logit, Real* score, Index n) const noexcept {
    activate_row(Act{}, logit, score, n);
  }
  template <class Real>
  void backward(const Real* logit, const Real*, const Real* dscore, Real* dlogit, Index n) const noexcept {
    for (Index i = 0; i < n; ++i) {
      // A masked logit gets nothing: its derivative may be 0 * inf.
      if (!is_neg_inf(logit[i])) dlogit[i] += dscore[i] * Act{}.derivative(logit[i]);
    }
  }
  template <class Real>
  void probability(const Real* score, Real* out, Index n) const noexcept {
    ShareOfSum::forward(score, out, n);
  }
  template <class Real>
  void probability_backward(const Real* score, const Real* probability, const Real* dprobability,
                            Real* dscore, Index n) const noexcept {
    ShareOfSum::backward(score, probability, dprobability, dscore, n);
  }
};

}  // namespace impl

MOE_NAMESPACE_END
