// Load loss: c * CV^2 of L_e, the number of tokens expected on expert e if their noise were drawn again.
// Shazeer et al. 1701.06538 eq. 8 to 11.
#pragma once

#include <cstdint>
#include <limits>

#include "moe/kernel/finite.hpp"
#include "moe/kernel/math.hpp"
#include "moe/router/balance/concept.hpp"
#include "moe/router/balance/squared_variation.hpp"

MOE_NAMESPACE_BEGIN

/// What an expert's fresh noise has to lift it above.
enum class LoadThreshold : std::uint8_t {
  others,       // the k-th highest noisy logit among the other experts (Shazeer)
  last_chosen,  // the k-th highest noisy logit, even if it is the expert's own (V-MoE 2106.05974)
};

/// L_e = sum over tokens of Phi((clean_e - h) / s_e): the probability that fresh noise of standard deviation
/// s_e lifts e above h, the k-th highest noisy logit (LoadThreshold). For top-k selection on the logits;
/// differentiated through clean_e, s_e and h. Without noise L_e is the count of tokens, a step without
/// gradient.
class LoadLoss {
 public:
  static constexpr const char* kName = "load";

  struct Options {
    double coefficient = 0.1;
    LoadThreshold above = LoadThreshold::others;
  };

  LoadLoss() = default;
  /// Throws config_error for a coefficient that is not finite.
  explicit LoadLoss(Options options) : options_(options) {
    impl::checked_coefficient(kName, options.coefficient);
  }
  explicit LoadLoss(double coefficient) : LoadLoss(Options{.coefficient = coefficient}) {}

  double coefficient() const noexcept { return options_.coefficient; }
  void measure(Arena& arena, Index, Index outputs) const { Scratch{arena, outputs}; }

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena& arena) const {
    const Scratch scratch(arena, in.outputs());
    add_loads(in, scratch);
    return options_.coefficient * impl::SquaredVariation(scratch.load, in.outputs()).value;
  }

  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out,
                Arena& arena) const {
    if (in.clean.empty()) return;
    const Scratch scratch(arena, in.outputs());
    add_loads(in, scratch);
    const impl::SquaredVariation variation(scratch.load, in.outputs());
    each_choice(in, scratch, [&](Index t, Index e, Index threshold) {
      const double ratio = ratio_of(in, t, e, threshold);
      const double density = math::normal_density(ratio);
      if (density == 0) return;  // masked, no other expert to beat, or no noise to speak of: a step
      const double per_unit = scale * options_.coefficient * variation.gradient(scratch.load[e]) * density /
                              static_cast<double>(in.noise_scale(t, e));
      out.dclean(t, e) += static_cast<Real>(per_unit);
      out.dlogit(t, threshold) -= static_cast<Real>(per_unit);
      out.dnoise_scale(t, e) -= static_cast<Real>(per_unit * ratio);
    });
  }

 private:
  struct Scratch {
    double* load;  // [N]
    bool* chosen;  // [N] by the token that is looked at
    Scratch(Arena& arena, Index outputs)
        : load(arena.take<double>(outputs)), chosen(arena.take<bool>(outputs)) {}
  };

  template <class Real>
  void add_loads(const BalanceInput<Real>& in, const Scratch& scratch) const {
    for (Index e = 0; e < in.outputs(); ++e) scratch.load[e] = 0;
    each_choice(in, scratch, [&](Index t, Index e, Index threshold) {
      scratch.load[e] += in.clean.empty() ? (scratch.chosen[e] ? 1.0 : 0.0)
                                          : math::normal_cdf(ratio_of(in, t, e, threshold));
    });
  }

  /// f(t, e, id of the k-th highest noisy logit, or -1): apart from e's own that is the best of the rest for
  /// a chosen expert; for the rest it is the last chosen.
  template <class Real, class F>
  void each_choice(const BalanceInput<Real>& in, const Scratch& scratch, F&& f) const {
    for (Index t = 0; t < in.tokens(); ++t) {
      const Index count = in.chosen_count[t];
      if (!in.active[t] || count == 0) continue;
      for (Index e = 0; e < in.outputs(); ++e) scratch.chosen[e] = false;
      for (Index i = 0; i < count; ++i) scratch.chosen[in.choices(t)[i]] = true;
      Index best_of_rest = -1;
      for (Index e = 0; e < in.outputs(); ++e) {
        if (scratch.chosen[e] || is_neg_inf(in.logit(t, e))) continue;
        if (best_of_rest < 0 || in.logit(t, e) > in.logit(t, best_of_rest)) best_of_rest = e;
      }
      const Index last = in.choices(t)[count - 1];
      const bool own = options_.above == LoadThreshold::last_chosen;
      for (Index e = 0; e < in.outputs(); ++e) f(t, e, scratch.chosen[e] && !own ? best_of_rest : last);
    }
  }

  /// (clean - h) / s: -inf for a masked expert, whose clean logit is -inf; +inf where there is no h.
  template <class Real>
  static double ratio_of(const BalanceInput<Real>& in, Index t, Index e, Index threshold) noexcept {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    if (threshold < 0) return kInfinity;
    const double margin = static_cast<double>(in.clean(t, e)) - static_cast<double>(in.logit(t, threshold));
    const auto scale = static_cast<double>(in.noise_scale(t, e));
    if (scale > 0) return margin / scale;
    return margin > 0 || (margin == 0 && e < threshold) ? kInfinity : -kInfinity;  // softplus underflowed
  }

  Options options_{};
};

MOE_NAMESPACE_END
