// ReLU routing: an expert is active where its logit is positive, and the logit is its weight; no top-k, so
// the route is continuous in the parameters. ReMoE, Wang et al. 2412.14711.
#pragma once

#include "moe/router/balance/adaptive_l1.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/relu.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/positive.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

struct ReluOptions {
  Index width = 0;            // D
  Index experts = 0;          // E
  Index k = 1;                // experts per token that the loss aims at, on average
  double coefficient = 1e-8;  // of the L1 loss at first; 0: none
  double growth = 1.2;        // of the coefficient per step
  NonFinite non_finite = NonFinite::throw_;
};

/// 0 to E experts per token; one with none has a zero result. The same in training and inference.
template <class Real>
using ReluRouter =
    TokenChoice<LinearScorer<Real>, ReluScore, PositiveSelection, GatherWeighting, Balancing<AdaptiveL1>>;

/// Throws config_error for sizes or a k that do not fit.
template <class Real>
ReluRouter<Real> relu_router(const ReluOptions& options) {
  return {LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
          ReluScore{},
          PositiveSelection{},
          GatherWeighting{},
          Balancing<AdaptiveL1>(
              AdaptiveL1({.k = options.k, .coefficient = options.coefficient, .growth = options.growth})),
          options.non_finite};
}

MOE_NAMESPACE_END
