// The positive part of each logit, divided by the root mean square of all: the router of BlockFFN,
// 2507.08771.
#pragma once

#include "moe/core/check.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/rms_norm.hpp"
#include "moe/kernel/row.hpp"
#include "moe/router/row_context.hpp"
#include "moe/router/score/elementwise.hpp"

MOE_NAMESPACE_BEGIN

/// a / sqrt(mean over the N outputs of a^2 + eps), a = max(logit, 0): zeros stay zero. The norm's trained
/// gain is an ExpertScale of the weights (router/weighting/expert_scale.hpp), which cannot change who is
/// chosen.
class ReluRmsScore : public impl::ShareOfSum {
 public:
  static constexpr const char* kName = "relu_rms";
  struct Options {
    double eps = 1e-6;
  };

  ReluRmsScore() = default;
  /// Throws config_error for an eps that is not positive and finite.
  explicit ReluRmsScore(Options options) : options_(options) {
    if (!(options.eps > 0 && is_finite(options.eps))) {
      fail<config_error>("score eps: expected a finite value > 0, got ", options.eps);
    }
  }

  template <class Real>
  void forward(const RowContext<Real>& row, Real* score) const noexcept {
    activate_row(Relu{}, row.logit, score, row.n);
    scale_row(inverse_rms(score, static_cast<Real>(options_.eps), row.n), score, score, row.n);
  }
  /// d a_i = (d_i - s_i <d, s> / N) / rms, to the positive logits.
  template <class Real>
  void backward(const RowContext<Real>& row, const Real* dscore, Real* dlogit) const noexcept {
    Real squares = 0;
    for (Index i = 0; i < row.n; ++i) squares += row.logit[i] > 0 ? row.logit[i] * row.logit[i] : Real{0};
    const auto n = static_cast<Real>(row.n);
    const Real inverse = 1 / math::square_root(Real(squares / n + static_cast<Real>(options_.eps)));
    const Real through = dot(dscore, row.score, row.n) / n;
    for (Index i = 0; i < row.n; ++i) {
      if (row.logit[i] > 0) dlogit[i] += inverse * (dscore[i] - row.score[i] * through);
    }
  }

 private:
  Options options_{};
};

MOE_NAMESPACE_END
