// Softmax top-k among the experts that a token's vocabulary id may see. MaskMoE, Su et al. 2407.09816.
#pragma once

#include <utility>

#include "moe/router/named/top_k.hpp"
#include "moe/router/scorer/masked.hpp"
#include "moe/router/scorer/token_mask.hpp"

MOE_NAMESPACE_BEGIN

/// The softmax, its losses and its choice are over the experts that the token sees. A token that sees one has
/// weight 1, and its expert is a function of its id; the paper's shared expert is the layer's.
template <class Real>
using TokenMaskedRouter = TokenChoice<MaskedScorer<LinearScorer<Real>, TokenMask>, Softmax, TopKSelection,
                                      GatherWeighting, Balancing<LoadBalance, ZLoss>>;

/// `options` as of softmax_top_k; the paper chooses k = 1 with the raw probability. Throws config_error for
/// sizes or a k that do not fit, shape_error for a mask of another number of experts.
template <class Real>
TokenMaskedRouter<Real> token_masked_router(const TopKOptions& options, TokenMask mask) {
  return {MaskedScorer<LinearScorer<Real>, TokenMask>(LinearScorer<Real>(options.scorer()), std::move(mask)),
          Softmax{},
          TopKSelection(options.k),
          GatherWeighting(options.weights),
          options.balancing(),
          options.non_finite};
}

MOE_NAMESPACE_END
