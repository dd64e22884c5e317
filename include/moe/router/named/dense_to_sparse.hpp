// Dense-to-sparse gating: training starts with nearly all experts and ends with one, as the temperature of a
// Gumbel softmax falls. EvoMoE, Nie et al. 2112.14397.
#pragma once

#include "moe/router/balance/load_balance.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/gumbel.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/threshold.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

struct DenseToSparseOptions {
  Index width = 0;           // D
  Index experts = 0;         // E
  double threshold = 0.001;  // training: experts with a share of the noisy softmax above it
  Index least = 1;           // training: experts per token, at least
  Index k = 1;               // inference: the k best
  double noise = 1;          // scale of the Gumbel noise, in training; 0: none
  double load_balance = 0;   // coefficient, see router/balance/load_balance.hpp
  NonFinite non_finite = NonFinite::throw_;
};

/// Weights are the softmax of the (in training: noisy) logits over the call's temperature
/// (CallOptions::temperature), as they are. The paper's falls from 2 to 0.3 in training; inference goes on
/// with the last one.
template <class Real>
using DenseToSparseRouter = TokenChoice<GumbelScorer<LinearScorer<Real>>, Softmax, ThresholdSelection,
                                        GatherWeighting, Balancing<LoadBalance>>;

/// Throws config_error for sizes or a k that do not fit, or a noise below 0.
template <class Real>
DenseToSparseRouter<Real> dense_to_sparse_router(const DenseToSparseOptions& options) {
  require_range("experts per token in inference", options.k, 1, INT32_MAX);
  return {
      GumbelScorer<LinearScorer<Real>>(
          LinearScorer<Real>({.width = options.width, .outputs = options.experts}), options.noise),
      Softmax{},
      ThresholdSelection({.threshold = options.threshold, .least = options.least, .inference_k = options.k}),
      GatherWeighting{},
      Balancing<LoadBalance>(LoadBalance({.coefficient = options.load_balance})),
      options.non_finite};
}

MOE_NAMESPACE_END
