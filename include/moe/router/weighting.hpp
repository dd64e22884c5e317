// Weightings of token-choice routers: the scores of the chosen experts -> combine weights. Always the
// unbiased scores: what a selection bias moved does not show in a weight.
#pragma once

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
/// dweight[i] (0 where not kept) to dscore[id] +=. `experts(outputs)`: how many of the router's outputs are
/// real experts.
template <class W>
concept Weighting = std::copy_constructible<W> &&
    requires(const W& w, const Chosen& chosen, const double* in, double* out, bool* keep, Index n) {
  { w.experts(n) } -> std::same_as<Index>;
  { w.forward(chosen, in, out, keep) }
  noexcept;  // score, weight, keep
  { w.backward(chosen, in, in, out) }
  noexcept;  // score, dweight, dscore +=
};

/// What the kept scores are divided by.
enum class Normalise : std::uint8_t {
  none,
  sum,           // sum of the kept scores (1 where that is 0)
  sum_plus_eps,  // sum + eps
  max_with_eps,  // max(sum, eps)
};

/// The scores of the chosen experts, normalised or not, times a scale.
class GatherWeighting {
 public:
  struct Options {
    Normalise normalise = Normalise::none;
    double eps = 1e-20;
    double scale = 1;
    bool only_if_many = false;  // a single choice is not normalised (k > 1 in several releases)
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
  }

  Index experts(Index outputs) const noexcept { return outputs; }

  template <class Real>
  void forward(const Chosen& chosen, const Real* score, Real* weight, bool* keep) const noexcept {
    const Real divided_by = divisor(chosen, sum_of(chosen, score));
    for (Index i = 0; i < chosen.count; ++i) {
      // Divided first: scale / divisor may overflow where the weight does not.
      weight[i] = score[chosen.id[i]] / divided_by * static_cast<Real>(options_.scale);
      keep[i] = true;
    }
  }

  template <class Real>
  void backward(const Chosen& chosen, const Real* score, const Real* dweight, Real* dscore) const noexcept {
    const Real sum = sum_of(chosen, score);
    const Real divided_by = divisor(chosen, sum);
    const Real factor = static_cast<Real>(options_.scale) / divided_by;
    Real through_sum = 0;
    if (divisor_moves(chosen, sum)) {
      // The weight first: a single weight of exactly 1 then passes on a gradient of exactly 0.
      for (Index i = 0; i < chosen.count; ++i) through_sum += dweight[i] * (score[chosen.id[i]] / divided_by);
    }
    for (Index i = 0; i < chosen.count; ++i) dscore[chosen.id[i]] += (dweight[i] - through_sum) * factor;
  }

 private:
  template <class Real>
  static Real sum_of(const Chosen& chosen, const Real* score) noexcept {
    Real sum = 0;
    for (Index i = 0; i < chosen.count; ++i) sum += score[chosen.id[i]];
    return sum;
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

MOE_NAMESPACE_END
