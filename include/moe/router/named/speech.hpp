// One expert per frame, chosen with the help of embeddings of what is spoken and by whom. SpeechMoE2, You et
// al. 2111.11831.
#pragma once

#include "moe/router/balance/mean_importance.hpp"
#include "moe/router/balance/sparsity_l1.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

struct SpeechRouterOptions {
  Index width = 0;          // Dr: of LayerInput::router_x
  Index experts = 0;        // E
  double sparsity = 0.1;    // coefficient, see router/balance/sparsity_l1.hpp
  double importance = 0.1;  // coefficient, see router/balance/mean_importance.hpp
  NonFinite non_finite = NonFinite::throw_;
};

/// softmax over all experts, the best one, its probability as weight. The rows it reads are the frames and
/// the embeddings of domain, accent and graphemes beside each other, which the caller hands in as
/// LayerInput::router_x: with weights of 0 on the embeddings it is SpeechMoE's router on the frames.
template <class Real>
using SpeechRouter = TokenChoice<LinearScorer<Real>, Softmax, TopKSelection, GatherWeighting,
                                 Balancing<SparsityL1, MeanImportance>>;

/// Throws config_error for sizes that do not fit.
template <class Real>
SpeechRouter<Real> speech_router(const SpeechRouterOptions& options) {
  return {LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
          Softmax{},
          TopKSelection(1),
          GatherWeighting{},
          Balancing<SparsityL1, MeanImportance>(SparsityL1({.coefficient = options.sparsity}),
                                                MeanImportance({.coefficient = options.importance})),
          options.non_finite};
}

MOE_NAMESPACE_END
