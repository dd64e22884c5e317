// Rows whose router is uncertain go to every expert, the others to a few: around a top-p in training and
// inference (DynMoLE, Li et al. 2504.00661), or around a top-k in fine-tuning alone (GW-MoE, Wu et al.
// 2406.12375).
#pragma once

#include "moe/router/balance/entropy.hpp"
#include "moe/router/balance/load_balance.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/identity.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/broadcast.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/selection/top_p.hpp"
#include "moe/router/weighting/gather.hpp"
#include "moe/router/weighting/softmax.hpp"

MOE_NAMESPACE_BEGIN

/// Defaults of DynMoLE's code.
struct BroadcastTopPOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  double p = 0.75;
  Index least = 2;             // experts of a row that is not broadcast, at least
  double order = 1.1;          // q of the Tsallis entropy
  double threshold = 0.9;      // of the entropy, as a fraction of the largest; 1: nothing is broadcast
  double entropy = 1e-2;       // coefficient of the entropy, as a fraction of the largest
  double load_balance = 1e-3;  // coefficient, see router/balance/load_balance.hpp
  NonFinite non_finite = NonFinite::throw_;
};

/// Weights are the probabilities, not normalised.
template <class Real>
using BroadcastTopP = TokenChoice<LinearScorer<Real>, Softmax, BroadcastUncertain<TopPSelection>,
                                  GatherWeighting, Balancing<LoadBalance, EntropyLoss>>;

/// Throws config_error for sizes that do not fit, a p outside (0, 1] or an order outside (0, 100].
template <class Real>
BroadcastTopP<Real> broadcast_top_p(const BroadcastTopPOptions& options) {
  return {LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
          Softmax{},
          BroadcastUncertain<TopPSelection>(
              TopPSelection({.p = options.p, .rule = MassRule::within, .least = options.least}),
              {.threshold = options.threshold, .order = options.order}),
          GatherWeighting{},
          Balancing<LoadBalance, EntropyLoss>(
              LoadBalance({.coefficient = options.load_balance}),
              EntropyLoss({.coefficient = options.entropy, .order = options.order, .fraction = true})),
          options.non_finite};
}

/// Defaults of GW-MoE's scripts for 8 experts.
struct BroadcastTopKOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index k = 2;
  double threshold = 1.8;      // nats of entropy; ln E and more: nothing is broadcast
  double load_balance = 0.01;  // coefficient, see router/balance/load_balance.hpp
  NonFinite non_finite = NonFinite::throw_;
};

/// Inference, and rows that are sure: the route of TopKSoftmax (router/named/top_k.hpp). Else, in training,
/// all experts by their probabilities.
template <class Real>
using BroadcastTopK = TokenChoice<LinearScorer<Real>, IdentityScore, BroadcastUncertain<TopKSelection>,
                                  SoftmaxWeighting, Balancing<LoadBalance>>;

/// Throws config_error for sizes or a k that do not fit, or a threshold below 0.
template <class Real>
BroadcastTopK<Real> broadcast_top_k(const BroadcastTopKOptions& options) {
  return {LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
          IdentityScore{},
          BroadcastUncertain<TopKSelection>(
              TopKSelection(options.k),
              {.threshold = options.threshold, .fraction = false, .training_only = true}),
          SoftmaxWeighting{},
          Balancing<LoadBalance>(LoadBalance({.coefficient = options.load_balance})),
          options.non_finite};
}

MOE_NAMESPACE_END
