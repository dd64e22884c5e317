// Dispatch as a copy, for those who run the experts themselves: rows by expert, contiguous. What brings their
// results back is combine/rows.hpp. Eigen matrices and rank-3 tensors convert.
#pragma once

#include <type_traits>

#include "moe/core/executor.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/kernel/gather.hpp"
#include "moe/kernel/row.hpp"
#include "moe/plan/dispatch_plan.hpp"

MOE_NAMESPACE_BEGIN

/// rows[s] = the row of `x` [T, D] that slot s reads; rows [P, D], those of expert e are
/// plan.offsets[e] .. plan.offsets[e + 1]. Throws shape_error.
template <class Real, Executor X>
void dispatch_rows(const DispatchPlan<Real>& plan, const std::type_identity_t<ConstMatrixView<Real>>& x,
                   const std::type_identity_t<MatrixView<Real>>& rows, X& executor) {
  require_extent("x", "rows", plan.tokens, x.rows);
  require_shape("dispatched rows", rows, plan.slots(), x.cols);
  require_disjoint("x", x, "dispatched rows", rows);
  constexpr Index kSlots = 16;  // a worker takes at once
  executor.parallel_for(ceil_div(plan.slots(), kSlots), [&](Index block, Index) noexcept {
    const Index first = block * kSlots;
    const Index count = plan.slots() - first < kSlots ? plan.slots() - first : kSlots;
    gather_rows(x.data, x.stride, plan.token + first, count, rows.row(first), rows.stride, x.cols);
  });
}

/// dx[t] = the sum of drows[s] over t's slots, experts ascending; 0 without slots. Throws shape_error.
template <class Real, Executor X>
void dispatch_rows_backward(const DispatchPlan<Real>& plan,
                            const std::type_identity_t<ConstMatrixView<Real>>& drows,
                            const std::type_identity_t<MatrixView<Real>>& dx, X& executor) {
  require_extent("dx", "rows", plan.tokens, dx.rows);
  require_shape("gradients of dispatched rows", drows, plan.slots(), dx.cols);
  require_disjoint("gradients of dispatched rows", drows, "dx", dx);
  executor.parallel_for(plan.tokens, [&](Index t, Index) noexcept {
    fill_row(Real{0}, dx.row(t), dx.cols);
    for (Index i = plan.token_offsets[t]; i < plan.token_offsets[t + 1]; ++i) {
      add_row(drows.row(plan.token_slot[i]), dx.row(t), dx.cols);
    }
  });
}

MOE_NAMESPACE_END
