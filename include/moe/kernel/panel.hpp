// The shape every matrix kernel agrees on: weights in column panels. A panel is [rows][kPanel] contiguous,
// its rows two cache lines long; kernel/gemm_tile.hpp multiplies with it, storage/packed_matrix.hpp stores
// it.
#pragma once

#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

/// Columns of half a panel: one cache line (16 floats, 8 doubles), and the widest vector register.
template <class T>
inline constexpr Index kHalf = 64 / static_cast<Index>(sizeof(T));

/// Columns of a panel. Two vectors a row is the least that hides the latency of fma in a tile of one row of
/// 512-bit vectors behind memory, and the most that leaves room for 8 rows in 32 registers.
template <class T>
inline constexpr Index kPanel = 2 * kHalf<T>;

/// Numbers from row to row of scratch rows of `count`: whole cache lines, and not a multiple of 4 KiB, or
/// else the 8 rows of a tile, read at the same column, fill one set of an 8-way first-level cache (5 % of the
/// speed of a product).
template <class T>
constexpr Index row_stride(Index count) noexcept {
  const Index stride = round_up(count, kHalf<T>);
  return stride * Index{sizeof(T)} % 4096 == 0 ? stride + kHalf<T> : stride;
}

MOE_NAMESPACE_END
