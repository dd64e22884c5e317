// How wide an expert a token needs: one of several nested widths, by a small network. Flextron, Cai et al.
// 2406.10260.
#pragma once

#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/gumbel.hpp"
#include "moe/router/scorer/two_layer.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/unit.hpp"

MOE_NAMESPACE_BEGIN

struct FlextronRouterOptions {
  Index width = 0;    // D
  Index experts = 0;  // E nested widths
  Index hidden = 0;   // H of the router's network
  double noise = 1;   // scale of the Gumbel noise, in training; 0: none
  NonFinite non_finite = NonFinite::throw_;
};

/// The one width of the greatest logit (in training: with Gumbel noise, over the call's temperature), weight
/// 1, so that the widest is the dense layer. The task's gradient does not reach a choice of weight 1: the
/// paper learns from a surrogate model, which predicts the loss from the logits, and its gradient, with that
/// of a target for the latency, comes in by LayerGradients::dlogit.
template <class Real>
using FlextronRouter =
    TokenChoice<GumbelScorer<TwoLayerScorer<Real>>, Softmax, TopKSelection, UnitWeighting, Balancing<>>;

/// Throws config_error for sizes below 1 or a noise below 0.
template <class Real>
FlextronRouter<Real> flextron_router(const FlextronRouterOptions& options) {
  return {
      GumbelScorer<TwoLayerScorer<Real>>(
          TwoLayerScorer<Real>(
              {.width = options.width, .hidden = options.hidden, .outputs = options.experts, .bias = true}),
          options.noise),
      Softmax{},
      TopKSelection(1),
      UnitWeighting{},
      Balancing<>{},
      options.non_finite};
}

MOE_NAMESPACE_END
