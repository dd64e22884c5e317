// A softmax over the scores of the chosen alone.
#pragma once

#include "moe/core/check.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/math.hpp"
#include "moe/kernel/softmax.hpp"
#include "moe/router/weighting/concept.hpp"

MOE_NAMESPACE_BEGIN

/// softmax over the scores of the chosen (Shazeer 1701.06538; Mixtral: equal to normalising the softmax of
/// all), times a scale.
class SoftmaxWeighting {
 public:
  static constexpr const char* kName = "softmax";
  struct Options {
    double scale = 1;

    friend bool operator==(const Options&, const Options&) = default;
  };

  SoftmaxWeighting() = default;
  /// Throws config_error for a scale that is not finite.
  explicit SoftmaxWeighting(Options options) : options_(options) {
    if (!is_finite(options.scale)) {
      fail<config_error>("weight scale: expected a finite value, got ", options.scale);
    }
  }
  const Options& options() const noexcept { return options_; }

  template <class Real>
  void forward(const RowContext<Real>& row, const Chosen& chosen, Real* weight, bool* keep) const noexcept {
    for (Index i = 0; i < chosen.count; ++i) {
      weight[i] = row.score[chosen.id[i]];
      keep[i] = true;
    }
    if (chosen.count > 0) softmax_row(weight, weight, chosen.count);
    for (Index i = 0; options_.scale != 1 && i < chosen.count; ++i) {
      weight[i] *= static_cast<Real>(options_.scale);
    }
  }

  template <class Real>
  void backward(const RowContext<Real>& row, const Chosen& chosen, const Real* dweight,
                Real* dscore) const noexcept {
    if (chosen.count == 0) return;
    // d score_i = w_i (dw_i - sum_j w_j dw_j), with w from the scores again: no array of unknown size.
    Real top = row.score[chosen.id[0]];
    for (Index i = 1; i < chosen.count; ++i)
      top = row.score[chosen.id[i]] > top ? row.score[chosen.id[i]] : top;
    Real sum = 0, mean = 0;
    for (Index i = 0; i < chosen.count; ++i) {
      const Real w = math::exp_nonpositive(Real(row.score[chosen.id[i]] - top));
      sum += w;
      mean += w * dweight[i];
    }
    mean /= sum;
    for (Index i = 0; i < chosen.count; ++i) {
      dscore[chosen.id[i]] += math::exp_nonpositive(Real(row.score[chosen.id[i]] - top)) / sum *
                              (dweight[i] - mean) * static_cast<Real>(options_.scale);
    }
  }

 private:
  Options options_{};
};

MOE_NAMESPACE_END
