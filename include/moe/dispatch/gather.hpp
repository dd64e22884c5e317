// Stage 3/5 dispatch. In: DispatchPlan, X. Out: one row pointer per slot. Next: moe/expert/concept.hpp
// Kernels read token rows where they are; nothing is copied. The backward is the weighted sum of the slots'
// input gradients, which is stage 5 run on dX.
#pragma once

#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/plan/dispatch_plan.hpp"

MOE_NAMESPACE_BEGIN

/// row[s] = the row of `x` that slot s reads.
template <class Real>
void gather_row_pointers(const DispatchPlan<Real>& plan, const ConstMatrixView<Real>& x,
                         const Real** row) noexcept {
  for (Index s = 0; s < plan.slots(); ++s) row[s] = x.row(Index{plan.token[s]});
}

MOE_NAMESPACE_END
