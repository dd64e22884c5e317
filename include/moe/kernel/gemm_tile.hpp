// Micro-kernel of every matrix product: a few rows, given by pointers, times one panel of weights.
#pragma once

#include "moe/kernel/arch.hpp"
#include "moe/kernel/ref/gemm_tile.hpp"
#include "moe/kernel/simd/gemm_tile.hpp"

MOE_NAMESPACE_BEGIN

/// Most rows of one tile.
template <class Arch, class T>
inline constexpr Index kTileRows = impl::TileShape<KernelArch<T, Arch>, T>::kRows;

/// tile[i][c] = sum over k < depth of rows[i][step.first + k] * panel[k][c], for i < m and c < kPanel<T>.
///
/// Shapes: rows[m] pointers of any alignment; panel [depth][kPanel] and tile [m][kPanel] aligned to 64 bytes;
/// 1 <= m <= kTileRows<Arch, T>. Each element is ONE chain fma(row, panel, sum), k ascending, from +0 (or
/// from what `tile` holds, if step.resume): its bits depend on the row and the column alone, never on m, on
/// the cut of k into several calls, or on step.fetch.
template <class Arch, class T>
inline void gemm_tile(const T* const* rows, Index m, Index depth, const T* panel, T* tile,
                      const TileStep& step = {}) noexcept {
  MOE_ASSERT(m >= 1 && m <= (kTileRows<Arch, T>));
  MOE_ASSERT(depth >= 0 && step.first >= 0);
  impl::gemm_tile(rows, m, depth, panel, tile, step, KernelArch<T, Arch>{});
}

MOE_NAMESPACE_END
