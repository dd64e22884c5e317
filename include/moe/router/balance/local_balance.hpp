// Balance within the groups: of routers that choose a group (a node) and then a place in it, the places get
// equal shares of the choices, whichever the group. SMILE, He et al. 2212.05191 section 3.3.
#pragma once

#include "moe/core/check.hpp"
#include "moe/router/balance/group_loss.hpp"
#include "moe/router/expert_blocks.hpp"

MOE_NAMESPACE_BEGIN

/// c * m * sum over the m places of f_j * Q_j: f_j the share of the choices that fell on place j of some
/// group, Q_j the sum over the groups of the mean probabilities of place j. c when balanced. Counts of other
/// micro-batches (LayerInput::outside_counts) take part in f, which has no gradient. Beside it a
/// DeviceBalance, over the groups.
class LocalBalance {
 public:
  static constexpr const char* kName = "local_balance";

  struct Options {
    double coefficient = 0.005;
    Index groups = 1;  // equal blocks of ids, m outputs each
  };

  /// Throws config_error for fewer groups than 1 or a coefficient that is not finite.
  explicit LocalBalance(Options options) : options_(options) {
    impl::checked_coefficient(kName, options.coefficient);
    require_range("groups", options.groups, 1, INT32_MAX);
  }

  double coefficient() const noexcept { return options_.coefficient; }
  void check(Index outputs) const { impl::require_blocks("groups", options_.groups, outputs); }
  void measure(Arena& arena, Index, Index outputs) const { arena.take<double>(outputs / options_.groups); }

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena& arena) const {
    return impl::group_loss(in, factors(in, arena), place_of(in));
  }
  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out,
                Arena& arena) const {
    impl::group_loss_backward(in, factors(in, arena), place_of(in), scale, out.dprobability);
  }

 private:
  template <class Real>
  impl::PlaceOf place_of(const BalanceInput<Real>& in) const noexcept {
    return {in.outputs() / options_.groups};
  }
  template <class Real>
  const double* factors(const BalanceInput<Real>& in, Arena& arena) const {
    return impl::share_factors(in, options_.coefficient, place_of(in).size, place_of(in), arena);
  }

  Options options_;
};

MOE_NAMESPACE_END
