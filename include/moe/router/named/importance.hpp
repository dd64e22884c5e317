// More experts for rows that matter more, by an importance that the caller tells: DA-MoE, Akhavan Aghdam et
// al. 2409.06669, which takes it from the attention that the row receives.
#pragma once

#include "moe/router/balance/load_balance.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/importance_top_k.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

struct ImportanceTopKOptions {
  Index width = 0;             // D
  Index experts = 0;           // E
  Index k_max = 2;             // experts of the most important rows
  Index column = 0;            // of LayerInput::features: the importance, in (0, 1]
  double load_balance = 0.01;  // coefficient, see router/balance/load_balance.hpp
  GatherWeighting::Options weights{};
  NonFinite non_finite = NonFinite::throw_;
};

/// 1 to k_max experts per token, by default weighed by their probabilities as they are.
template <class Real>
using ImportanceRouter =
    TokenChoice<LinearScorer<Real>, Softmax, ImportanceTopK, GatherWeighting, Balancing<LoadBalance>>;

/// Throws config_error for sizes or a k_max that do not fit.
template <class Real>
ImportanceRouter<Real> importance_router(const ImportanceTopKOptions& options) {
  return {LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
          Softmax{},
          ImportanceTopK({.k_max = options.k_max, .column = options.column}),
          GatherWeighting(options.weights),
          Balancing<LoadBalance>(LoadBalance({.coefficient = options.load_balance})),
          options.non_finite};
}

MOE_NAMESPACE_END
