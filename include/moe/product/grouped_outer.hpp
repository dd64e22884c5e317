// The gradients of all experts' matrices: sums of outer products. As product/grouped.hpp, whose words hold
// here too.
#pragma once

#include <algorithm>
#include <cstring>

#include "moe/core/executor.hpp"
#include "moe/core/types.hpp"
#include "moe/kernel/outer_tile.hpp"
#include "moe/kernel/prefetch.hpp"
#include "moe/product/grouped.hpp"
#include "moe/product/tile_tasks.hpp"
#include "moe/storage/packed_matrix.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// to[i] = from[i] for i < count, 0 for count <= i < padded. (std::copy and std::fill would leave weak
/// symbols without our tag where they are not inlined: contract C7.)
template <class T>
MOE_ALWAYS_INLINE void copy_padded(const T* from, Index count, T* to, Index padded) noexcept {
  for (Index i = 0; i < count; ++i) to[i] = from[i];
  for (Index i = count; i < padded; ++i) to[i] = T(0);
}

/// left[t][p][i] = rows[p][first + t * kTileRows + i], 0 from column `end` on: p < count, tiles of kTileRows
/// columns until `end`. Four rows together, so that tiles are written in whole cache lines, while the next
/// four come from memory.
template <class Arch, class T>
void pack_left(const T* const* rows, Index count, Index first, Index end, T* left) noexcept {
  constexpr Index kRows = kTileRows<Arch, T>;
  constexpr Index kTogether = 4;
  for (Index begin = 0; begin < count; begin += kTogether) {
    const Index stop = (std::min)(begin + kTogether, count);
    T* tile = left;
    Index k = first;
    for (; k + kRows <= end; k += kRows, tile += count * kRows) {
      for (Index p = begin; p < stop; ++p) {
        prefetch_l2(rows[(std::min)(p + kTogether, count - 1)] + k);
        std::memcpy(tile + p * kRows, rows[p] + k, sizeof(T) * kRows);
      }
    }
    for (Index p = begin; k < end && p < stop; ++p) {
      copy_padded(rows[p] + k, end - k, tile + p * kRows, kRows);
    }
  }
}

/// right[p][c] = rows[p][first + c], 0 from column `end` on.
template <class T>
void pack_right(const T* const* rows, Index count, Index first, Index end, T* right) noexcept {
  const Index columns = (std::min)(kPanel<T>, end - first);
  for (Index p = 0; p < count; ++p) {
    copy_padded(rows[p] + first, columns, right + p * kPanel<T>, kPanel<T>);
  }
}

}  // namespace impl

/// gradient_of(g)[k][n] += sum over the rows p of group g of left_rows[p][k] * right_rows[p][n], n in panel
/// order.
///
/// left_rows [P]: `left_width` numbers each, the rows of the gradient. right_rows [P]: `right_width` numbers
/// each in panel order, or as many as the gradient has positions if that is less; nothing beyond is read, and
/// positions from there on stay as they are (for finite rows). gradient_of(g) -> PackedView<T>. tasks and
/// scratch as in grouped_gemm_transposed. Each element is summed over blocks of 128 rows from the group's
/// first row on: one chain of fma, p ascending, from +0; the blocks' sums are added to it in order.
template <class Arch, class T, class GradientOf, Executor X>
void grouped_outer(const T* const* left_rows, Index left_width, const T* const* right_rows, Index right_width,
                   const Index* offsets, Index groups, GradientOf gradient_of, Index* tasks, T* scratch,
                   X& executor) noexcept {
  constexpr Index kRows = kTileRows<Arch, T>;
  const auto extent_of = [&](Index g) noexcept -> GroupExtent {
    const Index count = offsets[g + 1] - offsets[g];
    if (count == 0) return {};
    const PackedView<T> gradient = gradient_of(g);
    MOE_ASSERT(gradient.rows == left_width);
    return {.rows = ceil_div(left_width, kRows),  // of tiles
            .row_limit = impl::kOuterColumns<T> / kRows,
            .units = (std::min)(gradient.panels, ceil_div(right_width, kPanel<T>)),
            .unit_cost = (count + 2 * impl::kPanelCost) * (std::min)(left_width, impl::kOuterColumns<T>)};
  };
  const TaskList list(tasks, groups, executor.concurrency(), impl::kLeastCost, extent_of);
  executor.parallel_for(list.size(), [&](Index index, Index worker) noexcept {
    T* const left = scratch + worker * grouped_scratch<T>();
    T* const right = left + impl::kOuterRows * impl::kOuterColumns<T>;
    const TileTask task = list[index];
    const PackedView<T> gradient = gradient_of(task.group);
    const Index first_k = task.row * kRows;
    const Index end_k = (std::min)(task.row_end * kRows, left_width);
    const Index end_row = offsets[task.group + 1];
    const Index tiles = task.row_end - task.row;
    for (Index row = offsets[task.group]; row < end_row; row += impl::kOuterRows) {
      const Index count = (std::min)(impl::kOuterRows, end_row - row);
      impl::pack_left<Arch>(left_rows + row, count, first_k, end_k, left);
      for (Index j = task.unit; j < task.unit_end; ++j) {
        const T* right_row[impl::kOuterRows];
        const bool whole = (j + 1) * kPanel<T> <= right_width;
        if (!whole) impl::pack_right(right_rows + row, count, j * kPanel<T>, right_width, right);
        for (Index p = 0; p < count; ++p) {
          right_row[p] = whole ? right_rows[row + p] + j * kPanel<T> : right + p * kPanel<T>;
        }
        const bool last = j + 1 == task.unit_end;
        for (Index t = 0; t < tiles; ++t) {
          // Meanwhile the next panel's right factors and the next tile of the gradient come.
          for (Index p = count * t / tiles; !last && p < count * (t + 1) / tiles; ++p) {
            const T* const ahead = right_rows[row + p] + (j + 1) * kPanel<T>;
            prefetch_l2(ahead);
            prefetch_l2(ahead + kHalf<T>);
          }
          T* const panel = gradient.panel(j) + first_k * kPanel<T>;
          const T* next = panel + (t + 1) * kRows * kPanel<T>;
          if (t + 1 == tiles) next = last ? nullptr : gradient.panel(j + 1) + first_k * kPanel<T>;
          outer_tile<Arch>(left + t * kRows * count, right_row, count,
                           (std::min)(kRows, end_k - first_k - t * kRows), panel + t * kRows * kPanel<T>,
                           next);
        }
      }
    }
  });
}

MOE_NAMESPACE_END
