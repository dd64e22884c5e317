// Top-k routing that keeps every expert to its capacity: token drop, token reroute, expanded drop. He et al.
// 2503.05066.
#pragma once

#include "moe/router/balance/load_balance.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/capacity_aware_top_k.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

struct CapacityAwareOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index k = 1;
  double capacity_factor = 1;  // gamma: places over rows times k; no limit for a segment of one row
  double rounds = 1;           // token reroute: among a row's ceil(rounds k) best
  Index devices = 0;           // expanded drop: all experts of the row's device are candidates; 0: not
  bool normalise = false;      // weights over their sum, of those that are left
  double load_balance = 0;     // coefficient, see router/balance/load_balance.hpp; of the most likely experts
  NonFinite non_finite = NonFinite::throw_;
};

/// softmax over all experts and the k best, under the selection's own capacity, for a Dropless layer: couples
/// the rows of a segment. Made for inference; trains as it infers.
template <class Real>
using CapacityAwareRouter =
    TokenChoice<LinearScorer<Real>, Softmax, CapacityAwareTopK, GatherWeighting, Balancing<LoadBalance>>;

/// Throws config_error for sizes, devices or a k that do not fit, or a factor or rounds out of range.
template <class Real>
CapacityAwareRouter<Real> capacity_aware(const CapacityAwareOptions& options) {
  return {
      LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
      Softmax{},
      CapacityAwareTopK({.k = options.k,
                         .capacity_factor = options.capacity_factor,
                         .rounds = options.rounds,
                         .devices = options.devices}),
      GatherWeighting({.normalise = options.normalise ? Normalise::sum : Normalise::none}),
      Balancing<LoadBalance>(LoadBalance({.coefficient = options.load_balance, .most_likely_only = true})),
      options.non_finite};
}

MOE_NAMESPACE_END
