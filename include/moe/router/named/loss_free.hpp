// Loss-free balancing: sigmoid top-k whose choice, and nothing else, sees a bias that follows the load. Wang
// et al. 2408.15664.
#pragma once

#include "moe/router/balance/selection_bias.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/sigmoid.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

struct LossFreeOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index k = 2;
  double speed = 1e-3;  // of the bias, see router/balance/selection_bias.hpp
  BiasRule rule = BiasRule::sign;
  bool decaying = false;
  GatherWeighting::Options weights{};  // DeepSeek-V3 divides them by their sum, the paper does not
  NonFinite non_finite = NonFinite::throw_;
};

/// Scores are sigmoids of the logits, the k highest of score + bias are chosen, and weights are scores.
template <class Real>
using LossFreeTopK =
    TokenChoice<LinearScorer<Real>, SigmoidScore, TopKSelection, GatherWeighting, Balancing<SelectionBias>>;

/// Throws config_error for sizes or a k that do not fit, or a speed that is not finite or below 0.
template <class Real>
LossFreeTopK<Real> loss_free_top_k(const LossFreeOptions& options) {
  return {LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
          SigmoidScore{},
          TopKSelection(options.k),
          GatherWeighting(options.weights),
          Balancing<SelectionBias>(SelectionBias({.outputs = options.experts,
                                                  .speed = options.speed,
                                                  .rule = options.rule,
                                                  .decaying = options.decaying})),
          options.non_finite};
}

MOE_NAMESPACE_END
