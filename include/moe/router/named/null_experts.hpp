// Null experts: m further router outputs that stand for no expert, so that easy tokens use fewer experts at a
// fixed k. AdaMoE, Zeng et al. 2406.13233.
#pragma once

#include "moe/router/balance/load_balance.hpp"
#include "moe/router/balance/z.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/leading.hpp"

MOE_NAMESPACE_BEGIN

struct NullExpertOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index nulls = 0;    // m >= 1; E k / (E + m) experts per token when balanced
  Index k = 4;        // choices per token, nulls included
  double load_balance =
      1e-3;           // coefficient; all nulls share their mean load, see router/balance/load_balance.hpp
  double z_loss = 0;  // coefficient, see router/balance/z.hpp
  NonFinite non_finite = NonFinite::throw_;
};

/// softmax over E + m outputs, the k best, probabilities of the experts among them divided by their sum.
/// Nulls have the ids from E on; they are counted as elided and never reach a bank. A token with nulls only
/// has a zero result. The task's gradient does not reach the nulls, whose probability cancels: the load
/// balance drives their use.
template <class Real>
using NullExpertRouter =
    TokenChoice<LinearScorer<Real>, Softmax, TopKSelection, LeadingWeighting, Balancing<LoadBalance, ZLoss>>;

/// Throws config_error for sizes or a k that do not fit.
template <class Real>
NullExpertRouter<Real> null_expert_router(const NullExpertOptions& options) {
  require_range("experts", options.experts, 1, INT32_MAX / 2);
  require_range("null experts", options.nulls, 1, INT32_MAX / 2);
  return {
      LinearScorer<Real>({.width = options.width, .outputs = options.experts + options.nulls}),
      Softmax{},
      TopKSelection(options.k),
      LeadingWeighting({.leading = options.experts, .elide_rest = true}),
      Balancing<LoadBalance, ZLoss>(
          LoadBalance({.coefficient = options.load_balance, .nulls = options.nulls}), ZLoss(options.z_loss)),
      options.non_finite};
}

MOE_NAMESPACE_END
