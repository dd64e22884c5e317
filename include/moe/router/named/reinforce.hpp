// One expert, drawn by a policy that REINFORCE trains: RL-R of Clark et al. 2202.01169. Its value head is
// train/value_baseline.hpp.
#pragma once

#include "moe/router/balance/concept.hpp"
#include "moe/router/balance/entropy.hpp"
#include "moe/router/balance/load_balance.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/plackett_luce.hpp"
#include "moe/router/weighting/equal.hpp"

MOE_NAMESPACE_BEGIN

struct RlROptions {
  Index width = 0;              // D
  Index experts = 0;            // E
  double entropy_bonus = 0.01;  // >= 0: the loss is -bonus * mean entropy, so that policies stay open
  double load_balance = 0.01;   // coefficient, see router/balance/load_balance.hpp
  NonFinite non_finite = NonFinite::throw_;
};

/// Training: an expert drawn from softmax(W x); inference: the most probable. It weighs 1, so that the router
/// learns from the `advantage` of a backward and its own losses, and from nothing else.
template <class Real>
using RlRRouter = TokenChoice<LinearScorer<Real>, Softmax, PlackettLuce, EqualWeighting,
                              Balancing<EntropyLoss, LoadBalance>>;

/// Throws config_error for sizes that do not fit, or a bonus that is negative or not finite.
template <class Real>
RlRRouter<Real> rl_r_router(const RlROptions& options) {
  if (!(options.entropy_bonus >= 0 && is_finite(options.entropy_bonus))) {
    fail<config_error>("entropy bonus: expected a finite value >= 0, got ", options.entropy_bonus);
  }
  return {LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
          Softmax{},
          PlackettLuce({.k = 1}),
          EqualWeighting{},
          Balancing<EntropyLoss, LoadBalance>(EntropyLoss({.coefficient = -options.entropy_bonus}),
                                              LoadBalance({.coefficient = options.load_balance})),
          options.non_finite};
}

MOE_NAMESPACE_END
