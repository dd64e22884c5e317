// Tokens whose gradients pull an expert the other way, and a loss that sends them elsewhere: STGC, Yang et
// al. 2406.19905. It takes a probe: a forward_train with an observer, dY of its loss, then this, and a
// backward that hands the loss's gradient on by `dlogit`.
#pragma once

#include <cmath>
#include <cstdint>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/plan/dispatch_plan.hpp"
#include "moe/router/log_softmax.hpp"

MOE_NAMESPACE_BEGIN

struct GradientConflictOptions {
  double threshold = 0;    // cosine below which a token conflicts, in [-1, 1]
  double coefficient = 1;  // of the loss
};

/// A pair's gradient stands for by that of a bias behind its expert's output: g = w dY. A pair conflicts if
/// the cosine of g with the mean g of its expert's kept pairs is below the threshold; where one of them is 0
/// nothing conflicts.
class GradientConflict {
 public:
  GradientConflict() : GradientConflict(GradientConflictOptions{}) {}
  /// Throws config_error for a threshold outside [-1, 1] or a coefficient that is not finite.
  explicit GradientConflict(GradientConflictOptions options) : options_(options) {
    if (!(options.threshold >= -1 && options.threshold <= 1)) {
      fail<config_error>("threshold of a conflict: expected a cosine in [-1, 1], got ", options.threshold);
    }
    if (!is_finite(options.coefficient)) {
      fail<config_error>("gradient conflict: expected a finite coefficient, got ", options.coefficient);
    }
  }

  /// Looks at a call's kept pairs; dy [T, D] is the gradient of the sum of the experts' results. Rows in
  /// ascending order, in double. Throws shape_error.
  template <class Real>
  void find(const DispatchPlan<Real>& plan, const ConstMatrixView<Real>& dy) {
    require_extent("dy", "rows", plan.tokens, dy.rows);
    tokens_ = plan.tokens;
    experts_ = plan.experts;
    conflicts_.assign(checked_product("conflicts", plan.tokens, plan.experts), false);
    count_ = 0;
    Buffer<double> mean(dy.cols);
    for (Index e = 0; e < plan.experts; ++e) {
      mean.fill(0);  // times the number of pairs: a cosine does not see it
      for (Index s = plan.offsets[e]; s < plan.offsets[e + 1]; ++s) {
        const Real* const row = dy.row(Index{plan.token[s]});
        const auto w = static_cast<double>(plan.weight[s]);
        for (Index j = 0; j < dy.cols; ++j) mean[j] += w * static_cast<double>(row[j]);
      }
      for (Index s = plan.offsets[e]; s < plan.offsets[e + 1]; ++s) {
        const Real* const row = dy.row(Index{plan.token[s]});
        const auto w = static_cast<double>(plan.weight[s]);
        double product = 0, own = 0, all = 0;
        for (Index j = 0; j < dy.cols; ++j) {
          const double g = w * static_cast<double>(row[j]);
          product += g * mean[j];
          own += g * g;
          all += mean[j] * mean[j];
        }
        const double size = std::sqrt(own) * std::sqrt(all);
        if (!(size > 0 && product < options_.threshold * size)) continue;
        conflicts_[Index{plan.token[s]} * experts_ + e] = true;
        ++count_;
      }
    }
  }

  /// Conflicting pairs of the call that find() saw.
  Index count() const noexcept { return count_; }
  bool conflicts(Index token, Index expert) const noexcept { return conflicts_[token * experts_ + expert]; }

  /// c * mean over the conflicting pairs (t, e) of the cross entropy of softmax(logit[t]) with "any open
  /// output but e, all alike"; 0 without conflicts. dlogit [T, N], the loss's gradient, is overwritten.
  /// `logit` [T, N] as an observer shows them, N >= E; what a row without conflicts holds does not matter. A
  /// row with no other open output has no loss. Throws shape_error.
  template <class Real>
  double loss(const ConstMatrixView<Real>& logit, const MatrixView<Real>& dlogit) const {
    require_extent("logit", "rows", tokens_, logit.rows);
    if (tokens_ > 0 && logit.cols < experts_) {
      fail<shape_error>("logit: expected at least ", experts_, " columns, got ", logit.cols);
    }
    require_shape("dlogit", dlogit, logit.rows, logit.cols);
    require_disjoint("logit", logit, "dlogit", dlogit);
    const double mean = count_ == 0 ? 0.0 : options_.coefficient / static_cast<double>(count_);
    double sum = 0;
    for (Index t = 0; t < tokens_; ++t) {
      for (Index o = 0; o < logit.cols; ++o) dlogit(t, o) = 0;
      for (Index e = 0; e < experts_; ++e) {
        if (conflicts(t, e)) sum += add_pair(logit.row(t), logit.cols, e, mean, dlogit.row(t));
      }
    }
    return mean * sum;
  }

 private:
  /// Cross entropy of one pair; dlogit += mean * (p - target).
  template <class Real>
  static double add_pair(const Real* logit, Index n, Index expert, double mean, Real* dlogit) noexcept {
    Index others = 0;
    for (Index o = 0; o < n; ++o) others += o != expert && !is_neg_inf(logit[o]) ? 1 : 0;
    if (others == 0) return 0;
    const double all = impl::log_sum_exp(n, [&](Index o) { return static_cast<double>(logit[o]); });
    double entropy = 0;
    for (Index o = 0; o < n; ++o) {
      if (is_neg_inf(logit[o])) continue;
      const double log_p = static_cast<double>(logit[o]) - all;
      const double target = o == expert ? 0.0 : 1 / static_cast<double>(others);
      entropy -= target * log_p;
      dlogit[o] += static_cast<Real>(mean * (std::exp(log_p) - target));
    }
    return entropy;
  }

  GradientConflictOptions options_;
  Index tokens_ = 0;
  Index experts_ = 0;
  Index count_ = 0;
  Buffer<bool> conflicts_;  // [T, E]
};

MOE_NAMESPACE_END
