// The experts that are best for sure: a softmax over the k greatest logits, each over its own uncertainty.
// MoFME, Zhang et al. 2312.16610.
#pragma once

#include "moe/router/balance/load_balance.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/identity.hpp"
#include "moe/router/scorer/uncertain.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/softmax.hpp"

MOE_NAMESPACE_BEGIN

struct UncertainRouterOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index k = 2;
  double dropout = 0.1;     // see UncertainScorerOptions
  Index passes = 8;         // drawn in training; 0: their limit
  double load_balance = 0;  // coefficient, see router/balance/load_balance.hpp
  NonFinite non_finite = NonFinite::throw_;
};

/// See UncertainScorer.
template <class Real>
using UncertainRouter = TokenChoice<UncertainScorer<Real>, IdentityScore, TopKSelection, SoftmaxWeighting,
                                    Balancing<LoadBalance>>;

/// Throws config_error for what is out of range.
template <class Real>
UncertainRouter<Real> uncertain_router(const UncertainRouterOptions& options) {
  return {UncertainScorer<Real>({.width = options.width,
                                 .outputs = options.experts,
                                 .dropout = options.dropout,
                                 .passes = options.passes}),
          IdentityScore{},
          TopKSelection(options.k),
          SoftmaxWeighting{},
          Balancing<LoadBalance>(LoadBalance({.coefficient = options.load_balance})),
          options.non_finite};
}

MOE_NAMESPACE_END
