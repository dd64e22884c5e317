// Reference of kernel/weighted_sum.hpp: one row after the other.
#pragma once

#include "moe/kernel/arch.hpp"
#include "moe/kernel/ref/row.hpp"

MOE_NAMESPACE_BEGIN
namespace impl {

template <class T>
void accumulate_weighted_rows(const T* const* z, const T* w, Index count, T* y, Index n,
                              reference_arch) noexcept {
  for (Index i = 0; i < count; ++i) {
    if (z[i] != nullptr) axpy_row(w[i], z[i], y, n, reference_arch{});
  }
}

template <class T>
void weighted_sum_rows(const T* const* z, const T* w, Index count, T* y, Index n, reference_arch) noexcept {
  fill_row(T{0}, y, n, reference_arch{});
  accumulate_weighted_rows(z, w, count, y, n, reference_arch{});
}

}  // namespace impl
MOE_NAMESPACE_END
