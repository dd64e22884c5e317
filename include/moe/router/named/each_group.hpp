// Expert prototyping: the experts stand in Z groups (prototypes), each with a router of its own, and a row
// takes the best of every group. M6-T, Yang et al. 2105.15082 section 3.
#pragma once

#include "moe/router/balance/load_balance.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/group_softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/each_group.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

struct EachGroupOptions {
  Index width = 0;          // D
  Index experts = 0;        // E, of all groups
  Index groups = 2;         // Z, equal blocks of ids
  Index k = 1;              // of each group
  double load_balance = 0;  // coefficient of the mean of the groups' load balance losses; off in the paper
  NonFinite non_finite = NonFinite::throw_;
};

/// Z k experts per token, each weighed by its share of its group's softmax: the weights sum to Z at most. One
/// group: SwitchRouter.
template <class Real>
using EachGroupRouter = TokenChoice<LinearScorer<Real>, GroupSoftmax, EachGroupSelection, GatherWeighting,
                                    Balancing<LoadBalance>>;

/// Throws config_error for sizes, groups or a k that do not fit.
template <class Real>
EachGroupRouter<Real> each_group_router(const EachGroupOptions& options) {
  return {LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
          GroupSoftmax({.groups = options.groups}),
          EachGroupSelection({.groups = options.groups, .k = options.k}),
          GatherWeighting{},
          Balancing<LoadBalance>(LoadBalance({.coefficient = options.load_balance})),
          options.non_finite};
}

MOE_NAMESPACE_END
