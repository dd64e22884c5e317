// Losses over equal groups of outputs (devices, places on a device): what they have in common. `group_of(e)`
// names an output's group.
#pragma once

#include "moe/router/balance/concept.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// sum over groups of factor_j * (sum over active tokens and outputs of the group of p_{t,e}).
template <class Real, class GroupOf>
double group_loss(const BalanceInput<Real>& in, const double* factor, GroupOf group_of) noexcept {
  double sum = 0;
  for (Index t = 0; t < in.tokens(); ++t) {
    if (!in.active[t]) continue;
    for (Index e = 0; e < in.outputs(); ++e)
      sum += factor[group_of(e)] * static_cast<double>(in.probability(t, e));
  }
  return sum;
}

template <class Real, class GroupOf>
void group_loss_backward(const BalanceInput<Real>& in, const double* factor, GroupOf group_of, double scale,
                         const MatrixView<Real>& dprobability) noexcept {
  for (Index t = 0; t < in.tokens(); ++t) {
    if (!in.active[t]) continue;
    for (Index e = 0; e < in.outputs(); ++e)
      dprobability(t, e) += static_cast<Real>(scale * factor[group_of(e)]);
  }
}

/// factor_j = c * groups * (share of the choices that fell into group j) / (active tokens), counts of other
/// micro-batches included: group_loss is c when balanced.
template <class Real, class GroupOf>
const double* share_factors(const BalanceInput<Real>& in, double coefficient, Index groups, GroupOf group_of,
                            Arena& arena) {
  double* const count = arena.take<double>(groups);
  for (Index j = 0; j < groups; ++j) count[j] = 0;
  double total = 0;
  for (Index e = 0; !in.call.outside_counts.empty() && e < in.outputs(); ++e) {
    count[group_of(e)] += in.call.outside_counts[e];
    total += in.call.outside_counts[e];
  }
  for (Index t = 0; t < in.tokens(); ++t) {
    if (!in.active[t]) continue;
    for (Index i = 0; i < in.chosen_count[t]; ++i) count[group_of(Index{in.choices(t)[i]})] += 1;
    total += static_cast<double>(in.chosen_count[t]);
  }
  const double common = total > 0 && in.active_count > 0 ? coefficient * static_cast<double>(groups) / total /
                                                               static_cast<double>(in.active_count)
                                                         : 0.0;
  for (Index j = 0; j < groups; ++j) count[j] *= common;
  return count;
}

/// Group of an output in equal blocks of `size` ids.
struct BlockOf {
  Index size;
  Index operator()(Index e) const noexcept { return e / size; }
};
/// Place of an output in its block.
struct PlaceOf {
  Index size;
  Index operator()(Index e) const noexcept { return e % size; }
};

}  // namespace impl

MOE_NAMESPACE_END
