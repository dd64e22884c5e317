// Reference of kernel/activation.hpp: plain loops over the policies' scalar form.
#pragma once

#include "moe/kernel/arch.hpp"

MOE_NAMESPACE_BEGIN
namespace impl {

template <class Act, class T>
MOE_NOINLINE void activate_rows(const Act& act, const T* x, Index x_stride, T* y, Index y_stride, Index rows,
                                Index n, reference_arch) noexcept {
  for (Index i = 0; i < rows; ++i) {
    for (Index j = 0; j < n; ++j) y[i * y_stride + j] = act.value(x[i * x_stride + j]);
  }
}

template <class Act, class T>
MOE_NOINLINE void activate_backward_row(const Act& act, const T* x, const T* dy, T* dx, Index n,
                                        reference_arch) noexcept {
  for (Index j = 0; j < n; ++j) dx[j] = dy[j] * act.derivative(x[j]);
}

template <class Gating, class T>
MOE_NOINLINE void gated_rows(const Gating& gate, const T* g, const T* u, Index stride, T* h, Index h_stride,
                             Index rows, Index n, reference_arch) noexcept {
  for (Index i = 0; i < rows; ++i) {
    for (Index j = 0; j < n; ++j) h[i * h_stride + j] = gate.value(g[i * stride + j], u[i * stride + j]);
  }
}

template <class Gating, class T>
MOE_NOINLINE void gated_backward_row(const Gating& gate, const T* g, const T* u, const T* dh, T* dg, T* du,
                                     Index n, reference_arch) noexcept {
  for (Index j = 0; j < n; ++j) {
    const auto partial = gate.partials(g[j], u[j]);
    const T upstream = dh[j];
    dg[j] = upstream * partial.of_gate;
    du[j] = upstream * partial.of_up;
  }
}

}  // namespace impl
MOE_NAMESPACE_END
