// A weighting for routers whose last outputs stand for "nothing": weights are shared among the other choices.
#pragma once

#include "moe/core/check.hpp"
#include "moe/router/weighting/concept.hpp"

MOE_NAMESPACE_BEGIN

/// Scores of the chosen with id below `leading`, divided by their sum; the other choices weigh 0 and count
/// for nothing in the sum. Elided: the others are no experts and are routed nowhere; else they stay pairs of
/// weight 0. Nothing below `leading` chosen: no weight at all.
class LeadingWeighting {
 public:
  /// Throws config_error for leading < 1.
  LeadingWeighting(Index leading, bool elide_rest) : leading_(leading), elide_rest_(elide_rest) {
    require_range("experts that share the weight", leading, 1, INT32_MAX);
  }

  Index experts(Index outputs) const noexcept {
    return elide_rest_ && leading_ < outputs ? leading_ : outputs;
  }

  template <class Real>
  void forward(const Chosen& chosen, const Real* score, Real* weight, bool* keep) const noexcept {
    const Real sum = sum_of(chosen, score);
    for (Index i = 0; i < chosen.count; ++i) {
      const bool leads = Index{chosen.id[i]} < leading_;
      weight[i] = leads && sum > 0 ? score[chosen.id[i]] / sum : Real{0};
      keep[i] = leads || !elide_rest_;
    }
  }

  /// d score_i = (dweight_i - sum_j weight_j dweight_j) / sum.
  template <class Real>
  void backward(const Chosen& chosen, const Real* score, const Real* dweight, Real* dscore) const noexcept {
    const Real sum = sum_of(chosen, score);
    if (!(sum > 0)) return;
    Real mean = 0;
    for (Index i = 0; i < chosen.count; ++i) {
      if (Index{chosen.id[i]} < leading_) mean += score[chosen.id[i]] / sum * dweight[i];
    }
    for (Index i = 0; i < chosen.count; ++i) {
      if (Index{chosen.id[i]} < leading_) dscore[chosen.id[i]] += (dweight[i] - mean) / sum;
    }
  }

 private:
  template <class Real>
  Real sum_of(const Chosen& chosen, const Real* score) const noexcept {
    Real sum = 0;
    for (Index i = 0; i < chosen.count; ++i) {
      if (Index{chosen.id[i]} < leading_) sum += score[chosen.id[i]];
    }
    return sum;
  }

  Index leading_;
  bool elide_rest_;
};

MOE_NAMESPACE_END
