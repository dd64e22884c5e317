// UniPool: routers of several layers over one pool of experts; gates are normed positive logits as they are,
// and what all layers choose together is balanced. The layers refer to the pool,
// MoeLayer<UniPoolRouter<Real>, Bank&>, and their backwards add to one gradient of it. UniPool and
// UniPool-lock, Huang et al. 2605.06665.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "moe/core/check.hpp"
#include "moe/core/column.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/router/balance/pool_balance.hpp"
#include "moe/router/balance/pool_lock.hpp"
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
  double own = 0;              // experts that the layer is drawn to; 0: experts / layers, at least 1
  double cardinality = 0;      // coefficient of that, see router/balance/pool_lock.hpp
  NonFinite non_finite = NonFinite::throw_;
};

/// The k best norm scores, as weights: an expert whose logit is not positive has weight 0.
template <class Real>
using UniPoolRouter = TokenChoice<LinearScorer<Real>, NormScore<Real>, TopKSelection, GatherWeighting,
                                  Balancing<PoolBalance, PoolLock>>;

/// Every layer has one of its own; after a step on_step_end takes the counts of all layers, from a layer
/// around them those without RouteStats::layers. Throws config_error for sizes, a k or options that do not
/// fit.
template <class Real>
UniPoolRouter<Real> unipool_router(const UniPoolOptions& options) {
  if (!(options.scale >= 0 && is_finite(options.scale))) {
    fail<config_error>("norm score scale: expected a finite value >= 0, got ", options.scale);
  }
  LinearScorer<Real> scorer({.width = options.width, .outputs = options.experts});
  require_range("layers of a pool", options.layers, 1, INT32_MAX);
  const double own = options.own != 0
                         ? options.own
                         : static_cast<double>((std::max)(Index{1}, options.experts / options.layers));
  const double scale = options.scale > 0 ? options.scale : norm_score_scale(options.experts, options.k);
  NormScore<Real> score({.scale = scale, .eps = options.eps});
  score.set_factor(std::vector<bool>(static_cast<std::size_t>(options.experts), true), 1);
  return {std::move(scorer),
          std::move(score),
          TopKSelection(options.k),
          GatherWeighting{},
          Balancing<PoolBalance, PoolLock>(PoolBalance({.outputs = options.experts,
                                                        .layers = options.layers,
                                                        .coefficient = options.pool_balance}),
                                           PoolLock({.outputs = options.experts,
                                                     .layers = options.layers,
                                                     .own = own,
                                                     .coefficient = options.cardinality})),
          options.non_finite};
}

/// UniPool-lock: the scores of experts that are not the layer's `own` [N] (analysis/pool_owners.hpp) fade
/// with `fade`, from 1 to 0, say CosineSchedule{{1, 0, 1000}}.at(step); at 0 they are locked out: never
/// chosen again, though their logits still count in the norm. Throws shape_error, config_error for a fade
/// outside [0, 1] or no own expert.
template <class Real>
void lock_pool(UniPoolRouter<Real>& router, const Column<bool>& own, double fade) {
  require_extent("own", "entries", router.outputs(), static_cast<Index>(own.size()));
  PoolLock lock = router.balancing().template part<PoolLock>();
  lock.lock(fade == 0 ? own.borrow() : Column<bool>{});
  router.score().set_factor(own, fade);
  router.balancing().template part<PoolLock>() = std::move(lock);
}

MOE_NAMESPACE_END
