// Choices that are sampled, equal weights, and a router that learns from rewards alone: ReMix. The gradient
// of M samples of one batch is that of train/rloo.hpp.
#pragma once

#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/plackett_luce.hpp"
#include "moe/router/weighting/equal.hpp"

MOE_NAMESPACE_BEGIN

struct RemixOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index k = 2;
  NonFinite non_finite = NonFinite::throw_;
};

/// Training: k experts in the order in which they are drawn without replacement from softmax(W x); inference:
/// the k most probable. Each weighs 1 / k and hands the router no gradient: it learns from the `advantage` of
/// a backward, cost minus baseline of every row, through ln Q of the ordered draw.
template <class Real>
using RemixRouter = TokenChoice<LinearScorer<Real>, Softmax, PlackettLuce, EqualWeighting>;

/// Throws config_error for sizes or a k that do not fit.
template <class Real>
RemixRouter<Real> remix_router(const RemixOptions& options) {
  return {LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
          Softmax{},
          PlackettLuce({.k = options.k}),
          EqualWeighting{},
          {},
          options.non_finite};
}

MOE_NAMESPACE_END
