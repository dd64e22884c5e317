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
  static constexpr const char* kName = "leading";
  struct Options {
    Index leading = 1;
    bool elide_rest = false;
  };

  /// Throws config_error for leading < 1.
  explicit LeadingWeighting(Options options) : options_(options) {
    require_range("experts that share the weight", options.leading, 1, INT32_MAX);
  }
  const Options& options() const noexcept { return options_; }

  Index experts(Index outputs) const noexcept {
    return options_.elide_rest && options_.leading < outputs ? options_.leading : outputs;
  }

  template <class Real>
  void forward(const RowContext<Real>& row, const Chosen& chosen, Real* weight, bool* keep) const noexcept {
    const Real sum = sum_of(chosen, row.score);
    for (Index i = 0; i < chosen.count; ++i) {
      const bool leads = Index{chosen.id[i]} < options_.leading;
      weight[i] = leads && sum > 0 ? row.score[chosen.id[i]] / sum : Real{0};
      keep[i] = leads || !options_.elide_rest;
    }
  }

  /// d score_i = (dweight_i - sum_j weight_j dweight_j) / sum.
  template <class Real>
  void backward(const RowContext<Real>& row, const Chosen& chosen, const Real* dweight,
                Real* dscore) const noexcept {
    const Real sum = sum_of(chosen, row.score);
    if (!(sum > 0)) return;
    Real mean = 0;
    for (Index i = 0; i < chosen.count; ++i) {
      if (Index{chosen.id[i]} < options_.leading) mean += row.score[chosen.id[i]] / sum * dweight[i];
    }
    for (Index i = 0; i < chosen.count; ++i) {
      if (Index{chosen.id[i]} < options_.leading) dscore[chosen.id[i]] += (dweight[i] - mean) / sum;
    }
  }

 private:
  template <class Real>
  Real sum_of(const Chosen& chosen, const Real* score) const noexcept {
    Real sum = 0;
    for (Index i = 0; i < chosen.count; ++i) {
      if (Index{chosen.id[i]} < options_.leading) sum += score[chosen.id[i]];
    }
    return sum;
  }

  Options options_;
};

MOE_NAMESPACE_END
