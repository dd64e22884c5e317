// sqrt(softplus(logit)): the score of DeepSeek-V4.
#pragma once

#include "moe/kernel/activation.hpp"
#include "moe/kernel/math.hpp"
#include "moe/router/score/elementwise.hpp"

MOE_NAMESPACE_BEGIN

/// sqrt(ln(1 + exp(logit))): DeepSeek-V4's "sqrtsoftplus".
struct SqrtSoftplusScore {
  template <class Real>
  void forward(const Real* logit, Real* score, Index n) const noexcept {
    activate_row(Softplus{}, logit, score, n);
    for (Index i = 0; i < n; ++i) score[i] = math::square_root(score[i]);
  }
  /// d score = sigmoid(logit) / (2 score); 0 where the score underflows, as in a masked output.
  template <class Real>
  void backward(const Real* logit, const Real* score, const Real* dscore, Real* dlogit,
                Index n) const noexcept {
    for (Index i = 0; i < n; ++i) {
      if (score[i] > 0) dlogit[i] += dscore[i] * (Softplus{}.derivative(logit[i]) / (2 * score[i]));
    }
  }
  template <class Real>
  void probability(const Real* score, Real* out, Index n) const noexcept {
    impl::ShareOfSum::forward(score, out, n);
  }
  template <class Real>
  void probability_backward(const Real* score, const Real* probability, const Real* dprobability,
                            Real* dscore, Index n) const noexcept {
    impl::ShareOfSum::backward(score, probability, dprobability, dscore, n);
  }
};

MOE_NAMESPACE_END
