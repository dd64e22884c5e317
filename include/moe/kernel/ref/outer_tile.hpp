// Plain loops of outer_tile.
#pragma once

#include "moe/kernel/arch.hpp"
#include "moe/kernel/panel.hpp"
#include "moe/kernel/ref/gemm_tile.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

template <class T>
void outer_tile(const T* left, const T* const* right, Index count, Index m, T* panel, const T*,
                reference_arch) noexcept {
  constexpr Index kRows = TileShape<reference_arch, T>::kRows;
  for (Index i = 0; i < m; ++i) {
    T sums[kPanel<T>] = {};
    for (Index p = 0; p < count; ++p) {
      for (Index c = 0; c < kPanel<T>; ++c) {
        sums[c] = fma(left[p * kRows + i], right[p][c], sums[c]);
      }
    }
    for (Index c = 0; c < kPanel<T>; ++c) panel[i * kPanel<T> + c] += sums[c];
  }
}

}  // namespace impl

MOE_NAMESPACE_END
