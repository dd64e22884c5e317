// Stages 2 to 5 alone, for routing decided elsewhere.
#pragma once

#include "moe/layer/moe_layer.hpp"
#include "moe/router/kind/given.hpp"

MOE_NAMESPACE_BEGIN

/// Y[t] = sum over k of weights[t,k] * f_{ids[t,k]}(X[t]). ids and weights [T, K], x and y [T, D]. The sum
/// runs by ascending expert id whatever the order in a row. Throws before anything is written: shape_error,
/// route_error for an id outside [0, E) or named twice in a row, numeric_error for a weight that is not
/// finite.
template <ExpertBank B, Executor X = SerialExecutor>
void forward_experts(const B& bank, const std::type_identity_t<ConstMatrixView<typename B::Real>>& x,
                     const ConstMatrixView<ExpertId>& ids,
                     const std::type_identity_t<ConstMatrixView<typename B::Real>>& weights,
                     const std::type_identity_t<MatrixView<typename B::Real>>& y, Workspace& workspace,
                     X&& executor = X{}) {
  using Real = typename B::Real;
  const MoeLayer<GivenRoutes<Real>, const B&> layer(GivenRoutes<Real>(ids, weights, bank.experts()), bank);
  LayerInput<Real> in(x);
  LayerOutput<Real> out(y);
  layer.forward(in, out, workspace, executor);
}

MOE_NAMESPACE_END
