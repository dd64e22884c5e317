// kernel/activation.hpp on batches.
#pragma once

#include "moe/kernel/arch.hpp"
#include "moe/kernel/simd/row.hpp"

MOE_NAMESPACE_BEGIN
namespace impl {

template <class Act, class T, class Arch>
requires SimdArch<Arch, T> MOE_NOINLINE void activate_rows(const Act& act, const T* x, Index x_stride, T* y,
                                                           Index y_stride, Index rows, Index n,
                                                           Arch) noexcept {
  using B = Batch<T, Arch>;
  for (Index i = 0; i < rows; ++i) {
    map_row<B>(x + i * x_stride, y + i * y_stride, n, [&](const B& v) noexcept -> B { return act.value(v); });
  }
}

template <class Act, class T, class Arch>
requires SimdArch<Arch, T> MOE_NOINLINE void activate_backward_row(const Act& act, const T* x, const T* dy,
                                                                   T* dx, Index n, Arch) noexcept {
  using B = Batch<T, Arch>;
  map_row<B>(x, dy, dx, n, [&](const B& v, const B& d) noexcept -> B { return d * act.derivative(v); });
}

template <class Gating, class T, class Arch>
requires SimdArch<Arch, T> MOE_NOINLINE void gated_rows(const Gating& gate, const T* g, const T* u,
                                                        Index stride, T* h, Index h_stride, Index rows,
                                                        Index n, Arch) noexcept {
  using B = Batch<T, Arch>;
  for (Index i = 0; i < rows; ++i) {
    map_row<B>(g + i * stride, u + i * stride, h + i * h_stride, n,
               [&](const B& vg, const B& vu) noexcept -> B { return gate.value(vg, vu); });
  }
}

template <class Gating, class T, class Arch>
requires SimdArch<Arch, T> MOE_NOINLINE void gated_backward_row(const Gating& gate, const T* g, const T* u,
                                                                const T* dh, T* dg, T* du, Index n,
                                                                Arch) noexcept {
  using B = Batch<T, Arch>;
  constexpr Index kWidth = static_cast<Index>(B::size);
  Index j = 0;
  for (; j + kWidth <= n; j += kWidth) {
    const auto partial = gate.partials(B::load_unaligned(g + j), B::load_unaligned(u + j));
    const B upstream = B::load_unaligned(dh + j);
    B(upstream * partial.of_gate).store_unaligned(dg + j);
    B(upstream * partial.of_up).store_unaligned(du + j);
  }
  if (const Index rest = n - j; rest > 0) {
    const auto partial = gate.partials(load_partial<B>(g + j, rest), load_partial<B>(u + j, rest));
    const B upstream = load_partial<B>(dh + j, rest);
    store_partial(B(upstream * partial.of_gate), dg + j, rest);
    store_partial(B(upstream * partial.of_up), du + j, rest);
  }
}

}  // namespace impl
MOE_NAMESPACE_END
