// A sigmoid of each chosen score.
#pragma once

#include "moe/core/check.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/math.hpp"
#include "moe/router/weighting/concept.hpp"

MOE_NAMESPACE_BEGIN

/// sigmoid of the chosen scores, each on its own (Llama 4, which chooses by logits), or their shares of its
/// sum (Command A+); times a scale.
class SigmoidWeighting {
 public:
  static constexpr const char* kName = "sigmoid";
  struct Options {
    bool shares = false;  // divided by their sum (by 1 where that is 0)
    double scale = 1;

    friend bool operator==(const Options&, const Options&) = default;
  };

  SigmoidWeighting() = default;
  /// Throws config_error for a scale that is not finite.
  explicit SigmoidWeighting(Options options) : options_(options) {
    if (!is_finite(options.scale)) {
      fail<config_error>("weight scale: expected a finite value, got ", options.scale);
    }
  }
  const Options& options() const noexcept { return options_; }

  template <class Real>
  void forward(const RowContext<Real>& row, const Chosen& chosen, Real* weight, bool* keep) const noexcept {
    const Real by = divisor(row, chosen), scale = static_cast<Real>(options_.scale);
    for (Index i = 0; i < chosen.count; ++i) {
      weight[i] = math::sigmoid_pair(row.score[chosen.id[i]]).of_x / by * scale;
      keep[i] = true;
    }
  }

  template <class Real>
  void backward(const RowContext<Real>& row, const Chosen& chosen, const Real* dweight,
                Real* dscore) const noexcept {
    const Real by = divisor(row, chosen), factor = static_cast<Real>(options_.scale) / by;
    Real through_sum = 0;
    for (Index i = 0; options_.shares && i < chosen.count; ++i) {
      through_sum += dweight[i] * (math::sigmoid_pair(row.score[chosen.id[i]]).of_x / by);
    }
    for (Index i = 0; i < chosen.count; ++i) {
      const auto s = math::sigmoid_pair(row.score[chosen.id[i]]);
      dscore[chosen.id[i]] += (dweight[i] - through_sum) * factor * (s.of_x * s.of_minus_x);
    }
  }

 private:
  template <class Real>
  Real divisor(const RowContext<Real>& row, const Chosen& chosen) const noexcept {
    Real sum = 0;
    for (Index i = 0; options_.shares && i < chosen.count; ++i) {
      sum += math::sigmoid_pair(row.score[chosen.id[i]]).of_x;
    }
    return sum == 0 ? Real{1} : sum;
  }

  Options options_{};
};

MOE_NAMESPACE_END
