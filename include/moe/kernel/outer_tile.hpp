// Micro-kernel of weight gradients: a sum over rows of outer products, added to a few rows of one panel.
#pragma once

#include "moe/kernel/arch.hpp"
#include "moe/kernel/gemm_tile.hpp"
#include "moe/kernel/ref/outer_tile.hpp"
#include "moe/kernel/simd/outer_tile.hpp"

MOE_NAMESPACE_BEGIN

/// panel[i][c] += sum over p < count of left[p][i] * right[p][c], for i < m and c < kPanel<T>.
///
/// Shapes: left [count][kTileRows<Arch, T>] contiguous, its columns from m on ignored; right [count] pointers
/// of any alignment; panel [m][kPanel] aligned to 64 bytes; 1 <= m <= kTileRows<Arch, T>. `next`, unless
/// null, is the panel of the call to follow: it is brought to the cache meanwhile. Each element is ONE chain
/// fma(left, right, sum), p ascending, from +0, added to the panel once.
template <class Arch, class T>
inline void outer_tile(const T* left, const T* const* right, Index count, Index m, T* panel,
                       const T* next = nullptr) noexcept {
  MOE_ASSERT(m >= 1 && m <= (kTileRows<Arch, T>));
  MOE_ASSERT(count >= 0);
  impl::outer_tile(left, right, count, m, panel, next, KernelArch<T, Arch>{});
}

MOE_NAMESPACE_END
