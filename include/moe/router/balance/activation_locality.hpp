// Activation locality: neighbouring tokens should activate the same experts. BlockFFN, 2507.08771.
#pragma once

#include "moe/core/check.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/math.hpp"
#include "moe/router/balance/concept.hpp"

MOE_NAMESPACE_BEGIN

/// c * mean over pairs of neighbours and outputs of the cross-entropy between sigmoid(b r), r the later one's
/// logit, the target, and sigmoid(b r) of the earlier one: b a steepness that makes both nearly "active or
/// not". Neighbours follow each other among the rows of a segment that take part; an output that is masked in
/// one of them does not count. Both sides get gradient, as in the released code.
class ActivationLocality {
 public:
  static constexpr const char* kName = "activation_locality";
  struct Options {
    double coefficient = 2e-3;
    double steepness = 100;  // b
  };

  ActivationLocality() = default;
  /// Throws config_error for a coefficient that is not finite or a steepness that is not positive and finite.
  explicit ActivationLocality(Options options) : options_(options) {
    impl::checked_coefficient(kName, options.coefficient);
    if (!(options.steepness > 0 && is_finite(options.steepness))) {
      fail<config_error>("steepness: expected a finite value > 0, got ", options.steepness);
    }
  }

  double coefficient() const noexcept { return options_.coefficient; }
  void measure(Arena&, Index, Index) const noexcept {}

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena&) const {
    double sum = 0;
    Index count = 0;
    each_pair(in, [&](Index, Index, Index, double before, double now) {
      sum += math::softplus(before) - math::sigmoid_pair(now).of_x * before;
      ++count;
    });
    return count == 0 ? 0.0 : options_.coefficient * sum / static_cast<double>(count);
  }

  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out, Arena&) const {
    Index count = 0;
    each_pair(in, [&](Index, Index, Index, double, double) { ++count; });
    if (count == 0) return;
    const double unit = scale * options_.coefficient * options_.steepness / static_cast<double>(count);
    each_pair(in, [&](Index earlier, Index later, Index e, double before, double now) {
      const auto target = math::sigmoid_pair(now);
      out.dlogit(earlier, e) += static_cast<Real>(unit * (math::sigmoid_pair(before).of_x - target.of_x));
      out.dlogit(later, e) -= static_cast<Real>(unit * before * target.of_x * target.of_minus_x);
    });
  }

 private:
  /// f(earlier, later, e, b r_earlier, b r_later) for every pair of neighbours, ascending.
  template <class Real, class F>
  void each_pair(const BalanceInput<Real>& in, F&& f) const {
    const Segments& segments = in.call.segments;
    for (Index s = 0; s < segments.count(in.tokens()); ++s) {
      Index last = -1;
      for (Index t = segments.begin(s); t < segments.end(s, in.tokens()); ++t) {
        if (!in.active[t]) continue;
        for (Index e = 0; last >= 0 && e < in.outputs(); ++e) {
          const Real before = in.logit(last, e), now = in.logit(t, e);
          if (is_neg_inf(before) || is_neg_inf(now)) continue;
          f(last, t, e, options_.steepness * static_cast<double>(before),
            options_.steepness * static_cast<double>(now));
        }
        last = t;
      }
    }
  }

  Options options_{};
};

MOE_NAMESPACE_END
