// The router of OpenMoE: ST-MoE's top-2 under a capacity, balanced by the load-balance and z-losses. Xue et
// al. 2402.01739; Zoph et al. 2202.08906.
#pragma once

#include "moe/plan/capacity/fixed.hpp"
#include "moe/router/named/top_k.hpp"

MOE_NAMESPACE_BEGIN

struct OpenMoeOptions {
  Index width = 0;    // D
  Index experts = 0;  // E >= 2
  double load_balance = 0.01;
  double z_loss = 1e-4;
  bool normalise = true;  // weights over their sum, before anything is dropped
  NonFinite non_finite = NonFinite::throw_;
};

/// softmax over all experts and the two best, as softmax_top_k. Throws config_error for sizes that do not
/// fit.
template <class Real>
SoftmaxTopK<Real> open_moe(const OpenMoeOptions& options) {
  return softmax_top_k<Real>({.width = options.width,
                              .experts = options.experts,
                              .k = 2,
                              .load_balance = options.load_balance,
                              .z_loss = options.z_loss,
                              .weights = {.normalise = options.normalise ? Normalise::sum : Normalise::none},
                              .non_finite = options.non_finite});
}

/// Its capacity: 1.25 times an even share in training, 2 times in inference, first choices first and then in
/// order, which is what drops the end of a sequence.
inline FixedCapacity open_moe_capacity(bool training) {
  return FixedCapacity({.factor = training ? 1.25 : 2.0, .order = CapacityOrder::first_choices_first});
}

MOE_NAMESPACE_END
