// SparseMixer weights of Phi-3.5-MoE (2310.00811, 2409.12136): the i-th choice is weighed by a softmax over
// the logits near its own, without the choices before it. For IdentityScore and TopKSelection: scores are
// logits.
#pragma once

#include "moe/core/check.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/math.hpp"
#include "moe/router/near_best.hpp"
#include "moe/router/sequential_choice.hpp"
#include "moe/router/weighting/concept.hpp"

MOE_NAMESPACE_BEGIN

/// Choice i with logit m leaves out the choices before it and every expert e with
/// (m - h_e) / max(|h_e|, m) > 2 eps; its weight is its share in the softmax of the rest. Weights are not
/// normalised together: two of them may add up to 2. As in the released inference code; the gradient is that
/// of the softmax, with the set of near experts fixed.
class SparseMixerWeighting {
 public:
  static constexpr const char* kName = "sparse_mixer";
  struct Options {
    double eps = 0.01;
  };

  /// Throws config_error for an eps below 0 or not finite.
  explicit SparseMixerWeighting(Options options) : options_(options) {
    if (!(options.eps >= 0 && is_finite(options.eps))) {
      fail<config_error>("sparse mixer eps: expected a finite value >= 0, got ", options.eps);
    }
  }
  const Options& options() const noexcept { return options_; }

  template <class Real>
  void forward(const RowContext<Real>& row, const Chosen& chosen, Real* weight, bool* keep) const noexcept {
    for (Index i = 0; i < chosen.count; ++i) {
      weight[i] = 1 / sum_of_near(row, chosen, i);
      keep[i] = true;
    }
  }

  template <class Real>
  void backward(const RowContext<Real>& row, const Chosen& chosen, const Real* dweight,
                Real* dscore) const noexcept {
    for (Index i = 0; i < chosen.count; ++i) {
      const Real own = row.score[chosen.id[i]];
      const Real weight = 1 / sum_of_near(row, chosen, i);
      // d weight / d h_e = weight ([e is the choice] - p_e), p_e = weight exp(h_e - m).
      for (Index e = 0; e < row.n; ++e) {
        if (!counts(chosen, i, e, own, row.score[e])) continue;
        const Real p = weight * math::exp_nonpositive(Real(row.score[e] - own));
        dscore[e] += dweight[i] * weight * ((e == Index{chosen.id[i]} ? Real{1} : Real{0}) - p);
      }
    }
  }

 private:
  /// sum of exp(h_e - m) over the experts that count; the choice's own term is 1.
  template <class Real>
  Real sum_of_near(const RowContext<Real>& row, const Chosen& chosen, Index i) const noexcept {
    const Real own = row.score[chosen.id[i]];
    Real sum = 0;
    for (Index e = 0; e < row.n; ++e) {
      if (counts(chosen, i, e, own, row.score[e])) sum += math::exp_nonpositive(Real(row.score[e] - own));
    }
    return sum;
  }
  template <class Real>
  bool counts(const Chosen& chosen, Index i, Index e, Real own, Real h) const noexcept {
    if (is_neg_inf(h)) return false;
    return !impl::is_among(chosen, i, e) && impl::is_near_best(own, h, options_.eps);
  }

  Options options_;
};

MOE_NAMESPACE_END
