// Top-p routing: a row takes as many experts as hold a share p of its probability, so that hard rows take
// more. Huang et al. 2403.07652, "Harder tasks need more experts".
#pragma once

#include "moe/router/balance/entropy.hpp"
#include "moe/router/balance/load_balance.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_p.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

struct TopPOptions {
  Index width = 0;    // D
  Index experts = 0;  // E; 16 in the paper
  double p = 0.4;
  MassRule rule = MassRule::exceeds;
  double load_balance = 0.01;  // coefficient, see router/balance/load_balance.hpp: the paper's f sums to the
                               // mean number of experts, ours to 1
  double entropy = 1e-4;       // coefficient, see router/balance/entropy.hpp
  GatherWeighting::Options weights{};  // the paper's are the probabilities as they are
  NonFinite non_finite = NonFinite::throw_;
};

/// 1 to E experts per token; the entropy loss keeps them few. The same in training and inference.
template <class Real>
using TopPRouter = TokenChoice<LinearScorer<Real>, Softmax, TopPSelection, GatherWeighting,
                               Balancing<LoadBalance, EntropyLoss>>;

/// Throws config_error for sizes that do not fit or a p outside (0, 1].
template <class Real>
TopPRouter<Real> top_p_router(const TopPOptions& options) {
  return {LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
          Softmax{},
          TopPSelection({.p = options.p, .rule = options.rule}),
          GatherWeighting(options.weights),
          Balancing<LoadBalance, EntropyLoss>(LoadBalance({.coefficient = options.load_balance}),
                                              EntropyLoss({.coefficient = options.entropy})),
          options.non_finite};
}

MOE_NAMESPACE_END
