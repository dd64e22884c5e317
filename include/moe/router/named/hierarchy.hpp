// Each task weighs all the experts that it may see. HoME (of Kuaishou), Wang et al. 2408.05430.
#pragma once

#include <utility>

#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/hierarchy.hpp"
#include "moe/router/scorer/hierarchy_mask.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

struct HierarchyRouterOptions {
  Index width = 0;                   // D
  HierarchyMaskOptions hierarchy{};  // whose experts there are
  NonFinite non_finite = NonFinite::throw_;
};

/// A softmax over the experts that the row's task (column `task`) sees, shared ones, its category's, its own,
/// by a gate of the task's.
template <class Real>
using HierarchyRouter =
    TokenChoice<HierarchyScorer<Real>, Softmax, TopKSelection, GatherWeighting, Balancing<>>;

/// Throws config_error for what is out of range.
template <class Real>
HierarchyRouter<Real> hierarchy_router(const HierarchyRouterOptions& options) {
  HierarchyScorer<Real> scorer(options.width, HierarchyMask(options.hierarchy));
  const Index seen = scorer.mask().seen();
  return {std::move(scorer), Softmax{},     TopKSelection(seen),
          GatherWeighting{}, Balancing<>{}, options.non_finite};
}

MOE_NAMESPACE_END
