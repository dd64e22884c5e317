// Importance loss: c * CV^2 of I_e, the sum of the combine weights that expert e gets from the batch. Shazeer
// et al. 1701.06538 eq. 6, 7.
#pragma once

#include "moe/router/balance/concept.hpp"
#include "moe/router/balance/squared_variation.hpp"

MOE_NAMESPACE_BEGIN

/// Differentiated through the combine weights. 0 where nothing is routed.
class ImportanceLoss {
 public:
  static constexpr const char* kName = "importance";

  struct Options {
    double coefficient = 0.1;
  };

  ImportanceLoss() = default;
  /// Throws config_error for a coefficient that is not finite.
  explicit ImportanceLoss(Options options) : ImportanceLoss(options.coefficient) {}
  explicit ImportanceLoss(double coefficient) : coefficient_(impl::checked_coefficient(kName, coefficient)) {}

  double coefficient() const noexcept { return coefficient_; }
  void measure(Arena& arena, Index, Index outputs) const { arena.take<double>(outputs); }

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena& arena) const {
    return coefficient_ * impl::SquaredVariation(importance(in, arena), in.outputs()).value;
  }

  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out,
                Arena& arena) const {
    const double* const sum = importance(in, arena);
    const impl::SquaredVariation variation(sum, in.outputs());
    each_kept(in, [&](Index i) {
      out.dweight[i] += static_cast<Real>(scale * coefficient_ * variation.gradient(sum[in.chosen[i]]));
    });
  }

 private:
  /// f(i) for every kept choice, tokens ascending.
  template <class Real, class F>
  static void each_kept(const BalanceInput<Real>& in, F&& f) {
    for (Index t = 0; t < in.tokens(); ++t) {
      for (Index i = t * in.most; in.active[t] && i < t * in.most + in.chosen_count[t]; ++i) {
        if (in.keep[i]) f(i);
      }
    }
  }
  template <class Real>
  static const double* importance(const BalanceInput<Real>& in, Arena& arena) {
    double* const sum = arena.take<double>(in.outputs());
    for (Index e = 0; e < in.outputs(); ++e) sum[e] = 0;
    each_kept(in, [&](Index i) { sum[in.chosen[i]] += static_cast<double>(in.weight[i]); });
    return sum;
  }

  double coefficient_ = Options{}.coefficient;
};

MOE_NAMESPACE_END
