// The router of V-MoE: top-k of a noisy softmax, balanced by importance and load. Riquelme et al. 2106.05974.
#pragma once

#include "moe/core/check.hpp"
#include "moe/router/balance/load.hpp"
#include "moe/router/balance/share_importance.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/fixed_noise.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

struct VMoeOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index k = 2;
  double noise = 1;           // over E: the standard deviation of the logits' noise, in training
  double importance = 0.005;  // coefficient, see router/balance/share_importance.hpp; the paper's 0.01 / 2
  double load = 0.005;        // coefficient, see router/balance/load.hpp; off without noise
  NonFinite non_finite = NonFinite::throw_;
};

/// softmax of the noisy logits over all experts, the k best, their noisy probabilities as weights as they
/// are. Its capacity, batch-priority routing, is a FixedCapacity with best_rows_first
/// (moe/plan/capacity/fixed.hpp).
template <class Real>
using VMoeRouter = TokenChoice<FixedNoise<LinearScorer<Real>>, Softmax, TopKSelection, GatherWeighting,
                               Balancing<ShareImportance, LoadLoss>>;

/// Throws config_error for sizes or a k that do not fit, or noise below 0 or not finite.
template <class Real>
VMoeRouter<Real> v_moe_router(const VMoeOptions& options) {
  require_range("experts", options.experts, 1, INT32_MAX);
  const double load = options.noise == 0 ? 0 : options.load;
  return {
      FixedNoise<LinearScorer<Real>>(LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
                                     options.noise / static_cast<double>(options.experts)),
      Softmax{},
      TopKSelection(options.k),
      GatherWeighting{},
      Balancing<ShareImportance, LoadLoss>(
          ShareImportance({.coefficient = options.importance}),
          LoadLoss({.coefficient = load, .above = LoadThreshold::last_chosen})),
      options.non_finite};
}

MOE_NAMESPACE_END
