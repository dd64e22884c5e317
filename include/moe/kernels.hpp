// moe.hpp for programs that link the compiled target moe::kernels: what is listed here is not compiled again,
// the rest is compiled where it is used, as ever, and the bits are those of the headers alone. The library is
// cmake/kernels/*.cpp, compiled by its user. Whoever has other flags has another ABI tag (config.hpp), and
// does not link with it.
//
// In the list: softmax top-k, top-k softmax and DeepSeek-V3's router; SwiGLU experts, those in a block
// storage forward only; experts with ReLU; the layer of softmax top-k and SwiGLU. In float, for the serial
// and the pool executor.
#pragma once

#include "moe/executor/pool.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/moe.hpp"
#include "moe/storage/list.hpp"

// Arguments are types, and `extern` or nothing: NOLINTBEGIN(bugprone-macro-parentheses)
/// The forward of a bank whose base is TwoLayerBank, for an executor X. EXTERN: `extern`, or nothing.
#define MOE_KERNELS_FORWARD(EXTERN, BANK, STORAGE, X)                                           \
  EXTERN template void BANK::run(const TwoLayerWeights<const STORAGE>&, const RowBatch<float>&, \
                                 const RowSink<float>&, const Taped*, Arena&, X&) const;
/// Its backward.
#define MOE_KERNELS_BACKWARD(EXTERN, BANK, STORAGE, X)                                                   \
  EXTERN template void BANK::run_backward(const TwoLayerWeights<const STORAGE>&, const RowBatch<float>&, \
                                          const TapedRows&, const RowGradients<float>&,                  \
                                          const TwoLayerWeights<float>&, Arena&, X&) const;
/// Stage 1 of a TokenChoice over a linear scorer, and its backward.
#define MOE_KERNELS_ROUTER(EXTERN, ROUTER, X)                                                             \
  EXTERN template void ROUTER::route_observed(const RouterInput<float>&, RouteTable<float>&, Tape*,       \
                                              const RouteView<float>&, Arena&, X&) const;                 \
  EXTERN template void ROUTER::run(const RouterInput<float>&, RouteTable<float>&,                         \
                                   const impl::TokenChoiceArrays<float>&, LinearScorer<float>::Tape*,     \
                                   Arena&, X&) const;                                                     \
  EXTERN template void ROUTER::backward(const RouterInput<float>&, const RouteTable<float>&, const Tape&, \
                                        const RouteGradients<float>&, Gradients*, Arena&, X&) const;
/// A layer, and what trains it.
#define MOE_KERNELS_LAYER(EXTERN, LAYER, X)                                                               \
  EXTERN template void LAYER::run<void>(const LayerInput<float>&, LayerOutput<float>&, void*, Workspace&, \
                                        X&) const;                                                        \
  EXTERN template void LAYER::run<LAYER::Tape>(const LayerInput<float>&, LayerOutput<float>&, Tape*,      \
                                               Workspace&, X&) const;                                     \
  EXTERN template void LAYER::backward(const Tape&, const LayerGradients&, Workspace&, X&) const;

/// The list.
#define MOE_KERNELS(EXTERN, X)                                                                             \
  EXTERN template void Projection<float>::forward(const ConstMatrixView<float>&, const MatrixView<float>&, \
                                                  Arena&, X&) const;                                       \
  EXTERN template void Projection<float>::backward_rows(                                                   \
      const std::int32_t*, Index, const ConstMatrixView<float>&, const ConstMatrixView<float>&,            \
      const MatrixView<float>&, Gradients*, Arena&, X&) const;                                             \
  MOE_KERNELS_ROUTER(EXTERN, SoftmaxTopK<float>, X)                                                        \
  MOE_KERNELS_ROUTER(EXTERN, TopKSoftmax<float>, X)                                                        \
  MOE_KERNELS_ROUTER(EXTERN, DeepSeekV3<float>, X)                                                         \
  MOE_KERNELS_FORWARD(EXTERN, impl::KernelsGlu<float>, float, X)                                           \
  MOE_KERNELS_FORWARD(EXTERN, impl::KernelsGlu<BFloat16>, BFloat16, X)                                     \
  MOE_KERNELS_FORWARD(EXTERN, impl::KernelsGlu<Int8Groups<>>, Int8Groups<>, X)                             \
  MOE_KERNELS_FORWARD(EXTERN, impl::KernelsGlu<Int4Groups<>>, Int4Groups<>, X)                             \
  MOE_KERNELS_FORWARD(EXTERN, impl::KernelsMlp, float, X)                                                  \
  MOE_KERNELS_BACKWARD(EXTERN, impl::KernelsGlu<float>, float, X)                                          \
  MOE_KERNELS_BACKWARD(EXTERN, impl::KernelsMlp, float, X)                                                 \
  MOE_KERNELS_LAYER(EXTERN, impl::KernelsLayer, X)
// NOLINTEND(bugprone-macro-parentheses)

MOE_NAMESPACE_BEGIN
namespace impl {
template <class Storage>
using KernelsGlu = TwoLayerBank<GluUnit<Silu>, Storage>;
using KernelsMlp = TwoLayerBank<MlpUnit<Relu>, float>;
using KernelsLayer = MoeLayer<SoftmaxTopK<float>, Glu<Silu>>;
}  // namespace impl

MOE_KERNELS(extern, SerialExecutor)
MOE_KERNELS(extern, PoolExecutor)

MOE_NAMESPACE_END
