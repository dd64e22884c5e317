// Weights of a gate: its score, or 1 with the gradient of the score.
#pragma once

#include "moe/core/check.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/router/weighting/concept.hpp"

MOE_NAMESPACE_BEGIN

/// Scores of the chosen times `scale`, or, straight through, 1 whose derivative by the score is taken for 1
/// too; output 0, if it was chosen below the threshold (GateSelection of all rows), then weighs 0. Outputs
/// from `experts` on stand for nothing: routed nowhere.
class GateWeighting {
 public:
  static constexpr const char* kName = "gate";
  struct Options {
    Index experts = 1;
    bool straight_through = false;
    double threshold = 0.5;  // as the selection's; 0: none
    double scale = 1;        // of scores as weights
  };

  /// Throws config_error for experts < 1, a threshold outside [0, 1) or a scale that is not finite.
  explicit GateWeighting(Options options) : options_(options) {
    require_range("experts of a gate", options.experts, 1, INT32_MAX);
    if (!(options.threshold >= 0 && options.threshold < 1)) {
      fail<config_error>("threshold of a gate: expected a value in [0, 1), got ", options.threshold);
    }
    if (!is_finite(options.scale)) {
      fail<config_error>("weight scale: expected a finite value, got ", options.scale);
    }
  }
  const Options& options() const noexcept { return options_; }

  Index experts(Index outputs) const noexcept {
    return options_.experts < outputs ? options_.experts : outputs;
  }

  template <class Real>
  void forward(const RowContext<Real>& row, const Chosen& chosen, Real* weight, bool* keep) const noexcept {
    for (Index i = 0; i < chosen.count; ++i) {
      const ExpertId e = chosen.id[i];
      keep[i] = Index{e} < options_.experts;
      if (options_.straight_through) {
        weight[i] = e != 0 || row.score[0] >= threshold(row) ? Real{1} : Real{0};
      } else {
        weight[i] = row.score[e] * static_cast<Real>(options_.scale);
      }
    }
  }
  template <class Real>
  void backward(const RowContext<Real>&, const Chosen& chosen, const Real* dweight,
                Real* dscore) const noexcept {
    const Real slope = options_.straight_through ? Real{1} : static_cast<Real>(options_.scale);
    for (Index i = 0; i < chosen.count; ++i) {
      if (Index{chosen.id[i]} < options_.experts) dscore[chosen.id[i]] += slope * dweight[i];
    }
  }

 private:
  template <class Real>
  Real threshold(const RowContext<Real>& row) const noexcept {
    const double asked = row.call.options.threshold;
    return static_cast<Real>(asked == 0 ? options_.threshold : asked);
  }

  Options options_;
};

MOE_NAMESPACE_END
