// Top-k routing by random weights that are never trained, with a K that grows in training and may be any in
// inference: SMoE-Dropout, Chen et al. 2303.01610.
#pragma once

#include <cstdint>

#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/identity.hpp"
#include "moe/router/scorer/frozen.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/softmax.hpp"

MOE_NAMESPACE_BEGIN

struct FrozenTopKOptions {
  Index width = 0;         // D
  Index experts = 0;       // E
  Index k = 1;             // of calls that say none (CallOptions::experts_per_token)
  std::uint64_t seed = 0;  // of the weights
  NonFinite non_finite = NonFinite::throw_;
};

/// Weights are a softmax over the kept logits.
template <class Real>
using FrozenTopK =
    TokenChoice<FrozenScorer<LinearScorer<Real>>, IdentityScore, TopKSelection, SoftmaxWeighting>;

/// Throws config_error for sizes or a k that do not fit.
template <class Real>
FrozenTopK<Real> frozen_top_k(const FrozenTopKOptions& options) {
  LinearScorer<Real> scorer({.width = options.width, .outputs = options.experts});
  scorer.initialise(options.seed);
  return {FrozenScorer<LinearScorer<Real>>(std::move(scorer)),
          IdentityScore{},
          TopKSelection(options.k),
          SoftmaxWeighting{},
          Balancing<>{},
          options.non_finite};
}

MOE_NAMESPACE_END
