// Adaptive L1 loss of ReLU routing: its coefficient rises while too many experts are active and falls while
// too few are. ReMoE, Wang et al. 2412.14711 sections 3.3, 3.4.
#pragma once

#include <cfloat>

#include "moe/core/check.hpp"
#include "moe/plan/statistics.hpp"
#include "moe/router/balance/concept.hpp"

MOE_NAMESPACE_BEGIN

/// loss = lambda * sum over e of f_e * (mean over tokens of the chosen scores R_e; of ReLU routing, where
/// what is not chosen is 0, of all), with f_e = N / (k T) * (tokens on e), a count without gradient, or f_e =
/// 1 without balance. After every step, from the counts of all layers and micro-batches: lambda *= growth
/// while more than k experts per token are active, else lambda /= growth (also at exactly k, as in the
/// published code). Layers that get the same counts keep the same lambda. State: "adaptive_l1.coefficient".
class AdaptiveL1 {
 public:
  static constexpr const char* kName = "adaptive_l1";

  struct Options {
    Index k = 1;                // experts per token aimed at: sparsity 1 - k / N
    double coefficient = 1e-8;  // lambda at first; 0: no loss
    double growth = 1.2;        // alpha
    bool balance = true;
  };

  /// Throws config_error for k < 1, a coefficient that is negative or not finite, or a growth below 1.
  explicit AdaptiveL1(Options options) : options_(options), lambda_(options.coefficient) {
    require_range("experts per token aimed at", options.k, 1, INT32_MAX);
    if (!(options.coefficient >= 0 && options.coefficient <= DBL_MAX)) {
      fail<config_error>("adaptive L1 coefficient: expected a finite value >= 0, got ", options.coefficient);
    }
    if (!(options.growth >= 1 && options.growth <= DBL_MAX)) {
      fail<config_error>("adaptive L1 growth: expected a finite value >= 1, got ", options.growth);
    }
  }

  /// lambda now.
  double coefficient() const noexcept { return lambda_; }
  void check(Index outputs) const { require_range("experts per token aimed at", options_.k, 1, outputs); }
  void measure(Arena& arena, Index, Index outputs) const { arena.take<double>(outputs); }

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena& arena) const {
    const double* const factor = factors(in, arena);
    double sum = 0;
    each_choice(in, [&](Index t, Index e) { sum += factor[e] * static_cast<double>(in.score(t, e)); });
    return sum;
  }

  /// d loss / d R_{t,e} = lambda * f_e / T where e is active.
  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out,
                Arena& arena) const {
    const double* const factor = factors(in, arena);
    each_choice(in, [&](Index t, Index e) { out.dscore(t, e) += static_cast<Real>(scale * factor[e]); });
  }

  void on_step_end(const RouteStats& stats) noexcept {
    if (stats.tokens == 0) return;
    // active > k per token <=> sparsity < 1 - k / N, without a rounding.
    const bool too_many = static_cast<double>(stats.pairs()) >
                          static_cast<double>(options_.k) * static_cast<double>(stats.tokens);
    lambda_ = too_many ? lambda_ * options_.growth : lambda_ / options_.growth;
    if (options_.coefficient == 0) return;
    // At 0 or infinity it would stay for good.
    lambda_ = lambda_ < DBL_MIN ? DBL_MIN : (lambda_ > DBL_MAX ? DBL_MAX : lambda_);
  }
  /// f(name, values, n) with a copy, taken over if it is finite and >= 0 afterwards; otherwise numeric_error.
  template <class Visitor>
  void visit_state(Visitor& f) {
    double copy = lambda_;
    f("adaptive_l1.coefficient", &copy, Index{1});
    if (!(copy >= 0 && copy <= DBL_MAX)) {
      fail<numeric_error>("adaptive L1 coefficient: expected a finite value >= 0, got ", copy);
    }
    lambda_ = copy;
  }
  template <class Visitor>
  void visit_state(Visitor& f) const {
    f("adaptive_l1.coefficient", &lambda_, Index{1});
  }

 private:
  /// f(t, e) for every active expert, tokens ascending.
  template <class Real, class F>
  static void each_choice(const BalanceInput<Real>& in, F&& f) {
    for (Index t = 0; t < in.tokens(); ++t) {
      for (Index i = 0; in.active[t] && i < in.chosen_count[t]; ++i) f(t, Index{in.choices(t)[i]});
    }
  }

  /// lambda * f_e / T.
  template <class Real>
  const double* factors(const BalanceInput<Real>& in, Arena& arena) const {
    const Index n = in.outputs();
    double* const factor = arena.take<double>(n);
    const double tokens = in.active_count == 0 ? 1.0 : static_cast<double>(in.active_count);
    for (Index e = 0; e < n; ++e) factor[e] = options_.balance ? 0.0 : 1.0;
    if (options_.balance) {
      const double unit = static_cast<double>(n) / (static_cast<double>(options_.k) * tokens);
      each_choice(in, [&](Index, Index e) { factor[e] += 1; });
      for (Index e = 0; e < n; ++e) factor[e] *= unit;
    }
    for (Index e = 0; e < n; ++e) factor[e] *= lambda_ / tokens;
    return factor;
  }

  Options options_;
  double lambda_;
};

MOE_NAMESPACE_END
