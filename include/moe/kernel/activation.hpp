// Row kernels of activations and gates, forward and backward.
//
// Shapes: rows of n >= 0 contiguous elements, any alignment, the `rows` forms with strides from row to row;
// an output may be an input, but not overlap one otherwise. Tail: the same batch operation on a padded
// buffer. The loops are never inlined and the policies leave nothing to fuse, so every row runs the same
// machine code. Rounding: that of the policy (kernel/activation_policy.hpp) plus one per multiplication
// written here. Errors: none (noexcept); n is asserted.
#pragma once

#include <type_traits>

#include "moe/kernel/activation_policy.hpp"
#include "moe/kernel/arch.hpp"
#include "moe/kernel/gate.hpp"
#include "moe/kernel/ref/activation.hpp"
#include "moe/kernel/simd/activation.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// f(policy), with a run-time choice resolved first.
template <class Act, class F>
MOE_ALWAYS_INLINE void with_static_policy(const Act& act, const F& f) noexcept {
  f(act);
}
template <class F>
MOE_ALWAYS_INLINE void with_static_policy(const AnyActivation& any, const F& f) noexcept {
  any.visit(f);
}
template <class F>
MOE_ALWAYS_INLINE void with_static_policy(const ProductGate<AnyActivation>& gate, const F& f) noexcept {
  gate.act.visit([&](const auto& act) noexcept { f(ProductGate<std::decay_t<decltype(act)>>{act}); });
}
template <class F>
MOE_ALWAYS_INLINE void with_static_policy(const ClampedGate<AnyActivation>& gate, const F& f) noexcept {
  gate.act.visit([&](const auto& act) noexcept {
    f(ClampedGate<std::decay_t<decltype(act)>>{gate.limit, gate.offset, act});
  });
}

template <class F>
MOE_ALWAYS_INLINE void with_static_policy(const AnyGate& any, const F& f) noexcept {
  any.visit([&](const auto& gate) noexcept { with_static_policy(gate, f); });
}

}  // namespace impl

/// y[i][j] = act(x[i][j]): `rows` rows of n, x_stride and y_stride apart.
template <class Arch = native_arch, Activation Act, class T>
void activate_rows(const Act& act, const T* x, Index x_stride, T* y, Index y_stride, Index rows,
                   Index n) noexcept {
  MOE_ASSERT(rows >= 0 && n >= 0);
  impl::with_static_policy(act, [&](const auto& f) noexcept {
    impl::activate_rows(f, x, x_stride, y, y_stride, rows, n, KernelArch<T, Arch>{});
  });
}

/// y[j] = act(x[j]).
template <class Arch = native_arch, Activation Act, class T>
void activate_row(const Act& act, const T* x, T* y, Index n) noexcept {
  activate_rows<Arch>(act, x, 0, y, 0, 1, n);
}

/// dx[j] = dy[j] * act'(x[j]).
template <class Arch = native_arch, Activation Act, class T>
void activate_backward_row(const Act& act, const T* x, const T* dy, T* dx, Index n) noexcept {
  MOE_ASSERT(n >= 0);
  impl::with_static_policy(act, [&](const auto& f) noexcept {
    impl::activate_backward_row(f, x, dy, dx, n, KernelArch<T, Arch>{});
  });
}

/// h[i][j] = gate(g[i][j], u[i][j]): `rows` rows of n, those of g and u `stride` apart, those of h h_stride.
template <class Arch = native_arch, Gate Gating, class T>
void gated_rows(const Gating& gate, const T* g, const T* u, Index stride, T* h, Index h_stride, Index rows,
                Index n) noexcept {
  MOE_ASSERT(rows >= 0 && n >= 0);
  impl::with_static_policy(gate, [&](const auto& f) noexcept {
    impl::gated_rows(f, g, u, stride, h, h_stride, rows, n, KernelArch<T, Arch>{});
  });
}

/// h[i][j] = act(g[i][j]) * u[i][j].
template <class Arch = native_arch, Activation Act, class T>
void gated_rows(const Act& act, const T* g, const T* u, Index stride, T* h, Index h_stride, Index rows,
                Index n) noexcept {
  gated_rows<Arch>(ProductGate<Act>{act}, g, u, stride, h, h_stride, rows, n);
}

/// h[j] = gate(g[j], u[j]); for an activation, act(g[j]) * u[j].
template <class Arch = native_arch, class Gating, class T>
void gated_row(const Gating& gate, const T* g, const T* u, T* h, Index n) noexcept {
  gated_rows<Arch>(gate, g, u, 0, h, 0, 1, n);
}

/// dg[j] = dh[j] * d gate / d g, du[j] = dh[j] * d gate / d u.
template <class Arch = native_arch, Gate Gating, class T>
void gated_backward_row(const Gating& gate, const T* g, const T* u, const T* dh, T* dg, T* du,
                        Index n) noexcept {
  MOE_ASSERT(n >= 0);
  impl::with_static_policy(gate, [&](const auto& f) noexcept {
    impl::gated_backward_row(f, g, u, dh, dg, du, n, KernelArch<T, Arch>{});
  });
}

/// dg[j] = dh[j] * u[j] * act'(g[j]), du[j] = dh[j] * act(g[j]).
template <class Arch = native_arch, Activation Act, class T>
void gated_backward_row(const Act& act, const T* g, const T* u, const T* dh, T* dg, T* du, Index n) noexcept {
  gated_backward_row<Arch>(ProductGate<Act>{act}, g, u, dh, dg, du, n);
}

MOE_NAMESPACE_END
