// Experts that modulate what one shared block makes of a row, and share the feed-forward layer behind them:
// MoFME, Zhang et al. 2312.16610.
#pragma once

#include "moe/expert/bank/film.hpp"
#include "moe/layer/frame/feed_forward.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/layer/shared/none.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "moe/router/named/uncertain.hpp"

MOE_NAMESPACE_BEGIN

struct MofmeOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index hidden = 0;   // F of the shared layer behind the experts
  Index k = 2;
  bool base = true;      // the shared gated layer in front of them
  double dropout = 0.1;  // see UncertainScorerOptions
  Index passes = 8;
  double load_balance = 0;  // coefficient
  NonFinite non_finite = NonFinite::throw_;
};

/// y = FFN(sum of w_e ((Gamma_e h + g_e) * h + B_e h + b_e)), h = gelu(V1 x + c1) * (V2 x + c2), or x without
/// a base. The released code norms the rows that the base reads and not those of its router, and adds x: the
/// caller's LayerInput::router_x and residual.
template <class Real>
using Mofme = MoeLayer<UncertainRouter<Real>, FilmExperts<Real>, Dropless, NoShared, FeedForwardFrame<Real>>;

/// Zero weights. Throws config_error for what is out of range.
template <class Real>
Mofme<Real> mofme(const MofmeOptions& options) {
  return {uncertain_router<Real>({.width = options.width,
                                  .experts = options.experts,
                                  .k = options.k,
                                  .dropout = options.dropout,
                                  .passes = options.passes,
                                  .load_balance = options.load_balance,
                                  .non_finite = options.non_finite}),
          FilmExperts<Real>({.experts = options.experts, .width = options.width}), Dropless{}, NoShared{},
          FeedForwardFrame<Real>({.width = options.width, .hidden = options.hidden, .base = options.base})};
}

MOE_NAMESPACE_END
