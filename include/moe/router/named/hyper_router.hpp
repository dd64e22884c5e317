// A router that trains one embedding; a frozen network makes its weights. HyperRouter, Do et al. 2312.07035.
#pragma once

#include "moe/router/balance/load_balance.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/identity.hpp"
#include "moe/router/scorer/hyper.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/softmax.hpp"

MOE_NAMESPACE_BEGIN

struct HyperRouterOptions {
  Index width = 0;          // D
  Index experts = 0;        // E
  Index hidden = 256;       // H of the frozen network
  Index k = 2;              // the paper trains with a K that grows: CallOptions::experts_per_token
  std::uint64_t seed = 0;   // of the frozen network
  double load_balance = 0;  // coefficient, see router/balance/load_balance.hpp
  NonFinite non_finite = NonFinite::throw_;
};

/// The k best logits, softmax over them.
template <class Real>
using HyperRouter =
    TokenChoice<HyperScorer<Real>, IdentityScore, TopKSelection, SoftmaxWeighting, Balancing<LoadBalance>>;

/// Throws config_error for sizes or a k that do not fit.
template <class Real>
HyperRouter<Real> hyper_router(const HyperRouterOptions& o) {
  return {HyperScorer<Real>({.width = o.width, .hidden = o.hidden, .outputs = o.experts, .seed = o.seed}),
          IdentityScore{},
          TopKSelection(o.k),
          SoftmaxWeighting{},
          Balancing<LoadBalance>(LoadBalance({.coefficient = o.load_balance})),
          o.non_finite};
}

MOE_NAMESPACE_END
