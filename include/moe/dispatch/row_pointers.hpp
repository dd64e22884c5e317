// Stage 3/5 dispatch. In: DispatchPlan, X. Out: one row pointer per slot. Next: moe/expert/concept.hpp
// Kernels read token rows where they are; nothing is copied, unless weights multiply the rows. The backward
// is the weighted sum of the slots' input gradients, which is stage 5 run on dX.
#pragma once

#include "moe/core/executor.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/kernel/panel.hpp"
#include "moe/kernel/row.hpp"
#include "moe/plan/dispatch_plan.hpp"

MOE_NAMESPACE_BEGIN

/// row[s] = the row of `x` that slot s reads.
template <class Real>
void gather_row_pointers(const DispatchPlan<Real>& plan, const ConstMatrixView<Real>& x,
                         const Real** row) noexcept {
  for (Index s = 0; s < plan.slots(); ++s) row[s] = x.row(Index{plan.token[s]});
}

/// For weights on the input: row[s] = weight[s] * row[s], of `width` entries, stored in `scaled`, rows
/// row_stride(width) apart.
template <class Real, Executor X>
void scale_gathered_rows(const DispatchPlan<Real>& plan, Index width, const Real** row, Real* scaled,
                         X& executor) {
  executor.parallel_for(plan.slots(), [&](Index s, Index) noexcept {
    Real* const to = scaled + s * row_stride<Real>(width);
    scale_row(plan.weight[s], row[s], to, width);
    row[s] = to;
  });
}

MOE_NAMESPACE_END
