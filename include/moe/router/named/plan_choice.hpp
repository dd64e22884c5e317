// Expert choice by transport plans, of the study of vision routers by Liu et al. 2401.15969. Its other four
// routers are v_moe and sinkhorn_router (tokens choose), expert_choice, and soft_moe in router/soft.
#pragma once

#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/column_plan.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

struct PlanChoiceOptions {
  Index width = 0;             // D
  Index experts = 0;           // E
  double capacity_factor = 2;  // experts per token on average
  double regularisation = 1;   // of the plan, against the logits
  Index iterations = 100;
  NonFinite non_finite = NonFinite::throw_;
};

template <class Real>
using PlanChoice = TokenChoice<LinearScorer<Real>, Softmax, ColumnPlan, GatherWeighting>;

namespace impl {
template <class Real>
PlanChoice<Real> plan_choice(const PlanChoiceOptions& options, ColumnPlanKind kind) {
  return {LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
          Softmax{},
          ColumnPlan({.kind = kind,
                      .capacity_factor = options.capacity_factor,
                      .regularisation = options.regularisation,
                      .iterations = options.iterations}),
          GatherWeighting{},
          Balancing<>{},
          options.non_finite};
}
}  // namespace impl

/// Experts take the rows that Sinkhorn's plan gives them most of. Throws config_error for options out of
/// their range.
template <class Real>
PlanChoice<Real> sinkhorn_expert_choice(const PlanChoiceOptions& options) {
  return impl::plan_choice<Real>(options, ColumnPlanKind::entropic);
}

/// The plan itself has no more rows in a column than the expert has places. Throws likewise.
template <class Real>
PlanChoice<Real> sparse_expert_choice(const PlanChoiceOptions& options) {
  return impl::plan_choice<Real>(options, ColumnPlanKind::sparse);
}

MOE_NAMESPACE_END
