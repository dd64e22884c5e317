// Several routers vote: the k best of a mixture of their probabilities. "Mixture of Routers", 2503.23362.
#pragma once

#include "moe/router/balance/load_balance.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/mixture.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

struct MixtureOfRoutersOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index routers = 2;  // n
  Index k = 2;
  double load_balance = 0.01;  // coefficient, of the mixture; see router/balance/load_balance.hpp
  NonFinite non_finite = NonFinite::throw_;
};

/// The k best of the mixed probabilities, divided by their sum. With one router the normalised softmax top-k.
template <class Real>
using MixtureOfRouters =
    TokenChoice<MixtureScorer<Real>, Softmax, TopKSelection, GatherWeighting, Balancing<LoadBalance>>;

/// Throws config_error for sizes or a k that do not fit.
template <class Real>
MixtureOfRouters<Real> mixture_of_routers(const MixtureOfRoutersOptions& options) {
  return {
      MixtureScorer<Real>({.width = options.width, .routers = options.routers, .outputs = options.experts}),
      Softmax{},
      TopKSelection(options.k),
      GatherWeighting({.normalise = Normalise::sum}),
      Balancing<LoadBalance>(LoadBalance({.coefficient = options.load_balance})),
      options.non_finite};
}

MOE_NAMESPACE_END
