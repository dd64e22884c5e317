// Whether a row was taken, learnt from the row alone: what a choice over a whole sequence needs to be causal
// in inference. Mixture-of-Depths, Raposo et al. 2404.02258, section 3.5.
#pragma once

#include <math.h>

#include "moe/router/balance/concept.hpp"

MOE_NAMESPACE_BEGIN

/// coefficient * mean over rows of the cross-entropy of sigma(last logit) with "the row has a choice".
class TakenLoss {
 public:
  static constexpr const char* kName = "taken";
  struct Options {
    double coefficient = 1;
  };

  /// Throws config_error for a coefficient that is not finite.
  explicit TakenLoss(Options options) : coefficient_(impl::checked_coefficient(kName, options.coefficient)) {}
  double coefficient() const noexcept { return coefficient_; }

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena&) const {
    double sum = 0;
    for (Index t = 0; t < in.tokens(); ++t) {
      if (!in.active[t]) continue;
      const auto l = static_cast<double>(in.logit(t, in.outputs() - 1));
      // -ln sigma(l) = ln(1 + e^-l), and -ln(1 - sigma(l)) = ln(1 + e^l), neither of which may overflow.
      const double towards = in.chosen_count[t] > 0 ? -l : l;
      sum += (towards > 0 ? towards : 0) + ::log1p(::exp(towards > 0 ? -towards : towards));
    }
    return in.active_count == 0 ? 0.0 : coefficient_ * sum / static_cast<double>(in.active_count);
  }

  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out, Arena&) const {
    if (in.active_count == 0) return;
    const double factor = scale * coefficient_ / static_cast<double>(in.active_count);
    for (Index t = 0; t < in.tokens(); ++t) {
      if (!in.active[t]) continue;
      const double p = 1 / (1 + ::exp(-static_cast<double>(in.logit(t, in.outputs() - 1))));
      out.dlogit(t, in.outputs() - 1) += static_cast<Real>(factor * (p - (in.chosen_count[t] > 0 ? 1 : 0)));
    }
  }

 private:
  double coefficient_;
};

MOE_NAMESPACE_END
