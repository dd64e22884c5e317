// Noisy top-k gating, the first sparsely gated layer: the k highest noisy logits, softmax over them, balanced
// by the importance and load losses. Shazeer et al. 1701.06538 section 2.1, appendix A.
#pragma once

#include "moe/router/balance/importance.hpp"
#include "moe/router/balance/load.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/identity.hpp"
#include "moe/router/scorer/noisy.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/softmax.hpp"

MOE_NAMESPACE_BEGIN

struct NoisyTopKOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index k = 4;
  double importance = 0.1;  // coefficient, see router/balance/importance.hpp
  double load = 0.1;        // coefficient, see router/balance/load.hpp
  NonFinite non_finite = NonFinite::throw_;
};

/// Without noise, that is in inference, the route of TopKSoftmax (router/named/top_k.hpp).
template <class Real>
using NoisyTopK = TokenChoice<NoisyScorer<Real>, IdentityScore, TopKSelection, SoftmaxWeighting,
                              Balancing<ImportanceLoss, LoadLoss>>;

/// Throws config_error for sizes or a k that do not fit.
template <class Real>
NoisyTopK<Real> noisy_top_k(const NoisyTopKOptions& options) {
  return {NoisyScorer<Real>({options.width, options.experts}),
          IdentityScore{},
          TopKSelection(options.k),
          SoftmaxWeighting{},
          Balancing<ImportanceLoss, LoadLoss>(ImportanceLoss(options.importance), LoadLoss(options.load)),
          options.non_finite};
}

MOE_NAMESPACE_END
