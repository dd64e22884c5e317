// Losses over equal groups of experts (devices): what they have in common.
#pragma once

#include "moe/core/check.hpp"
#include "moe/router/balance/concept.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// sum over groups of factor_j * (sum over active tokens and outputs of the group of p_{t,e}).
template <class Real>
double group_loss(const BalanceInput<Real>& in, const double* factor, Index groups) noexcept {
  const Index size = in.outputs() / groups;
  double sum = 0;
  for (Index t = 0; t < in.tokens(); ++t) {
    if (!in.active[t]) continue;
    for (Index e = 0; e < in.outputs(); ++e)
      sum += factor[e / size] * static_cast<double>(in.probability(t, e));
  }
  return sum;
}

template <class Real>
void group_loss_backward(const BalanceInput<Real>& in, const double* factor, Index groups, double scale,
                         const MatrixView<Real>& dprobability) noexcept {
  const Index size = in.outputs() / groups;
  for (Index t = 0; t < in.tokens(); ++t) {
    if (!in.active[t]) continue;
    for (Index e = 0; e < in.outputs(); ++e)
      dprobability(t, e) += static_cast<Real>(scale * factor[e / size]);
  }
}

inline void check_groups(Index groups, Index outputs) {
  if (outputs % groups != 0) {
    fail<config_error>("groups: expected a divisor of the ", outputs, " outputs, got ", groups);
  }
}

}  // namespace impl

MOE_NAMESPACE_END
