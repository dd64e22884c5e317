// Experts of different kinds behind one gate: a recurrent one and a feed-forward one. Hecto, Pandey et al.
// 2506.22919.
#pragma once

#include "moe/expert/bank/composite.hpp"
#include "moe/expert/bank/gru.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/balance/entropy.hpp"
#include "moe/router/balance/load_balance.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

struct HectoOptions {
  Index width = 0;      // D
  Index recurrent = 1;  // GRU experts, the first ids
  Index feed_forward = 1;
  Index hidden = 0;            // F of the feed-forward ones
  double load_balance = 0.01;  // coefficient, see router/balance/load_balance.hpp
  double entropy = 0;          // coefficient of the rows' entropies; below 0 they are made large
  NonFinite non_finite = NonFinite::throw_;
};

template <class Real>
using HectoRouter = TokenChoice<LinearScorer<Real>, Softmax, TopKSelection, GatherWeighting,
                                Balancing<LoadBalance, EntropyLoss>>;

/// The one best expert, weighed by its probability, logits over CallOptions::temperature. A GRU expert makes
/// one step from the zero state, for the paper's experts get isolated rows: rows stay independent.
template <class Real>
using Hecto = MoeLayer<HectoRouter<Real>, Composite<GruExperts<Real>, Mlp<Relu, Real>>>;

/// Zero weights. Throws config_error for what is out of range.
template <class Real>
Hecto<Real> hecto(const HectoOptions& options) {
  Composite experts(
      GruExperts<Real>({.experts = options.recurrent, .width = options.width}),
      Mlp<Relu, Real>(
          {.experts = options.feed_forward, .width = options.width, .hidden = options.hidden, .bias = true}));
  return {HectoRouter<Real>(
              LinearScorer<Real>({.width = options.width, .outputs = experts.experts(), .bias = true}),
              Softmax{}, TopKSelection(1), GatherWeighting{},
              Balancing<LoadBalance, EntropyLoss>(LoadBalance({.coefficient = options.load_balance}),
                                                  EntropyLoss({.coefficient = options.entropy})),
              options.non_finite),
          std::move(experts)};
}

MOE_NAMESPACE_END
