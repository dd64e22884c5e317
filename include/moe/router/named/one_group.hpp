// A row's experts all in one group (on one device), the group of largest probability, by one softmax over all
// experts: SAM, Jiang et al. 2110.07431, as in Hetu. With a router for groups and one within:
// router/named/bi_level.hpp.
#pragma once

#include "moe/router/balance/group_alignment.hpp"
#include "moe/router/balance/load_balance.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/group_limited.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

struct OneGroupOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index groups = 1;   // equal blocks of ids, 256 at most; 1: SoftmaxTopK
  Index k = 2;
  double load_balance = 0.01;  // coefficient, see router/balance/load_balance.hpp
  double alignment = 0.01;     // coefficient, see router/balance/group_alignment.hpp
  NonFinite non_finite = NonFinite::throw_;
};

/// Weights are the probabilities, not normalised.
template <class Real>
using OneGroupRouter = TokenChoice<LinearScorer<Real>, Softmax, GroupLimitedSelection, GatherWeighting,
                                   Balancing<LoadBalance, GroupAlignment>>;

/// Throws config_error for sizes, groups or a k that do not fit.
template <class Real>
OneGroupRouter<Real> one_group_router(const OneGroupOptions& options) {
  return {
      LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
      Softmax{},
      GroupLimitedSelection({.k = options.k, .groups = options.groups, .kept = 1, .score = GroupScore::sum}),
      GatherWeighting{},
      Balancing<LoadBalance, GroupAlignment>(
          LoadBalance({.coefficient = options.load_balance}),
          GroupAlignment({.coefficient = options.alignment, .groups = options.groups})),
      options.non_finite};
}

MOE_NAMESPACE_END
