// What a shared part is: what every token gets, outside the routing.
#pragma once

#include <concepts>

#include "moe/core/executor.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"

MOE_NAMESPACE_BEGIN

/// `width()` D of its rows, 0: it does nothing. `forward` adds to y[t] for every t with active[t] and leaves
/// the other rows; a null tape means inference. `backward` adds to dx, if dx is there, and to the gradients,
/// unless they are null (frozen). `measure` and `measure_backward` take what they take. For the layer's
/// visits: visit_parameters(gradients, f) and visit_storage(gradients, f), as a bank's.
template <class S, class Real>
concept Shared = std::move_constructible<S> && std::default_initializable<typename S::Tape> &&
    requires(const S& shared, const ConstMatrixView<Real>& x, const MatrixView<Real>& y, const bool* active,
             const typename S::Tape& taped, typename S::Tape* tape, typename S::Gradients* gradients,
             Arena& arena, SerialExecutor& executor) {
  { shared.width() } -> std::convertible_to<Index>;
  { shared.measure(arena, Index{}, Index{}) } -> std::same_as<void>;
  { shared.measure_backward(arena, Index{}, Index{}) } -> std::same_as<void>;
  { shared.forward(x, active, y, tape, arena, executor) } -> std::same_as<void>;
  { shared.backward(taped, x, x, y, gradients, arena, executor) } -> std::same_as<void>;
  { shared.make_gradients() } -> std::same_as<typename S::Gradients>;
};

MOE_NAMESPACE_END
