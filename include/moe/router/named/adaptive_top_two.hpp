// Adaptive gating: one expert where the router is sure, else two. Li et al. 2310.07188.
#pragma once

#include "moe/router/balance/load_balance.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/adaptive_top_two.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

struct AdaptiveTopTwoOptions {
  Index width = 0;             // D
  Index experts = 0;           // E
  double gap = 0.1;            // between the two best probabilities, above which the best goes alone
  double load_balance = 0.01;  // coefficient, see router/balance/load_balance.hpp; of first choices
  GatherWeighting::Options weights{.normalise = Normalise::sum, .only_if_many = true};
  NonFinite non_finite = NonFinite::throw_;
};

/// By default two experts share a weight of 1, and one alone has its probability, so that the router learns.
template <class Real>
using AdaptiveTopTwoRouter =
    TokenChoice<LinearScorer<Real>, Softmax, AdaptiveTopTwo, GatherWeighting, Balancing<LoadBalance>>;

/// Throws config_error for sizes that do not fit or a gap outside [0, 1].
template <class Real>
AdaptiveTopTwoRouter<Real> adaptive_top_two_router(const AdaptiveTopTwoOptions& options) {
  return {
      LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
      Softmax{},
      AdaptiveTopTwo({.gap = options.gap}),
      GatherWeighting(options.weights),
      Balancing<LoadBalance>(LoadBalance({.coefficient = options.load_balance, .first_choice_only = true})),
      options.non_finite};
}

MOE_NAMESPACE_END
