// Tokens should go to experts of their own device. LocMoE, 2401.13920.
#pragma once

#include <algorithm>
#include <cmath>

#include "moe/core/check.hpp"
#include "moe/router/balance/concept.hpp"
#include "moe/router/expert_blocks.hpp"

MOE_NAMESPACE_BEGIN

/// c * KL(s || q) of "on the own device or not": s the share of the probability that lies on the experts of
/// the token's own device (column `device`), mean over tokens, q the share aimed at. 0 where they match. The
/// paper compares with "fully local", from which every other distribution is infinitely far; q < 1 is what we
/// aim at instead.
class LocalityLoss {
 public:
  static constexpr const char* kName = "locality";
  struct Options {
    double coefficient = 0.01;
    Index devices = 1;         // blocks of the outputs
    double local_share = 0.9;  // q
  };

  LocalityLoss() = default;
  /// Throws config_error for a coefficient that is not finite, devices below 1 or a share outside (0, 1).
  explicit LocalityLoss(Options options) : options_(options) {
    impl::checked_coefficient(kName, options.coefficient);
    require_range("devices", options.devices, 1, INT32_MAX);
    if (!(options.local_share > 0 && options.local_share < 1)) {
      fail<config_error>("local share: expected a value in (0, 1), got ", options.local_share);
    }
  }

  double coefficient() const noexcept { return options_.coefficient; }
  void check(Index outputs) const { impl::require_blocks("devices", options_.devices, outputs); }
  /// Of calls in training.
  template <class Real>
  void check_call(const RouterInput<Real>& in) const {
    if (in.training && options_.coefficient != 0) impl::check_device_column(in, options_.devices);
  }
  void measure(Arena&, Index, Index) const noexcept {}

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena&) const {
    if (in.active_count == 0) return 0;
    const double s = local_share(in), q = options_.local_share;
    return options_.coefficient * (s * std::log(s / q) + (1 - s) * std::log((1 - s) / (1 - q)));
  }

  /// d / d p_te = (ln(s / q) - ln((1 - s) / (1 - q))) / T for e on the token's device.
  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out, Arena&) const {
    if (in.active_count == 0) return;
    const double s = local_share(in), q = options_.local_share;
    const double unit = scale * options_.coefficient * (std::log(s / q) - std::log((1 - s) / (1 - q))) /
                        static_cast<double>(in.active_count);
    for (Index t = 0; t < in.tokens(); ++t) {
      if (!in.active[t]) continue;
      const impl::LocalOutputs local(in.call, t, options_.devices, in.outputs());
      for (Index e = local.first; e < local.last; ++e) out.dprobability(t, e) += static_cast<Real>(unit);
    }
  }

 private:
  /// Kept off 0 and 1, where a logarithm is infinite.
  template <class Real>
  double local_share(const BalanceInput<Real>& in) const noexcept {
    double sum = 0;
    for (Index t = 0; t < in.tokens(); ++t) {
      if (!in.active[t]) continue;
      const impl::LocalOutputs local(in.call, t, options_.devices, in.outputs());
      for (Index e = local.first; e < local.last; ++e) sum += static_cast<double>(in.probability(t, e));
    }
    return std::clamp(sum / static_cast<double>(in.active_count), 1e-12, 1 - 1e-12);
  }

  Options options_{};
};

MOE_NAMESPACE_END
