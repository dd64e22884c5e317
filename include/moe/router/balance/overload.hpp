// Lowers the scores by which tokens went to overloaded experts, and raises those of the others. StableMoE,
// 2204.08396.
#pragma once

#include "moe/router/balance/concept.hpp"

MOE_NAMESPACE_BEGIN

/// c / T * sum over outputs of (n_e - n) / n * (sum of the scores by which the tokens on e chose it), n_e the
/// choices that fell on e, without gradient, and n their mean. 0 where balanced. The paper adds over tokens,
/// as its task's loss does.
class OverloadLoss {
 public:
  static constexpr const char* kName = "overload";
  struct Options {
    double coefficient = 0.3;
  };

  OverloadLoss() = default;
  /// Throws config_error for a coefficient that is not finite.
  explicit OverloadLoss(Options options) : options_(options) {
    impl::checked_coefficient(kName, options.coefficient);
  }

  double coefficient() const noexcept { return options_.coefficient; }
  void measure(Arena& arena, Index, Index outputs) const { arena.take<double>(outputs); }

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena& arena) const {
    const double* const factor = factors(in, arena);
    double sum = 0;
    each_choice(in, [&](Index t, Index e) { sum += factor[e] * static_cast<double>(in.score(t, e)); });
    return sum;
  }
  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out,
                Arena& arena) const {
    const double* const factor = factors(in, arena);
    each_choice(in, [&](Index t, Index e) { out.dscore(t, e) += static_cast<Real>(scale * factor[e]); });
  }

 private:
  template <class Real, class F>
  static void each_choice(const BalanceInput<Real>& in, F&& f) {
    for (Index t = 0; t < in.tokens(); ++t) {
      for (Index i = 0; in.active[t] && i < in.chosen_count[t]; ++i) f(t, Index{in.choices(t)[i]});
    }
  }
  /// c / T * (n_e - n) / n.
  template <class Real>
  const double* factors(const BalanceInput<Real>& in, Arena& arena) const {
    double* const factor = arena.take<double>(in.outputs());
    double all = 0;
    for (Index e = 0; e < in.outputs(); ++e) factor[e] = 0;
    each_choice(in, [&](Index, Index e) { factor[e] += 1, all += 1; });
    for (Index e = 0; e < in.outputs(); ++e) {
      factor[e] = all > 0 ? options_.coefficient / static_cast<double>(in.active_count) *
                                (factor[e] * static_cast<double>(in.outputs()) / all - 1)
                          : 0.0;
    }
    return factor;
  }

  Options options_{};
};

MOE_NAMESPACE_END
