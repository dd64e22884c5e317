// What a frame is: what happens to rows before the experts and to their sum after them.
#pragma once

#include <concepts>

#include "moe/core/executor.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"

MOE_NAMESPACE_BEGIN

/// A frame says where the inner rows and the inner sum live: `before` returns the rows the experts read,
/// `inner_y` the matrix stage 5 fills (y itself, or memory from the arena: none from a measuring one),
/// `after` turns that into y and leaves 0 in rows that are not active; `after_backward` returns the gradient
/// of the inner sum, `inner_x` the rows `before` returned, `inner_dx` where stage 5 sums input gradients (dx
/// itself, or memory from the arena; empty: nobody needs them), `before_backward` turns that into dx, which
/// may be absent. A null tape means inference, null gradients frozen. What they take from the arena stays
/// taken until the call ends, and `measure` / `measure_backward` take the same. For the layer's visits:
/// visit_parameters(gradients, f) and visit_storage(gradients, f), as a bank's. A frame that goes on from
/// what the router found may have `before(x, table, tape, arena, executor)` besides, `table` the call's
/// RouteTable, which MoeLayer calls instead.
template <class F, class Real>
concept Frame = std::move_constructible<F> && std::default_initializable<typename F::Tape> &&
    requires(const F& frame, const ConstMatrixView<Real>& x, const MatrixView<Real>& y, const bool* active,
             const typename F::Tape& taped, typename F::Tape* tape, typename F::Gradients* gradients,
             Arena& arena, SerialExecutor& executor) {
  { frame.inner_width(Index{}) } -> std::convertible_to<Index>;
  { frame.outer_width(Index{}) } -> std::convertible_to<Index>;
  { frame.measure(arena, Index{}, Index{}) } -> std::same_as<void>;
  { frame.measure_backward(arena, Index{}, Index{}) } -> std::same_as<void>;
  { frame.before(x, tape, arena, executor) } -> std::same_as<ConstMatrixView<Real>>;
  { frame.inner_y(y, arena) } -> std::same_as<MatrixView<Real>>;
  { frame.after(y, y, active, tape, arena, executor) } -> std::same_as<void>;
  { frame.inner_x(taped, x) } -> std::same_as<ConstMatrixView<Real>>;
  { frame.after_backward(taped, x, gradients, arena, executor) } -> std::same_as<ConstMatrixView<Real>>;
  { frame.inner_dx(y, Index{}, arena) } -> std::same_as<MatrixView<Real>>;
  { frame.before_backward(taped, x, y, y, gradients, arena, executor) } -> std::same_as<void>;
  { frame.make_gradients() } -> std::same_as<typename F::Gradients>;
};

MOE_NAMESPACE_END
