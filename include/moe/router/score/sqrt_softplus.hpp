// sqrt(softplus(logit)): the score of DeepSeek-V4.
#pragma once

#include "moe/kernel/activation.hpp"
#include "moe/kernel/math.hpp"
#include "moe/router/row_context.hpp"
#include "moe/router/score/elementwise.hpp"

MOE_NAMESPACE_BEGIN

/// sqrt(ln(1 + exp(logit))): DeepSeek-V4's "sqrtsoftplus".
struct SqrtSoftplusScore : impl::ShareOfSum {
  static constexpr const char* kName = "sqrt_softplus";

  template <class Real>
  void forward(const RowContext<Real>& row, Real* score) const noexcept {
    activate_row(Softplus{}, row.logit, score, row.n);
    for (Index i = 0; i < row.n; ++i) score[i] = math::square_root(score[i]);
  }
  /// d score = sigmoid(logit) / (2 score); 0 where the score underflows, as in a masked output.
  template <class Real>
  void backward(const RowContext<Real>& row, const Real* dscore, Real* dlogit) const noexcept {
    for (Index i = 0; i < row.n; ++i) {
      const Real score = row.score[i];
      if (score > 0) dlogit[i] += dscore[i] * (Softplus{}.derivative(row.logit[i]) / (2 * score));
    }
  }
};

MOE_NAMESPACE_END
