// Routes that no longer move once they are learned: in a second stage of training every token id keeps its
// expert. StableMoE, Dai et al. 2204.08396.
#pragma once

#include "moe/router/balance/distillation.hpp"
#include "moe/router/balance/first_stage.hpp"
#include "moe/router/balance/overload.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/sigmoid.hpp"
#include "moe/router/scorer/distilled.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

struct StableOptions {
  Index width = 0;          // D
  Index experts = 0;        // E
  Index vocabulary = 0;     // V
  Index embedding = 50;     // columns of the distilled router's table
  Index first_stage = 0;    // steps; the paper: about a tenth of training
  double overload = 0.3;    // coefficient, see router/balance/overload.hpp
  double distillation = 1;  // coefficient, see router/balance/distillation.hpp
  NonFinite non_finite = NonFinite::throw_;
};

/// One expert per token, weighed by the sigmoid of its logit in both stages: with the caller's residual this
/// is the paper's s E(x) + (1 - s) x for experts E that add to x. Its capacity, in the first stage only, is a
/// FixedCapacity of the layer.
template <class Real>
using StableRouter = TokenChoice<DistilledScorer<Real>, SigmoidScore, TopKSelection, GatherWeighting,
                                 Balancing<FirstStage<OverloadLoss>, RouteDistillation>>;

/// Throws config_error for sizes that do not fit.
template <class Real>
StableRouter<Real> stable_router(const StableOptions& o) {
  return {DistilledScorer<Real>({.width = o.width,
                                 .outputs = o.experts,
                                 .vocabulary = o.vocabulary,
                                 .embedding = o.embedding,
                                 .first_stage = o.first_stage}),
          SigmoidScore{},
          TopKSelection(1),
          GatherWeighting{},
          Balancing<FirstStage<OverloadLoss>, RouteDistillation>(
              FirstStage<OverloadLoss>(OverloadLoss({.coefficient = o.overload})),
              RouteDistillation({.coefficient = o.distillation})),
          o.non_finite};
}

MOE_NAMESPACE_END
