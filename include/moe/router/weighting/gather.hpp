// The scores of the chosen as weights, normalised or not: the weighting of most routers.
#pragma once

#include <math.h>
#include <cstdint>

#include "moe/core/check.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/router/weighting/concept.hpp"

MOE_NAMESPACE_BEGIN

/// What the kept scores are divided by.
enum class Normalise : std::uint8_t {
  none,
  sum,           // sum of the kept scores (1 where that is 0)
  sum_plus_eps,  // sum + eps
  max_with_eps,  // max(sum, eps)
  p_norm,        // (sum of |score|^p)^(1/p) (1 where that is 0): DBRX, p = 1
};

/// The scores of the chosen experts, normalised or not, times a scale.
class GatherWeighting {
 public:
  static constexpr const char* kName = "gather";
  struct Options {
    Normalise normalise = Normalise::none;
    double eps = 1e-20;
    double scale = 1;
    bool only_if_many = false;     // a single choice is not normalised (k > 1 in several releases)
    double p = 1;                  // of p_norm, >= 1
    bool scale_normalised = true;  // false: what was normalised is not scaled (DeepSeek-V2's own code)

    friend bool operator==(const Options&, const Options&) = default;
  };

  GatherWeighting() = default;
  /// Throws config_error for an eps below 0, or an eps or scale that is not finite.
  explicit GatherWeighting(Options options) : options_(options) {
    if (!(options.eps >= 0 && is_finite(options.eps))) {
      fail<config_error>("normalisation eps: expected a finite value >= 0, got ", options.eps);
    }
    if (!is_finite(options.scale)) {
      fail<config_error>("weight scale: expected a finite value, got ", options.scale);
    }
    if (!(options.p >= 1 && is_finite(options.p))) {
      fail<config_error>("p of the p-norm: expected a finite value >= 1, got ", options.p);
    }
  }

  const Options& options() const noexcept { return options_; }

  template <class Real>
  void forward(const RowContext<Real>& row, const Chosen& chosen, Real* weight, bool* keep) const noexcept {
    const Real divided_by = divisor(chosen, size_of(chosen, row.score));
    for (Index i = 0; i < chosen.count; ++i) {
      // Divided first: scale / divisor may overflow where the weight does not.
      weight[i] = row.score[chosen.id[i]] / divided_by * scale_of<Real>(chosen);
      keep[i] = true;
    }
  }

  template <class Real>
  void backward(const RowContext<Real>& row, const Chosen& chosen, const Real* dweight,
                Real* dscore) const noexcept {
    const Real sum = size_of(chosen, row.score);
    const Real divided_by = divisor(chosen, sum);
    const Real factor = scale_of<Real>(chosen) / divided_by;
    Real through_sum = 0;
    if (divisor_moves(chosen, sum)) {
      // The weight first: a single weight of exactly 1 then passes on a gradient of exactly 0.
      for (Index i = 0; i < chosen.count; ++i)
        through_sum += dweight[i] * (row.score[chosen.id[i]] / divided_by);
    }
    for (Index i = 0; i < chosen.count; ++i) {
      const Real s = row.score[chosen.id[i]];
      dscore[chosen.id[i]] += (dweight[i] - through_sum * divisor_slope(s, divided_by)) * factor;
    }
  }

 private:
  template <class Real>
  static Real sum_of(const Chosen& chosen, const Real* score) noexcept {
    Real sum = 0;
    for (Index i = 0; i < chosen.count; ++i) sum += score[chosen.id[i]];
    return sum;
  }
  /// Sum, or p-norm.
  template <class Real>
  Real size_of(const Chosen& chosen, const Real* score) const noexcept {
    if (options_.normalise != Normalise::p_norm) return sum_of(chosen, score);
    double sum = 0;
    for (Index i = 0; i < chosen.count; ++i) sum += power(magnitude(score[chosen.id[i]]), options_.p);
    return static_cast<Real>(power(sum, 1 / options_.p));
  }
  template <class Real>
  static double magnitude(Real score) noexcept {
    return static_cast<double>(score < 0 ? -score : score);
  }
  static double power(double x, double p) noexcept { return p == 1 ? x : ::pow(x, p); }
  /// d divisor / d score, where the divisor moves: 1, or sign(s) (|s| / norm)^(p - 1).
  template <class Real>
  Real divisor_slope(Real score, Real norm) const noexcept {
    if (options_.normalise != Normalise::p_norm) return Real{1};
    const double slope = power(magnitude(score) / static_cast<double>(norm), options_.p - 1);
    return static_cast<Real>(score < 0 ? -slope : slope);
  }
  template <class Real>
  Real scale_of(const Chosen& chosen) const noexcept {
    return applies(chosen) && !options_.scale_normalised ? Real{1} : static_cast<Real>(options_.scale);
  }
  bool applies(const Chosen& chosen) const noexcept {
    return options_.normalise != Normalise::none && !(options_.only_if_many && chosen.count == 1);
  }
  /// Never 0: a token whose kept scores are all 0 has weights 0, not NaN.
  template <class Real>
  Real divisor(const Chosen& chosen, Real sum) const noexcept {
    const Real eps = static_cast<Real>(options_.eps);
    Real result = applies(chosen) ? sum : Real{1};
    if (applies(chosen) && options_.normalise == Normalise::sum_plus_eps) result = sum + eps;
    if (applies(chosen) && options_.normalise == Normalise::max_with_eps) result = sum > eps ? sum : eps;
    return result == 0 ? Real{1} : result;
  }
  /// Whether the divisor follows the sum: d divisor / d sum is 1 or 0.
  template <class Real>
  bool divisor_moves(const Chosen& chosen, Real sum) const noexcept {
    if (!applies(chosen)) return false;
    const Real eps = static_cast<Real>(options_.eps);
    if (options_.normalise == Normalise::max_with_eps) return sum > eps;
    return (options_.normalise == Normalise::sum_plus_eps ? sum + eps : sum) != 0;
  }

  Options options_{};
};

MOE_NAMESPACE_END
