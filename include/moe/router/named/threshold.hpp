// Threshold routing: every expert whose probability is above a threshold, one at least. DynaMoE 2603.01697.
// How many experts its layers have: router/layer_schedule.hpp.
#pragma once

#include "moe/router/balance/load_balance.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/threshold.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

struct ThresholdOptions {
  Index width = 0;             // D
  Index experts = 0;           // E
  double threshold = 0.1;      // of the probabilities; 0: every expert, 1: the best alone
  double load_balance = 0.01;  // coefficient, see router/balance/load_balance.hpp
  GatherWeighting::Options weights{.normalise = Normalise::sum};
  NonFinite non_finite = NonFinite::throw_;
};

/// 1 to E experts per token. The same in training and inference.
template <class Real>
using ThresholdRouter =
    TokenChoice<LinearScorer<Real>, Softmax, ThresholdSelection, GatherWeighting, Balancing<LoadBalance>>;

/// Throws config_error for sizes that do not fit or a threshold outside [0, 1].
template <class Real>
ThresholdRouter<Real> threshold_router(const ThresholdOptions& options) {
  if (!(options.threshold >= 0 && options.threshold <= 1)) {
    fail<config_error>("threshold: expected a probability, got ", options.threshold);
  }
  return {LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
          Softmax{},
          ThresholdSelection({.threshold = options.threshold}),
          GatherWeighting(options.weights),
          Balancing<LoadBalance>(LoadBalance({.coefficient = options.load_balance})),
          options.non_finite};
}

MOE_NAMESPACE_END
