// Micro-kernel of every matrix product: a few rows, given by pointers, times one panel of weights.
#pragma once

#include "moe/kernel/arch.hpp"
#include "moe/kernel/ref/gemm_tile.hpp"
#include "moe/kernel/simd/gemm_tile.hpp"

MOE_NAMESPACE_BEGIN

/// Most rows of one tile.
template <class Arch, class T>
inline constexpr Index kTileRows = impl::TileShape<KernelArch<T, Arch>, T>::kRows;

namespace impl {

/// Most rows of a tile of Shape that takes the `kVectors` vectors of a panel's row in one pass.
template <class Shape, Index kVectors>
consteval Index rows_in_one_pass() noexcept {
  Index m = 0;
  if constexpr (requires { Shape::vectors(1); }) {
    while (m < Shape::kRows && Shape::vectors(static_cast<int>(m) + 1) == kVectors) ++m;
    return m;
  } else {
    return Shape::kRows;
  }
}

/// Vectors of a panel's row; 0 without vectors.
template <class Arch, class T>
inline constexpr Index kRowVectors = 0;
template <class Arch, class T>
requires SimdArch<Arch, T>
inline constexpr Index kRowVectors<Arch, T> = kPanel<T> / static_cast<Index>(Batch<T, Arch>::size);

}  // namespace impl

/// Most rows of a tile that reads the panel in one pass, in the order of memory.
template <class Arch, class T>
inline constexpr Index kOnePassRows =
    impl::rows_in_one_pass<impl::TileShape<KernelArch<T, Arch>, T>, impl::kRowVectors<Arch, T>>();

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
