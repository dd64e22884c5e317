// Rows picked by token id or by pointer into one block, and blocks moved. Built from copy_row, hence without
// loops of their own in kernel/ref/ and kernel/simd/.
#pragma once

#include <cstdint>
#include <type_traits>

#include "moe/kernel/row.hpp"

MOE_NAMESPACE_BEGIN

/// out[i, :] = x[token[i], :], i in [0, count).
/// Shapes: x[*, n] with x_stride elements between rows, out[count, n] with out_stride; any strides and
/// alignment, but x and out do not overlap. Ids are trusted (checked when the plan is built), widened before
/// the multiplication.
template <class Arch = native_arch, class T>
void gather_rows(const T* x, Index x_stride, const std::int32_t* token, Index count, T* out, Index out_stride,
                 Index n) noexcept {
  MOE_ASSERT(count >= 0 && n >= 0);
  for (Index i = 0; i < count; ++i) {
    MOE_ASSERT(token[i] >= 0);
    copy_row<Arch>(x + Index{token[i]} * x_stride, out + i * out_stride, n);
  }
}

/// out[i, :] = row[i][:], i in [0, count).
template <class Arch = native_arch, class T>
void gather_rows(const std::type_identity_t<T>* const* row, Index count, T* out, Index out_stride,
                 Index n) noexcept {
  MOE_ASSERT(count >= 0 && n >= 0);
  for (Index i = 0; i < count; ++i) copy_row<Arch>(row[i], out + i * out_stride, n);
}

/// out[i, :] = rows[i, :], i in [0, count), between two strides.
template <class Arch = native_arch, class T>
void copy_rows(const T* rows, Index row_stride, Index count, T* out, Index out_stride, Index n) noexcept {
  MOE_ASSERT(count >= 0 && n >= 0);
  for (Index i = 0; i < count; ++i) copy_row<Arch>(rows + i * row_stride, out + i * out_stride, n);
}

MOE_NAMESPACE_END
