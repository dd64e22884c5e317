// Switch routing: one expert per token, weighted by its own probability, so that the router learns from the
// task. Fedus et al. 2101.03961.
#pragma once

#include "moe/router/named/top_k.hpp"

MOE_NAMESPACE_BEGIN

struct SwitchOptions {
  Index width = 0;             // D
  Index experts = 0;           // E
  double jitter = 0.01;        // training: router input times U(1 - jitter, 1 + jitter)
  double load_balance = 0.01;  // coefficient, see router/balance/load_balance.hpp
  double z_loss = 0;           // coefficient, see router/balance/z.hpp; 0.001 in ST-MoE
  NonFinite non_finite = NonFinite::throw_;
};

/// softmax over all experts, the best one, its probability as weight. With a FixedCapacity
/// (moe/plan/capacity/fixed.hpp) of factor 1 to 1.25 it drops the tokens beyond, as in the paper.
/// scorer().initialise(seed, 0.1) is the paper's reduced initial scale.
template <class Real>
using SwitchRouter = SoftmaxTopK<Real>;

/// Throws config_error for sizes that do not fit or a jitter outside [0, 1).
template <class Real>
SwitchRouter<Real> switch_router(const SwitchOptions& options) {
  return softmax_top_k<Real>({.width = options.width,
                              .experts = options.experts,
                              .k = 1,
                              .jitter = options.jitter,
                              .load_balance = options.load_balance,
                              .z_loss = options.z_loss,
                              .non_finite = options.non_finite});
}

MOE_NAMESPACE_END
