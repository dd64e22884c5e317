// Micro-kernel of products with low-precision weights: a few prepared rows times one panel of blocks.
#pragma once

#include "moe/kernel/gemm_tile.hpp"
#include "moe/kernel/row_group.hpp"
#include "moe/kernel/storage_block.hpp"

MOE_NAMESPACE_BEGIN

/// Most rows of one tile.
template <class Arch, class Storage>
inline constexpr Index kBlockTileRows = impl::BlockShape<impl::BlockPath<Arch, Storage>, Storage>::kRows;

/// As kOnePassRows.
template <class Arch, class Storage>
inline constexpr Index kOnePassBlockRows = impl::rows_in_one_pass<
    impl::BlockShape<impl::BlockPath<Arch, Storage>, Storage>, impl::kRowVectors<Arch, float>>();

/// tile[i][c] = sum over k of rows[i][k] * panel[k][c], for i < m and c < kPanel<float>.
///
/// Shapes: rows [m] pointers to the cells of `groups` groups each; panel [panel_blocks(32 groups)]; tile
/// [m][kPanel<float>] aligned to 64 bytes; 1 <= m <= kBlockTileRows<Arch, Storage>. BFloat16: one chain of
/// float, k ascending, two k a step where the target has the instruction; numbers below 2^-126 may count as
/// 0. Int8Groups, Int4Groups: per group the exact integer sum of code times code, then sum = fma(float(that)
/// * weight's scale, row's scale, sum), groups ascending from +0. Int8Channels: the exact integer sum over
/// all groups, float(that) * column's scale * row's scale; groups <= kMostInputs / kBlockRows. Q4K: as
/// Int4Groups with fma(float(sum), scale, offset * -sum of the row's codes) for the product, Q6K: as
/// Int8Groups by groups of 16; their scales of two levels multiplied, which is exact. In this order
/// nothing on the way overflows or vanishes where the sum does not, whatever the row, for weights up to
/// kLargestWeight (storage/packed_blocks.hpp). The bits of an element depend on its row and its column alone,
/// never on m or on fetch: part `part` of `parts` of the panel at fetch.at, which has as many blocks
/// (fetch.pitch is not used).
template <class Arch, class Storage>
inline void block_tile(const RowGroup<Arch, Storage>* const* rows, Index m, Index groups,
                       const StorageBlock<Storage>* panel, float* tile,
                       const PanelFetch& fetch = {}) noexcept {
  MOE_ASSERT(m >= 1 && m <= (kBlockTileRows<Arch, Storage>));
  MOE_ASSERT(groups >= 0 && groups <= kMostInputs<Storage> / kBlockRows);
  if (groups == 0) {  // rows and panel may be null
    for (Index i = 0; i < m * kPanel<float>; ++i) tile[i] = 0;
    return;
  }
  impl::block_tile(rows, m, groups, panel, tile, fetch, impl::BlockPath<Arch, Storage>{});
}

MOE_NAMESPACE_END
