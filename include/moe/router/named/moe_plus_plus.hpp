// MoE++: a softmax top-k over feed-forward experts and experts that cost next to nothing (constant, copy,
// zero), all with ordinary ids, balanced in favour of the cheap ones, with or without the logits of the layer
// below. Jin et al. 2410.07348. For a composite bank (moe/expert/bank/composite.hpp) in the order of the ids.
#pragma once

#include "moe/core/check.hpp"
#include "moe/router/balance/load_balance.hpp"
#include "moe/router/balance/z.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/gating_residual.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/moe_plus_plus.hpp"

MOE_NAMESPACE_BEGIN

struct MoePlusPlusOptions {
  Index width = 0;      // D
  Index ffn = 0;        // feed-forward experts: ids from 0
  Index constants = 0;  // then constant experts; the paper takes max(ffn / 4 - 2, 1)
  Index copies = 1;     // then copy experts
  Index zeros = 1;      // then zero experts
  Index k = 2;
  bool residual = false;       // of the gating: logits are handed on, and those handed on taken over
  double tau = 0.75;           // eta of the cheap experts in the loss: smaller sends them more tokens
  double load_balance = 0.01;  // coefficient, see router/balance/load_balance.hpp: E / k times the paper's
  double z_loss = 0;           // coefficient, see router/balance/z.hpp
  MoePlusPlusWeights weights = MoePlusPlusWeights::probability;
  NonFinite non_finite = NonFinite::throw_;
};

/// E = ffn + constants + copies + zeros.
template <class Real>
using MoePlusPlusRouter = TokenChoice<GatingResidual<LinearScorer<Real>>, Softmax, TopKSelection,
                                      MoePlusPlusWeighting, Balancing<LoadBalance, ZLoss>>;

/// Throws config_error for counts, sizes or a k that do not fit, or a tau that is not positive and finite.
template <class Real>
MoePlusPlusRouter<Real> moe_plus_plus_router(const MoePlusPlusOptions& options) {
  constexpr Index kMost = INT32_MAX / 4;
  require_range("feed-forward experts", options.ffn, 1, kMost);
  require_range("constant experts", options.constants, 0, kMost);
  require_range("copy experts", options.copies, 0, kMost);
  require_range("zero experts", options.zeros, 0, kMost);
  if (!(options.tau > 0 && options.tau <= 1e9)) {
    fail<config_error>("tau: expected a finite value > 0, got ", options.tau);
  }
  const Index first_zero = options.ffn + options.constants + options.copies;
  const Index experts = first_zero + options.zeros;
  Buffer<double> eta(experts);
  for (Index e = 0; e < experts; ++e) eta[e] = e < options.ffn ? 1.0 : options.tau;
  return {GatingResidual<LinearScorer<Real>>(LinearScorer<Real>({.width = options.width, .outputs = experts}),
                                             options.residual),
          Softmax{},
          TopKSelection(options.k),
          MoePlusPlusWeighting({.weights = options.weights, .first_zero = first_zero}),
          Balancing<LoadBalance, ZLoss>(LoadBalance({.coefficient = options.load_balance}, std::move(eta)),
                                        ZLoss(options.z_loss)),
          options.non_finite};
}

MOE_NAMESPACE_END
