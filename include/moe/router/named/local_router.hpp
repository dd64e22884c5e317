// A router without parameters that prefers experts on the token's own device. LocMoE, Li et al. 2401.13920.
#pragma once

#include "moe/router/balance/load_balance.hpp"
#include "moe/router/balance/locality.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/block_mean.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

/// The paper's bound on the capacity is a diagnosis of trained gates, not a rule of routing: it is not here.
struct LocalRouterOptions {
  Index width = 0;    // D, a multiple of E
  Index experts = 0;  // E
  Index k = 1;
  Index devices = 1;           // equal blocks of the experts
  double bonus = 0;            // added to the logits of local experts
  double load_balance = 0.01;  // coefficient, see router/balance/load_balance.hpp
  double locality = 0.01;      // coefficient, see router/balance/locality.hpp
  double local_share = 0.9;    // what it aims at
  NonFinite non_finite = NonFinite::throw_;
};

/// softmax over the means of the experts' blocks of the row, the k best, their probabilities as weights.
/// Calls need the column `device` where there is a bonus, and in training where there is a locality loss.
template <class Real>
using LocalRouter = TokenChoice<BlockMeanScorer<Real>, Softmax, TopKSelection, GatherWeighting,
                                Balancing<LoadBalance, LocalityLoss>>;

/// Throws config_error for sizes, a k or devices that do not fit.
template <class Real>
LocalRouter<Real> local_router(const LocalRouterOptions& o) {
  return {
      BlockMeanScorer<Real>({.width = o.width, .outputs = o.experts, .devices = o.devices, .bonus = o.bonus}),
      Softmax{},
      TopKSelection(o.k),
      GatherWeighting{},
      Balancing<LoadBalance, LocalityLoss>(
          LoadBalance({.coefficient = o.load_balance}),
          LocalityLoss({.coefficient = o.locality, .devices = o.devices, .local_share = o.local_share})),
      o.non_finite};
}

MOE_NAMESPACE_END
