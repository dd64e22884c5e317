// Device-level balance: groups of experts get equal shares of the choices. DeepSeekMoE, 2401.06066
// section 3.3. Groups are equal blocks of ids.
#pragma once

#include "moe/core/check.hpp"
#include "moe/router/balance/group_loss.hpp"
#include "moe/router/expert_blocks.hpp"

MOE_NAMESPACE_BEGIN

/// c * sum over G groups of f_j * P_j: f_j the mean over the group of f_e = N * (share of the choices that
/// fell on e), P_j the sum over the group of the mean probabilities. c when balanced. Counts of other
/// micro-batches (LayerInput::outside_counts) take part in f, which has no gradient.
class DeviceBalance {
 public:
  static constexpr const char* kName = "device_balance";

  struct Options {
    double coefficient = 0.05;
    Index groups = 1;  // G
  };

  /// Throws config_error for fewer groups than 1.
  explicit DeviceBalance(Options options) : options_(options) {
    impl::checked_coefficient(kName, options.coefficient);
    require_range("groups", options.groups, 1, INT32_MAX);
  }

  double coefficient() const noexcept { return options_.coefficient; }
  void check(Index outputs) const { impl::require_blocks("groups", options_.groups, outputs); }
  void measure(Arena& arena, Index, Index) const { arena.take<double>(options_.groups); }

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena& arena) const {
    return impl::group_loss(in, factors(in, arena), group_of(in));
  }
  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out,
                Arena& arena) const {
    impl::group_loss_backward(in, factors(in, arena), group_of(in), scale, out.dprobability);
  }

 private:
  template <class Real>
  impl::BlockOf group_of(const BalanceInput<Real>& in) const noexcept {
    return {in.outputs() / options_.groups};
  }
  /// c * f_j / (active tokens): with equal groups f_j is G times the share of the choices that fell into it.
  template <class Real>
  const double* factors(const BalanceInput<Real>& in, Arena& arena) const {
    return impl::share_factors(in, options_.coefficient, options_.groups, group_of(in), arena);
  }

  Options options_;
};

MOE_NAMESPACE_END
