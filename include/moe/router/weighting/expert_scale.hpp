// One factor per expert on the combine weights (Gemma 4's per_expert_scale), after any normalisation.
#pragma once

#include <span>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/router/weighting/concept.hpp"

MOE_NAMESPACE_BEGIN

/// weight of expert e times factor[e]; without factors the inner weighting, bit for bit. Factors are state:
/// saved, not trained by gradient.
template <Weighting Inner>
class ExpertScale {
 public:
  explicit ExpertScale(Inner inner) : inner_(std::move(inner)) {}
  /// Throws numeric_error unless all factors are finite.
  ExpertScale(Inner inner, std::span<const double> factors) : inner_(std::move(inner)) {
    factor_.copy_from(factors.data(), static_cast<Index>(factors.size()));
    check_finite(factor_);
  }

  /// Factors for another number of outputs leave a router without experts, which it refuses.
  Index experts(Index outputs) const noexcept {
    return factor_.empty() || factor_.size() == outputs ? inner_.experts(outputs) : 0;
  }

  template <class Real>
  void forward(const Chosen& chosen, const Real* score, Real* weight, bool* keep) const noexcept {
    inner_.forward(chosen, score, weight, keep);
    for (Index i = 0; i < chosen.count && !factor_.empty(); ++i) weight[i] *= factor<Real>(chosen.id[i]);
  }

  template <class Real>
  void backward(const Chosen& chosen, const Real* score, Real* dweight, Real* dscore) const noexcept {
    for (Index i = 0; i < chosen.count && !factor_.empty(); ++i) dweight[i] *= factor<Real>(chosen.id[i]);
    inner_.backward(chosen, score, dweight, dscore);
  }

  /// f("per_expert_scale", values, n) with a copy, taken over if all of it is finite; otherwise
  /// numeric_error.
  template <class Visitor>
  void visit_state(Visitor& f) {
    if (factor_.empty()) return;
    Buffer<double> copy = factor_;
    f("per_expert_scale", copy.data(), copy.size());
    check_finite(copy);
    factor_ = std::move(copy);
  }

 private:
  template <class Real>
  Real factor(ExpertId e) const noexcept {
    return static_cast<Real>(factor_[e]);
  }
  static void check_finite(const Buffer<double>& factors) {
    for (Index e = 0; e < factors.size(); ++e) {
      if (!is_finite(factors[e])) {
        fail<numeric_error>("per-expert scale: expected finite values, got ", factors[e], " for expert ", e);
      }
    }
  }

  Inner inner_;
  Buffer<double> factor_;  // [N] or empty
};

MOE_NAMESPACE_END
