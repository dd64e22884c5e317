// Row operations: copy, fill, scale, axpy, add, multiply-add, dot, sum, maximum, squared norm.
//
// Shapes: contiguous rows of n >= 0 elements, any alignment; y may be x itself, but not overlap it otherwise.
// Tail: the same batch operation on a padded buffer, so an element's bits do not depend on where it stands.
// Errors: none (noexcept); n is asserted.
// Arch: the instruction set; reference_arch runs the plain loop.
#pragma once

#include <type_traits>

#include "moe/kernel/arch.hpp"
#include "moe/kernel/ref/row.hpp"
#include "moe/kernel/simd/row.hpp"

MOE_NAMESPACE_BEGIN

/// y[j] = x[j]; bits are kept, NaN payloads included.
template <class Arch = native_arch, class T>
void copy_row(const T* x, T* y, Index n) noexcept {
  MOE_ASSERT(n >= 0);
  impl::copy_row(x, y, n, KernelArch<T, Arch>{});
}

/// y[j] = a.
template <class Arch = native_arch, class T>
void fill_row(std::type_identity_t<T> a, T* y, Index n) noexcept {
  MOE_ASSERT(n >= 0);
  impl::fill_row(a, y, n, KernelArch<T, Arch>{});
}

/// y[j] = a * x[j]: one rounding. Never inlined: g++ would fuse the product with an addition in the caller.
template <class Arch = native_arch, class T>
MOE_NOINLINE void scale_row(std::type_identity_t<T> a, const T* x, T* y, Index n) noexcept {
  MOE_ASSERT(n >= 0);
  impl::scale_row(a, x, y, n, KernelArch<T, Arch>{});
}

/// y[j] = fma(a, x[j], y[j]): one rounding where the target has the instruction (kHasFma), else two.
template <class Arch = native_arch, class T>
void axpy_row(std::type_identity_t<T> a, const T* x, T* y, Index n) noexcept {
  MOE_ASSERT(n >= 0);
  impl::axpy_row(a, x, y, n, KernelArch<T, Arch>{});
}

/// y[j] += x[j]: one rounding.
template <class Arch = native_arch, class T>
void add_row(const T* x, T* y, Index n) noexcept {
  MOE_ASSERT(n >= 0);
  impl::add_row(x, y, n, KernelArch<T, Arch>{});
}

/// y[j] = fma(x[j], z[j], y[j]).
template <class Arch = native_arch, class T>
void fma_row(const T* x, const T* z, T* y, Index n) noexcept {
  MOE_ASSERT(n >= 0);
  impl::fma_row(x, z, y, n, KernelArch<T, Arch>{});
}

/// Sum of x[j] * z[j], in an order that depends on n alone; 0 for n = 0.
/// Rounding: |error| <= gamma_{n+1} * sum |x[j] * z[j]|, gamma_k = k u / (1 - k u).
template <class Arch = native_arch, class T>
[[nodiscard]] T dot(const T* x, const T* z, Index n) noexcept {
  MOE_ASSERT(n >= 0);
  return impl::dot(x, z, n, KernelArch<T, Arch>{});
}

/// Sum of x[j]^2, with the order and the bound of dot.
template <class Arch = native_arch, class T>
[[nodiscard]] T squared_norm(const T* x, Index n) noexcept {
  return dot<Arch>(x, x, n);
}

/// The same in double, for rows whose squares overflow.
template <class T>
[[nodiscard]] double wide_squared_norm(const T* x, Index n) noexcept {
  double sum = 0;
  for (Index j = 0; j < n; ++j) sum += static_cast<double>(x[j]) * static_cast<double>(x[j]);
  return sum;
}

/// Sum of x[j], in an order that depends on n alone. Rounding: |error| <= gamma_n * sum |x[j]|.
template <class Arch = native_arch, class T>
[[nodiscard]] T sum_row(const T* x, Index n) noexcept {
  MOE_ASSERT(n >= 0);
  return impl::sum_row(x, n, KernelArch<T, Arch>{});
}

/// Largest x[j]; -inf for n = 0. No element may be NaN. The sign of a zero result is unspecified.
template <class Arch = native_arch, class T>
[[nodiscard]] T max_row(const T* x, Index n) noexcept {
  MOE_ASSERT(n >= 0);
  return impl::max_row(x, n, KernelArch<T, Arch>{});
}

MOE_NAMESPACE_END
