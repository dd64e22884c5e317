// Experts that are slices of one dense layer, chosen once for a whole segment. Union of Experts, Yang et al.
// 2503.02495. expert/bank/carve.hpp makes the slices.
#pragma once

#include "moe/router/balance/load_balance.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/scorer/segment_pool.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "moe/router/weighting/unit.hpp"

MOE_NAMESPACE_BEGIN

struct UnionOfExpertsOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index k = 2;
  double load_balance = 0.01;  // coefficient, see router/balance/load_balance.hpp
  NonFinite non_finite = NonFinite::throw_;
};

/// The k best of the mean of a segment's rows, for every row of it; weights of 1, so that all experts
/// together are the dense layer. As in the released code the task sends no gradient to this router, only its
/// loss does. A router over segments of any length: the code's reads a sequence of one fixed length as a row.
template <class Real>
using UnionOfExperts = TokenChoice<SegmentPool<LinearScorer<Real>>, Softmax, TopKSelection, UnitWeighting,
                                   Balancing<LoadBalance>>;

/// Throws config_error for sizes or a k that do not fit.
template <class Real>
UnionOfExperts<Real> union_of_experts(const UnionOfExpertsOptions& o) {
  return {SegmentPool<LinearScorer<Real>>(LinearScorer<Real>({.width = o.width, .outputs = o.experts})),
          Softmax{},
          TopKSelection(o.k),
          UnitWeighting{},
          Balancing<LoadBalance>(LoadBalance({.coefficient = o.load_balance})),
          o.non_finite};
}

/// The same choice, weighted by the softmax, through which the task trains the router.
template <class Real>
using GatedUnionOfExperts = TokenChoice<SegmentPool<LinearScorer<Real>>, Softmax, TopKSelection,
                                        GatherWeighting, Balancing<LoadBalance>>;

/// Throws config_error for sizes or a k that do not fit.
template <class Real>
GatedUnionOfExperts<Real> gated_union_of_experts(const UnionOfExpertsOptions& o) {
  return {SegmentPool<LinearScorer<Real>>(LinearScorer<Real>({.width = o.width, .outputs = o.experts})),
          Softmax{},
          TopKSelection(o.k),
          GatherWeighting{},
          Balancing<LoadBalance>(LoadBalance({.coefficient = o.load_balance})),
          o.non_finite};
}

MOE_NAMESPACE_END
