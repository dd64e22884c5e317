// UniPool: routers of several layers over one pool of experts; gates are normed positive logits as they are,
// and what all layers choose together is balanced. The layers refer to the pool,
// MoeLayer<UniPoolRouter<Real>, Bank&>, and their backwards add to one gradient of it.
#pragma once

#include <utility>

#include "moe/core/check.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/router/balance/pool_balance.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/norm.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

struct UniPoolOptions {
  Index width = 0;    // D
  Index experts = 0;  // of the pool
  Index layers = 1;   // that share it
  Index k = 2;
  double scale = 0;            // s0 of the score; 0: norm_score_scale(experts, k)
  double eps = 1e-6;           // of the score
  double pool_balance = 0.01;  // coefficient, see router/balance/pool_balance.hpp
  NonFinite non_finite = NonFinite::throw_;
};

/// The k best norm scores, as weights: an expert whose logit is not positive has weight 0.
template <class Real>
using UniPoolRouter =
    TokenChoice<LinearScorer<Real>, NormScore<Real>, TopKSelection, GatherWeighting, Balancing<PoolBalance>>;

/// Every layer has one of its own; after a step on_step_end takes the counts of all layers, from a layer
/// around them those without RouteStats::layers. Throws config_error for sizes, a k or options that do not
/// fit.
template <class Real>
UniPoolRouter<Real> unipool_router(const UniPoolOptions& options) {
  if (!(options.scale >= 0 && is_finite(options.scale))) {
    fail<config_error>("norm score scale: expected a finite value >= 0, got ", options.scale);
  }
  LinearScorer<Real> scorer({.width = options.width, .outputs = options.experts});
  const double scale = options.scale > 0 ? options.scale : norm_score_scale(options.experts, options.k);
  return {std::move(scorer),
          NormScore<Real>({.scale = scale, .eps = options.eps}),
          TopKSelection(options.k),
          GatherWeighting{},
          Balancing<PoolBalance>(PoolBalance(
              {.outputs = options.experts, .layers = options.layers, .coefficient = options.pool_balance})),
          options.non_finite};
}

MOE_NAMESPACE_END
