// Importance loss of V-MoE: c * CV^2 of the probabilities that the experts get from the batch, of all of them
// and without noise. Riquelme et al. 2106.05974 appendix A.2, as its code has it.
#pragma once

#include "moe/kernel/softmax.hpp"
#include "moe/router/balance/concept.hpp"
#include "moe/router/balance/squared_variation.hpp"

MOE_NAMESPACE_BEGIN

/// CV^2 of I_e = sum over tokens of softmax(logits)_e, the logits before noise where there is noise, whatever
/// the scores are. Unlike ImportanceLoss it does not see who was chosen.
class ShareImportance {
 public:
  static constexpr const char* kName = "share_importance";

  struct Options {
    double coefficient = 0.005;
  };

  ShareImportance() = default;
  /// Throws config_error for a coefficient that is not finite.
  explicit ShareImportance(Options options) : options_(options) {
    impl::checked_coefficient(kName, options.coefficient);
  }

  double coefficient() const noexcept { return options_.coefficient; }
  void measure(Arena& arena, Index, Index outputs) const { Scratch{arena, outputs}; }

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena& arena) const {
    const Scratch scratch(arena, in.outputs());
    add_shares(in, scratch);
    return options_.coefficient * impl::SquaredVariation(scratch.sum, in.outputs()).value;
  }

  /// d / d logit_te = p_te (g_e - <p_t, g>), g the slope by I.
  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out,
                Arena& arena) const {
    const Index n = in.outputs();
    const Scratch scratch(arena, n);
    add_shares(in, scratch);
    const impl::SquaredVariation variation(scratch.sum, n);
    const auto slope = [&](Index e) {
      return scale * options_.coefficient * variation.gradient(scratch.sum[e]);
    };
    const MatrixView<Real>& dlogit = in.clean.empty() ? out.dlogit : out.dclean;
    for (Index t = 0; t < in.tokens(); ++t) {
      if (!in.active[t]) continue;
      form_shares(in, scratch, t);
      double mean = 0;
      for (Index e = 0; e < n; ++e) mean += scratch.share[e] * slope(e);
      for (Index e = 0; e < n; ++e) dlogit(t, e) += static_cast<Real>(scratch.share[e] * (slope(e) - mean));
    }
  }

 private:
  struct Scratch {
    double* sum;    // [N] I
    double* share;  // [N] of the token that is looked at
    Scratch(Arena& arena, Index outputs)
        : sum(arena.take<double>(outputs)), share(arena.take<double>(outputs)) {}
  };

  template <class Real>
  static void form_shares(const BalanceInput<Real>& in, const Scratch& scratch, Index t) noexcept {
    const Real* const logit = in.clean.empty() ? in.logit.row(t) : in.clean.row(t);
    for (Index e = 0; e < in.outputs(); ++e) scratch.share[e] = static_cast<double>(logit[e]);
    softmax_row(scratch.share, scratch.share, in.outputs());
  }
  template <class Real>
  static void add_shares(const BalanceInput<Real>& in, const Scratch& scratch) {
    for (Index e = 0; e < in.outputs(); ++e) scratch.sum[e] = 0;
    for (Index t = 0; t < in.tokens(); ++t) {
      if (!in.active[t]) continue;
      form_shares(in, scratch, t);
      for (Index e = 0; e < in.outputs(); ++e) scratch.sum[e] += scratch.share[e];
    }
  }

  Options options_{};
};

MOE_NAMESPACE_END
