// z-loss: c * mean over tokens of (log sum exp of the logits)^2 keeps logits small. ST-MoE 2202.08906 eq. 5;
// on the logits before noise.
#pragma once

#include "moe/kernel/softmax.hpp"
#include "moe/router/balance/concept.hpp"

MOE_NAMESPACE_BEGIN

/// d loss / d logit = (2 c / T) * lse * softmax(logit).
class ZLoss {
 public:
  static constexpr const char* kName = "z_loss";

  struct Options {
    double coefficient = 1e-3;
  };

  ZLoss() = default;
  /// Throws config_error for a coefficient that is not finite.
  explicit ZLoss(Options options) : ZLoss(options.coefficient) {}
  explicit ZLoss(double coefficient) : coefficient_(impl::checked_coefficient(kName, coefficient)) {}

  double coefficient() const noexcept { return coefficient_; }
  void measure(Arena& arena, Index, Index outputs) const { arena.take<double>(outputs); }

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena&) const {
    const auto& logits = in.clean.empty() ? in.logit : in.clean;
    double sum = 0;
    for (Index t = 0; t < in.tokens(); ++t) {
      if (!in.active[t]) continue;
      const auto lse = static_cast<double>(logsumexp_row(logits.row(t), in.outputs()));
      sum += lse * lse;
    }
    return in.active_count == 0 ? 0.0 : coefficient_ * sum / static_cast<double>(in.active_count);
  }

  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out,
                Arena& arena) const {
    const bool noisy = !in.clean.empty();
    const auto& logits = noisy ? in.clean : in.logit;
    const auto& dlogits = noisy ? out.dclean : out.dlogit;
    Real* const softmax = arena.take<Real>(in.outputs());
    for (Index t = 0; t < in.tokens(); ++t) {
      if (!in.active[t]) continue;
      const auto lse = static_cast<double>(logsumexp_row(logits.row(t), in.outputs()));
      softmax_row(logits.row(t), softmax, in.outputs());
      const double factor = 2 * scale * coefficient_ * lse / static_cast<double>(in.active_count);
      axpy_row(static_cast<Real>(factor), softmax, dlogits.row(t), in.outputs());
    }
  }

 private:
  double coefficient_ = Options{}.coefficient;
};

MOE_NAMESPACE_END
