// Weightings of token-choice routers: the scores of the chosen experts -> combine weights. Always the
// unbiased scores: what a selection bias moved does not show in a weight.
#pragma once

#include <math.h>

#include <concepts>
#include <cstdint>

#include "moe/core/check.hpp"
#include "moe/core/types.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/math.hpp"
#include "moe/kernel/softmax.hpp"

MOE_NAMESPACE_BEGIN

/// The chosen experts of one token.
struct Chosen {
  const ExpertId* id = nullptr;  // [count] first choice first
  Index count = 0;
  double draw = 0;  // in (0, 1), keyed by the token; for random weightings in training
  bool training = false;
};

/// `forward`: weight[i] and keep[i] for every choice; one that is not kept is routed nowhere. `backward`:
/// dweight[i] (0 where not kept; may be overwritten) to dscore[id] +=. `experts(outputs)`: how many of the
/// router's outputs are real experts.
template <class W>
concept Weighting = std::copy_constructible<W> &&
    requires(const W& w, const Chosen& chosen, const double* in, double* out, bool* keep, Index n) {
  { w.experts(n) } -> std::same_as<Index>;
  { w.forward(chosen, in, out, keep) }
  noexcept;  // score, weight, keep
  { w.backward(chosen, in, out, out) }
  noexcept;  // score, dweight, dscore +=
};

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
  struct Options {
    Normalise normalise = Normalise::none;
    double eps = 1e-20;
    double scale = 1;
    bool only_if_many = false;     // a single choice is not normalised (k > 1 in several releases)
    double p = 1;                  // of p_norm, >= 1
    bool scale_normalised = true;  // false: what was normalised is not scaled (DeepSeek-V2's own code)
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

  Index experts(Index outputs) const noexcept { return outputs; }

  template <class Real>
  void forward(const Chosen& chosen, const Real* score, Real* weight, bool* keep) const noexcept {
    const Real divided_by = divisor(chosen, size_of(chosen, score));
    for (Index i = 0; i < chosen.count; ++i) {
      // Divided first: scale / divisor may overflow where the weight does not.
      weight[i] = score[chosen.id[i]] / divided_by * scale_of<Real>(chosen);
      keep[i] = true;
    }
  }

  template <class Real>
  void backward(const Chosen& chosen, const Real* score, const Real* dweight, Real* dscore) const noexcept {
    const Real sum = size_of(chosen, score);
    const Real divided_by = divisor(chosen, sum);
    const Real factor = scale_of<Real>(chosen) / divided_by;
    Real through_sum = 0;
    if (divisor_moves(chosen, sum)) {
      // The weight first: a single weight of exactly 1 then passes on a gradient of exactly 0.
      for (Index i = 0; i < chosen.count; ++i) through_sum += dweight[i] * (score[chosen.id[i]] / divided_by);
    }
    for (Index i = 0; i < chosen.count; ++i) {
      const Real s = score[chosen.id[i]];
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

/// softmax over the scores of the chosen (Shazeer 1701.06538; Mixtral: equal to normalising the softmax of
/// all).
class SoftmaxWeighting {
 public:
  Index experts(Index outputs) const noexcept { return outputs; }

  template <class Real>
  void forward(const Chosen& chosen, const Real* score, Real* weight, bool* keep) const noexcept {
    for (Index i = 0; i < chosen.count; ++i) {
      weight[i] = score[chosen.id[i]];
      keep[i] = true;
    }
    if (chosen.count > 0) softmax_row(weight, weight, chosen.count);
  }

  template <class Real>
  void backward(const Chosen& chosen, const Real* score, const Real* dweight, Real* dscore) const noexcept {
    if (chosen.count == 0) return;
    // d score_i = w_i (dw_i - sum_j w_j dw_j), with w from the scores again: no array of unknown size.
    Real top = score[chosen.id[0]];
    for (Index i = 1; i < chosen.count; ++i) top = score[chosen.id[i]] > top ? score[chosen.id[i]] : top;
    Real sum = 0, mean = 0;
    for (Index i = 0; i < chosen.count; ++i) {
      const Real w = math::exp_nonpositive(Real(score[chosen.id[i]] - top));
      sum += w;
      mean += w * dweight[i];
    }
    mean /= sum;
    for (Index i = 0; i < chosen.count; ++i) {
      dscore[chosen.id[i]] +=
          math::exp_nonpositive(Real(score[chosen.id[i]] - top)) / sum * (dweight[i] - mean);
    }
  }
};

/// sigmoid of the chosen scores, each on its own (Llama 4, which chooses by logits).
class SigmoidWeighting {
 public:
  Index experts(Index outputs) const noexcept { return outputs; }

  template <class Real>
  void forward(const Chosen& chosen, const Real* score, Real* weight, bool* keep) const noexcept {
    for (Index i = 0; i < chosen.count; ++i) {
      weight[i] = math::sigmoid_pair(score[chosen.id[i]]).of_x;
      keep[i] = true;
    }
  }

  template <class Real>
  void backward(const Chosen& chosen, const Real* score, const Real* dweight, Real* dscore) const noexcept {
    for (Index i = 0; i < chosen.count; ++i) {
      const auto s = math::sigmoid_pair(score[chosen.id[i]]);
      dscore[chosen.id[i]] += dweight[i] * (s.of_x * s.of_minus_x);
    }
  }
};

MOE_NAMESPACE_END
