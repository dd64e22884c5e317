// Patch-level routing: every expert takes its l best rows (patches) of a segment (image). Chowdhury et al.
// 2306.04073, "Patch-level routing in mixture-of-experts is provably sample-efficient for convolutional
// neural networks".
#pragma once

#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/identity.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/column_top_k.hpp"
#include "moe/router/weighting/column_share.hpp"

MOE_NAMESPACE_BEGIN

struct PatchRouterOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index patches = 1;  // l of every expert; all of a segment that has fewer
  bool joint = true;  // router and experts are trained together: softmax of the chosen; else weights of 1
  NonFinite non_finite = NonFinite::throw_;
};

/// Expert s takes the l rows of a segment of highest <w_s, x_j>, each with weight G / l: G the softmax of
/// their logits, or 1 for a router that was trained before the experts, which then gets no gradient. The
/// paper's result of an image is the sum over its rows. A row may be taken by no expert.
template <class Real>
using PatchRouter = TokenChoice<LinearScorer<Real>, IdentityScore, ColumnTopK, ColumnShare>;

/// Throws config_error for sizes or patches below 1.
template <class Real>
PatchRouter<Real> patch_router(const PatchRouterOptions& options) {
  require_range("patches", options.patches, 1, INT32_MAX);
  return {LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
          IdentityScore{},
          ColumnTopK({.rows = options.patches, .positive = false}),
          ColumnShare({.softmax = options.joint}),
          Balancing<>{},
          options.non_finite};
}

MOE_NAMESPACE_END
