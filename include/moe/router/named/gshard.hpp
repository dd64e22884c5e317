// GShard's top-2 routing: the second expert is taken at random, in proportion to its weight. Lepikhin et al.
// 2006.16668 section 2.2, algorithm 1.
#pragma once

#include "moe/router/balance/load_balance.hpp"
#include "moe/router/balance/z.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/random_second.hpp"

MOE_NAMESPACE_BEGIN

struct GShardOptions {
  Index width = 0;             // D
  Index experts = 0;           // E >= 2
  bool random_second = true;   // training: the second expert with probability min(1, 2 w_2)
  double load_balance = 0.01;  // coefficient, see router/balance/load_balance.hpp; E^2 times the paper's loss
  double z_loss = 0;           // coefficient, see router/balance/z.hpp
  NonFinite non_finite = NonFinite::throw_;
};

/// softmax over all experts, the two best, weights normalised over the pair; the load balance counts first
/// choices. The paper's capacity is a FixedCapacity with first_choices_first (moe/plan/capacity/fixed.hpp).
template <class Real>
using GShardRouter = TokenChoice<LinearScorer<Real>, Softmax, TopKSelection, RandomSecondWeighting,
                                 Balancing<LoadBalance, ZLoss>>;

/// Throws config_error for sizes that do not fit.
template <class Real>
GShardRouter<Real> gshard_router(const GShardOptions& options) {
  return {LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
          Softmax{},
          TopKSelection(2),
          RandomSecondWeighting({.random = options.random_second}),
          Balancing<LoadBalance, ZLoss>(
              LoadBalance({.coefficient = options.load_balance, .first_choice_only = true}),
              ZLoss(options.z_loss)),
          options.non_finite};
}

MOE_NAMESPACE_END
