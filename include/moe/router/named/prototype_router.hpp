// Two steps: tokens without a condition go to experts of their own, the others to those whose prototypes are
// nearest. ProMoE, Wei et al. 2510.24711.
#pragma once

#include <span>

#include "moe/core/check.hpp"
#include "moe/router/balance/load_balance.hpp"
#include "moe/router/balance/prototype_contrast.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/sigmoid.hpp"
#include "moe/router/scorer/cosine.hpp"
#include "moe/router/scorer/masked.hpp"
#include "moe/router/scorer/task_mask.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

struct PrototypeRouterOptions {
  Index width = 0;          // D
  Index experts = 0;        // of tokens with a condition: ids from 0
  Index unconditional = 1;  // of tokens without: the ids behind them
  Index k = 1;              // a token without a condition gets fewer if there are not as many
  double tau = 0.07;        // of the cosines, trained
  double contrast = 0.1;    // coefficient, see router/balance/prototype_contrast.hpp
  double contrast_tau = 0.1;
  double load_balance = 0;  // coefficient, see router/balance/load_balance.hpp
  NonFinite non_finite = NonFinite::throw_;
};

/// Column `task`: 0 with a condition, 1 without. Each expert's sigmoid of cos(x, prototype) / tau, the k best
/// of the token's set, as weights. The abstract gives neither the gate nor the loss in formulas: they are our
/// reading.
template <class Real>
using PrototypeRouter = TokenChoice<MaskedScorer<CosineScorer<Real>, TaskMask>, SigmoidScore, TopKSelection,
                                    GatherWeighting, Balancing<PrototypeContrast, LoadBalance>>;

/// Throws config_error for sizes or a k that do not fit.
template <class Real>
PrototypeRouter<Real> prototype_router(const PrototypeRouterOptions& o) {
  require_range("experts", o.experts, 1, INT32_MAX / 2);
  require_range("unconditional experts", o.unconditional, 1, INT32_MAX / 2);
  require_range("experts per token", o.k, 1, o.experts);
  const Index sets[] = {o.experts, o.unconditional};
  return {MaskedScorer<CosineScorer<Real>, TaskMask>(
              CosineScorer<Real>(
                  {.width = o.width, .projected = 0, .outputs = o.experts + o.unconditional, .tau = o.tau}),
              TaskMask(sets)),
          SigmoidScore{},
          TopKSelection(o.k),
          GatherWeighting{},
          Balancing<PrototypeContrast, LoadBalance>(
              PrototypeContrast(
                  {.coefficient = o.contrast, .tau = o.contrast_tau, .width = o.width, .leading = o.experts}),
              LoadBalance({.coefficient = o.load_balance})),
          o.non_finite};
}

MOE_NAMESPACE_END
