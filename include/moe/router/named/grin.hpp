// Sampled experts with GRIN's gradient, SparseMixer-v2: Liu et al. 2409.12136. Inference is Phi-3.5-MoE's.
#pragma once

#include "moe/router/balance/load_balance.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/identity.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/sparse_mixer.hpp"
#include "moe/router/weighting/grin.hpp"

MOE_NAMESPACE_BEGIN

struct GrinOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index k = 2;
  double eps = 0.01;           // which logits are near the best, router/near_best.hpp
  double load_balance = 0.01;  // coefficient, see router/balance/load_balance.hpp; over the softmax of all
  NonFinite non_finite = NonFinite::throw_;
};

/// See SparseMixerSelection and GrinWeighting. Weights of a row are not normalised together.
template <class Real>
using GrinRouter = TokenChoice<LinearScorer<Real>, IdentityScore, SparseMixerSelection, GrinWeighting,
                               Balancing<LoadBalance>>;

/// Throws config_error for sizes or a k that do not fit, or an eps below 0 or not finite.
template <class Real>
GrinRouter<Real> grin_router(const GrinOptions& options) {
  return {LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
          IdentityScore{},
          SparseMixerSelection({.k = options.k, .eps = options.eps}),
          GrinWeighting({.eps = options.eps}),
          Balancing<LoadBalance>(LoadBalance({.coefficient = options.load_balance})),
          options.non_finite};
}

MOE_NAMESPACE_END
