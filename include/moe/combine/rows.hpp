// Combine for those who run the experts themselves (dispatch/rows.hpp): rows by expert to y. Eigen matrices
// and rank-3 tensors convert.
#pragma once

#include <type_traits>

#include "moe/combine/weighted_sum.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/kernel/row.hpp"
#include "moe/plan/dispatch_plan.hpp"

MOE_NAMESPACE_BEGIN

/// y[t] = sum over t's slots s, experts ascending, of plan.weight[s] * rows[s]; rows [P, D], y [T, D],
/// overwritten, 0 for a token without slots. The bits of a layer's stage 5. Throws shape_error.
template <class Real, Executor X>
void combine_rows(const DispatchPlan<Real>& plan, const std::type_identity_t<ConstMatrixView<Real>>& rows,
                  const std::type_identity_t<MatrixView<Real>>& y, X& executor) {
  require_extent("y", "rows", plan.tokens, y.rows);
  require_shape("result rows", rows, plan.slots(), y.cols);
  require_disjoint("result rows", rows, "y", y);
  impl::combine_slots(
      plan, [&](Index s) noexcept { return rows.row(s); }, plan.weight, y, executor, SumFrom::zero);
}

/// Of every slot s of token t: drows[s] = plan.weight[s] * dy[t], dweight[s] = <dy[t], rows[s]>. dy [T, D],
/// rows and drows [P, D], dweight [P, 1] or absent. The weight of pair plan.pair[s] has the gradient
/// dweight[s]. Throws shape_error.
template <class Real, Executor X>
void combine_rows_backward(const DispatchPlan<Real>& plan,
                           const std::type_identity_t<ConstMatrixView<Real>>& dy,
                           const std::type_identity_t<ConstMatrixView<Real>>& rows,
                           const std::type_identity_t<MatrixView<Real>>& drows,
                           const std::type_identity_t<MatrixView<Real>>& dweight, X& executor) {
  require_extent("dy", "rows", plan.tokens, dy.rows);
  require_shape("result rows", rows, plan.slots(), dy.cols);
  require_shape("gradients of result rows", drows, plan.slots(), dy.cols);
  if (dweight) require_shape("gradients of weights", dweight, plan.slots(), 1);
  require_disjoint("dy", dy, "gradients of result rows", drows);
  require_disjoint("result rows", rows, "gradients of result rows", drows);
  if (dweight) {
    require_disjoint("dy", dy, "gradients of weights", dweight);
    require_disjoint("result rows", rows, "gradients of weights", dweight);
    require_disjoint("gradients of result rows", drows, "gradients of weights", dweight);
  }
  executor.parallel_for(plan.slots(), [&](Index s, Index) noexcept {
    const Real* const dy_row = dy.row(Index{plan.token[s]});
    if (dweight) dweight(s, 0) = dot(dy_row, rows.row(s), dy.cols);
    scale_row(plan.weight[s], dy_row, drows.row(s), dy.cols);
  });
}

MOE_NAMESPACE_END
