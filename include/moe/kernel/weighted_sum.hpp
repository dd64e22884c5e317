// Weighted sum of rows, the arithmetic of combine: y = sum_i w[i] * z[i].
//
// Shapes: z[count] pointers to rows of n, w[count], y[n]; any alignment; y overlaps no row.
// Order: y[j] = fma(w[i], z[i][j], y[j]), i ascending: the bits of `count` calls of axpy_row.
// A null z[i] is a row of zeros and is skipped.
// Tail: the same batch operation on a padded buffer.
// Rounding: |error| <= gamma_{count + 1} * (|y[j]| + sum_i |w[i] z[i][j]|).
#pragma once

#include <type_traits>

#include "moe/kernel/arch.hpp"
#include "moe/kernel/ref/weighted_sum.hpp"
#include "moe/kernel/simd/weighted_sum.hpp"

MOE_NAMESPACE_BEGIN

/// y[j] = sum over i of w[i] * z[i][j], from +0. Overwrites y, with +0 where there is nothing to add.
template <class Arch = native_arch, class T>
void weighted_sum_rows(const std::type_identity_t<T>* const* z, const std::type_identity_t<T>* w, Index count,
                       T* y, Index n) noexcept {
  MOE_ASSERT(count >= 0 && n >= 0);
  impl::weighted_sum_rows(z, w, count, y, n, KernelArch<T, Arch>{});
}

/// Same sum, onto what y holds.
template <class Arch = native_arch, class T>
void accumulate_weighted_rows(const std::type_identity_t<T>* const* z, const std::type_identity_t<T>* w,
                              Index count, T* y, Index n) noexcept {
  MOE_ASSERT(count >= 0 && n >= 0);
  impl::accumulate_weighted_rows(z, w, count, y, n, KernelArch<T, Arch>{});
}

MOE_NAMESPACE_END
