// Rows of activations as low-precision tiles (kernel/block_tile.hpp) read them: rounded to bf16, or in 8
// bits.
#pragma once

#include "moe/kernel/isa/block_tile.hpp"
#include "moe/kernel/isa/super_tile.hpp"
#include "moe/kernel/ref/block_tile.hpp"
#include "moe/kernel/simd/row_group.hpp"

MOE_NAMESPACE_BEGIN

/// kBlockRows numbers of a row, for weights stored as Storage. Trivially copyable; any alignment of float.
template <class Arch, class Storage>
using RowGroup = typename impl::BlockShape<impl::BlockPath<Arch, Storage>, Storage>::Row;

/// A row is rounded as a whole: one that is prepared in parts is another one.
template <class Storage>
inline constexpr bool kWholeRows = false;
template <>
inline constexpr bool kWholeRows<Int8Channels> = true;

/// Cells of a prepared row of `count` numbers; of one that is rounded as a whole a header is the first.
template <class Storage>
constexpr Index row_cells(Index count) noexcept {
  return ceil_div(count, kBlockRows) + (kWholeRows<Storage> ? 1 : 0);
}

/// groups [row_cells(count)] = x [count], padded with zeros; x of any alignment.
///
/// BFloat16: each number to the nearest finite bf16; NaN and infinities stay. Int8Groups, Int4Groups, Q4K,
/// Q6K: each group by itself to codes -127 .. 127, the largest magnitude of the group becoming 127 and each
/// number within half a step of largest / 127. A group below 2^-118 counts as zeros; one that holds a NaN or
/// an infinity gets the scale NaN, which makes every result of the row NaN. Int8Channels: the same of the row
/// as one group.
template <class Arch, class Storage>
void prepare_row(const float* x, Index count, RowGroup<Arch, Storage>* groups) noexcept {
  MOE_ASSERT(count >= 0);
  impl::prepare_row(x, count, groups, Storage{}, impl::BlockPath<Arch, Storage>{});
}

MOE_NAMESPACE_END
