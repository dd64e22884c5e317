// What a layer is to what is built of layers: chains, soft layers, layers spread over processes.
#pragma once

#include <concepts>

#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/layer/call/output.hpp"

MOE_NAMESPACE_BEGIN

/// Rows [T, width()] to rows [T, width()], trainable. `LayerGradients` has in: dy [T, D], auxiliary_scale;
/// out: dx [T, D] or absent, overwritten, and router_dx, for calls with rows of their own for the router;
/// whatever else it holds says which parameters get gradients, by default none. Errors, tapes and workspaces
/// are as MoeLayer's.
template <class L>
concept TokenLayer = std::move_constructible<L> && std::default_initializable<typename L::LayerGradients> &&
    requires(const L& layer, const LayerInput<typename L::Real>& in, LayerOutput<typename L::Real>& out,
             typename L::Tape& tape, typename L::LayerGradients& gradients, const CallShape& shape,
             const ConstMatrixView<typename L::Real>& dy, const MatrixView<typename L::Real>& dx,
             Workspace& workspace, SerialExecutor& executor) {
  { layer.coupling(true) } -> std::same_as<Coupling>;
  { layer.width() } -> std::convertible_to<Index>;
  { layer.workspace_bytes(shape, Mode::training, Index{1}) } -> std::same_as<Index>;
  { layer.make_tape() } -> std::same_as<typename L::Tape>;
  { layer.forward(in, out, workspace, executor) } -> std::same_as<void>;
  { layer.forward_train(in, out, tape, workspace, executor) } -> std::same_as<void>;
  { layer.backward(tape, gradients, workspace, executor) } -> std::same_as<void>;
  gradients.dy = dy;
  gradients.dx = dx;
  gradients.router_dx = dx;
  gradients.auxiliary_scale = 1.0;
};

MOE_NAMESPACE_END
