// Softmax over the top k of logits that were mixed over the rows of a segment: by their similarity, or by the
// attention before the layer. Graph of tokens, Nguyen et al. 2505.00792.
#pragma once

#include "moe/router/balance/load_balance.hpp"
#include "moe/router/balance/z.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/named/top_k.hpp"
#include "moe/router/score/identity.hpp"
#include "moe/router/scorer/attention_weights.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/scorer/row_mixer.hpp"
#include "moe/router/scorer/similarity_weights.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/softmax.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {
template <class Weights>
using MixedTopK = TokenChoice<RowMixer<LinearScorer<typename Weights::Real>, Weights>, IdentityScore,
                              TopKSelection, SoftmaxWeighting, Balancing<LoadBalance, ZLoss>>;
}  // namespace impl

/// TopKSoftmax (router/named/top_k.hpp) of logits that each row mixes by softmax(<W x_t, x_j> / tau).
template <class Real>
using SimilarityAware = impl::MixedTopK<SimilarityWeights<Real>>;

struct SimilarityAwareOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index k = 2;
  double temperature = 1;      // tau
  bool causal = false;         // a row sees none behind it
  double load_balance = 0.01;  // coefficient, see router/balance/load_balance.hpp
  double z_loss = 0;           // coefficient, see router/balance/z.hpp
  NonFinite non_finite = NonFinite::throw_;
};

/// Throws config_error for sizes, a k or a temperature that do not fit.
template <class Real>
SimilarityAware<Real> similarity_aware(const SimilarityAwareOptions& o) {
  return {RowMixer<LinearScorer<Real>, SimilarityWeights<Real>>(
              LinearScorer<Real>({.width = o.width, .outputs = o.experts}),
              SimilarityWeights<Real>({.width = o.width, .temperature = o.temperature, .causal = o.causal})),
          IdentityScore{},
          TopKSelection(o.k),
          SoftmaxWeighting{},
          Balancing<LoadBalance, ZLoss>(LoadBalance({.coefficient = o.load_balance}), ZLoss(o.z_loss)),
          o.non_finite};
}

/// TopKSoftmax of logits that each row mixes by the column `mixing` of the call.
template <class Real>
using AttentionAware = impl::MixedTopK<AttentionWeights<Real>>;

/// `options` as of top_k_softmax. Throws config_error for sizes or a k that do not fit.
template <class Real>
AttentionAware<Real> attention_aware(const TopKOptions& options) {
  return {RowMixer<LinearScorer<Real>, AttentionWeights<Real>>(LinearScorer<Real>(options.scorer()), {}),
          IdentityScore{},
          TopKSelection(options.k),
          SoftmaxWeighting{},
          options.balancing(),
          options.non_finite};
}

MOE_NAMESPACE_END
