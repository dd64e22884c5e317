// Logits of an attention among the experts. Yuan 2.0-M32, 2405.17976.
#pragma once

#include "moe/router/balance/load_balance.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/attention.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

/// Defaults of Yuan 2.0-M32.
struct AttentionRouterOptions {
  Index width = 2048;  // D
  Index experts = 32;  // E
  Index k = 2;
  double load_balance = 0.01;  // coefficient, see router/balance/load_balance.hpp
  NonFinite non_finite = NonFinite::throw_;
};

/// softmax over all experts, the k best, their probabilities divided by their sum.
template <class Real>
using AttentionRouter =
    TokenChoice<AttentionScorer<Real>, Softmax, TopKSelection, GatherWeighting, Balancing<LoadBalance>>;

/// Throws config_error for sizes or a k that do not fit.
template <class Real>
AttentionRouter<Real> attention_router(const AttentionRouterOptions& options) {
  return {AttentionScorer<Real>({.width = options.width, .outputs = options.experts}),
          Softmax{},
          TopKSelection(options.k),
          GatherWeighting({.normalise = Normalise::sum}),
          Balancing<LoadBalance>(LoadBalance({.coefficient = options.load_balance})),
          options.non_finite};
}

MOE_NAMESPACE_END
