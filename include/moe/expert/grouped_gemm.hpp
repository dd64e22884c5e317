// The products of all experts at once: forward, with the transposed weights, and the gradients of the
// weights.
//
// Rows come sorted by group (expert): group g owns rows offsets[g] .. offsets[g + 1] - 1, each given by a
// pointer of any alignment. weight_of(g) is asked for groups with rows only. Panels run outermost and rows
// inside, so that weights are read from memory once per row chunk while the rows stay in cache; while the
// tiles of one panel run, the next panel (or the next task's first) is prefetched. The work is one flat list
// of tasks
// (expert/tile_tasks.hpp); every element of a result belongs to one task and is summed in one fixed order, so
// no result depends on the executor.
#pragma once

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "moe/core/executor.hpp"
#include "moe/core/types.hpp"
#include "moe/expert/tile_kernel.hpp"
#include "moe/expert/tile_tasks.hpp"
#include "moe/kernel/outer_tile.hpp"
#include "moe/kernel/prefetch.hpp"
#include "moe/weights/packed_matrix.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// A chunk's rows should stay in a core's caches while its panels pass by: this many bytes, but never less
/// than kFewestRows, which keep a core busy for longer than a panel takes to arrive, nor more than kMostRows.
inline constexpr Index kChunkBytes = Index{1} << 20;
inline constexpr Index kFewestRows = 64;
inline constexpr Index kMostRows = 256;

/// Transposed panels are built in slices of at most this many of their rows: 256 KiB, which stay in the
/// second-level cache beside what is prefetched.
inline constexpr Index kSlice = 2048;

/// A weight gradient is summed over blocks of this many rows, added in order. A panel's columns of the
/// block's right factors take 16 KiB, half a first-level cache; kOuterColumns<T> columns of its left factors
/// 128 KiB. With 512 columns two workers, who walk through neighbouring chunks of the same panels, lose 8 %.
inline constexpr Index kOuterRows = 128;
template <class T>
inline constexpr Index kOuterColumns = 8 * kPanel<T>;

/// Costs are counted in rows x depth of a panel. What a panel costs before its first row, in rows: reading
/// 128 bytes from memory takes as long as 8 rows of fused multiply-adds.
inline constexpr Index kPanelCost = 8;
/// A task of this cost takes about 5 microseconds, a hundred times what claiming it takes.
inline constexpr Index kLeastCost = 8192;

struct NoAnnounce {
  constexpr void operator()(Index, Index) const noexcept {}
};

/// f(first row, rows, block, blocks) for even blocks of at most kMost rows.
template <Index kMost, class F>
MOE_ALWAYS_INLINE void for_each_row_block(Index rows, F f) noexcept {
  const Index blocks = ceil_div(rows, kMost);
  for (Index b = 0; b < blocks; ++b) {
    const Index first = rows * b / blocks;
    f(first, rows * (b + 1) / blocks - first, b, blocks);
  }
}

}  // namespace impl

/// Elements of scratch per worker that grouped_gemm_transposed and grouped_outer need, whatever the sizes.
template <class T>
constexpr Index grouped_scratch() noexcept {
  static_assert(impl::kOuterRows * impl::kOuterColumns<T> <= impl::kSlice * kPanel<T>);
  static_assert(impl::kOuterRows <= impl::kMostRows);
  return (impl::kSlice + impl::kMostRows) * kPanel<T>;
}

/// Row p of group g times weight_of(g), for all: the product's tiles go to `epilogue`, kPanels panels of them
/// at once.
///
/// rows [P]: row p has TileKernel's cells for weight_of(g).rows numbers. weight_of(g) -> PackedView of const,
/// a multiple of kPanels panels. epilogue(g, first, m, unit, tile), noexcept, gets the finished tiles
/// [kPanels][TileKernel::kRows][kPanel] of panels unit * kPanels and on, rows first .. first + m - 1, exactly
/// once, from any worker; it may overwrite them. announce(row, unit), noexcept, is called before the tile of
/// that row is computed: the place to prefetch what the epilogue will write. tasks: scratch
/// [task_list_size(groups)].
template <class Arch, Index kPanels = 1, class Cell, class WeightOf, class Epilogue, Executor X,
          class Announce = impl::NoAnnounce>
void grouped_gemm(const Cell* const* rows, const Index* offsets, Index groups, WeightOf weight_of,
                  Epilogue epilogue, Index* tasks, X& executor, Announce announce = {}) noexcept {
  using View = std::invoke_result_t<WeightOf, Index>;
  using Kernel = TileKernel<Arch, typename View::Storage>;
  using T = typename Kernel::Real;
  const auto extent_of = [&](Index g) noexcept -> GroupExtent {
    const Index count = offsets[g + 1] - offsets[g];
    if (count == 0) return {};
    const View weight = weight_of(g);
    MOE_ASSERT(weight.panels % kPanels == 0);
    const Index row_bytes = std::max<Index>(Kernel::stride(weight.rows), 1) * Index{sizeof(Cell)};
    const Index limit = std::clamp(impl::kChunkBytes / row_bytes, impl::kFewestRows, impl::kMostRows);
    return {.rows = count,
            .row_limit = limit,
            .units = weight.panels / kPanels,
            .unit_cost = (std::min(count, limit) + impl::kPanelCost) * weight.rows * kPanels};
  };
  const TaskList list(tasks, groups, executor.concurrency(), impl::kLeastCost, extent_of);
  executor.parallel_for(list.size(), [&](Index index, Index) noexcept {
    const TileTask task = list[index];
    const View weight = weight_of(task.group);
    const Index first_row = offsets[task.group] + task.row;
    const Index count = task.row_end - task.row;
    const bool fetches = count >= Kernel::kPrefetchRows;
    // When tasks take equally long, this worker's next one is as many tasks away as there are workers.
    const Index next_index = index + executor.concurrency();
    const bool continues = fetches && next_index < list.size();
    const TileTask next = continues ? list[next_index] : TileTask{};
    const View next_weight = continues ? weight_of(next.group) : weight;
    alignas(64) T tile[kPanels * Kernel::kRows * kPanel<T>];
    for (Index unit = task.unit; unit < task.unit_end; ++unit) {
      const bool last = unit + 1 == task.unit_end;
      const View& ahead = last ? next_weight : weight;
      const Index ahead_panel = (last ? next.unit : unit + 1) * kPanels;
      impl::for_each_row_block<Kernel::kRows>(
          count, [&](Index first, Index m, Index block, Index blocks) noexcept {
            for (Index i = 0; i < m; ++i) announce(first_row + first + i, unit);
            for (Index p = 0; p < kPanels; ++p) {
              PanelFetch fetch;
              if (last ? continues : fetches) {
                fetch = {ahead.panel(ahead_panel + p), Kernel::kPanelPitch, block, blocks};
              }
              Kernel::multiply(rows + first_row + first, m, weight, unit * kPanels + p,
                               tile + p * Kernel::kRows * kPanel<T>, fetch);
            }
            epilogue(task.group, first_row + first, m, unit, tile);
          });
    }
  });
}

namespace impl {

/// The part of a transposed panel that is built and used at once: panels first .. end - 1 of the weights,
/// their rows k = block * kPanel and on.
struct Slice {
  Index block, first, end;
};

template <class Kernel, class View>
const char* block_address(const View& weight, Index panel, Index block) noexcept {
  return reinterpret_cast<const char*>(weight.panel(panel)) + block * Kernel::kPanelPitch;
}

/// out [(end - first) * kPanel][kPanel]. Blocks that nobody has prefetched come from memory two ahead:
/// straight from there the transposition would run at a third of the bandwidth.
template <class Kernel, class View, class T>
void transpose_slice(const View& weight, const Slice& slice, bool fetched, T* out) noexcept {
  constexpr Index kAhead = 2;
  for (Index j = slice.first; j < slice.end; ++j) {
    if (!fetched && j + kAhead < slice.end) {
      const char* const ahead = block_address<Kernel>(weight, j + kAhead, slice.block);
      for (Index i = 0; i < Kernel::kPanelPitch; i += 64) prefetch_l2(ahead + i);
    }
    Kernel::transpose(weight, j, slice.block, out + (j - slice.first) * kPanel<T> * kPanel<T>);
  }
}

}  // namespace impl

/// Row p of group g times the transpose of weight_of(g): C[p][k] = sum over n of rows[p][n] * W[k][n], n in
/// panel order.
///
/// rows [P]: row p has `depth` numbers in panel order, or as many as weight_of(g) has positions if that is
/// less. epilogue(g, first, m, block, tile), noexcept, gets C of rows first .. first + m - 1 and k from block
/// * kPanel on as a tile [m][kPanel] exactly once; from k = weight_of(g).rows on there is nothing in it worth
/// reading. tasks: scratch [task_list_size(groups)]; scratch: [executor.concurrency() *
/// grouped_scratch<T>()], aligned to 64 bytes. Each element is ONE chain of fma, n ascending, from +0.
template <class Arch, class T, class WeightOf, class Epilogue, Executor X>
void grouped_gemm_transposed(const T* const* rows, Index depth, const Index* offsets, Index groups,
                             WeightOf weight_of, Epilogue epilogue, Index* tasks, T* scratch,
                             X& executor) noexcept {
  using View = std::invoke_result_t<WeightOf, Index>;
  using Kernel = TileKernel<Arch, typename View::Storage>;
  const auto extent_of = [&](Index g) noexcept -> GroupExtent {
    const Index count = offsets[g + 1] - offsets[g];
    if (count == 0) return {};
    const View weight = weight_of(g);
    // Transposing costs about as much again as reading.
    const Index unit_rows = std::min(count, impl::kMostRows) + 2 * impl::kPanelCost;
    return {.rows = count,
            .row_limit = impl::kMostRows,
            .units = ceil_div(weight.rows, kPanel<T>),
            .unit_cost = unit_rows * weight.panels * kPanel<T>};
  };
  const TaskList list(tasks, groups, executor.concurrency(), impl::kLeastCost, extent_of);
  executor.parallel_for(list.size(), [&](Index index, Index worker) noexcept {
    T* const panel = scratch + worker * grouped_scratch<T>();
    T* const tiles = panel + impl::kSlice * kPanel<T>;  // [rows of the chunk][kPanel]
    const TileTask task = list[index];
    const View weight = weight_of(task.group);
    const Index first_row = offsets[task.group] + task.row;
    const Index count = task.row_end - task.row;
    const Index width = std::min(depth, weight.panels * kPanel<T>);
    const Index panels = ceil_div(width, kPanel<T>);
    const Index slices = std::max<Index>(1, ceil_div(panels * kPanel<T>, impl::kSlice));
    const Index first_slice = task.unit * slices;
    const Index end_slice = task.unit_end * slices;
    const auto slice_at = [&](Index s) noexcept {
      const Index part = s % slices;
      return impl::Slice{s / slices, panels * part / slices, panels * (part + 1) / slices};
    };
    for (Index s = first_slice; s < end_slice; ++s) {
      const impl::Slice slice = slice_at(s);
      const Index first_n = slice.first * kPanel<T>;
      const Index end_n = std::min(slice.end * kPanel<T>, width);
      const bool begins = s % slices == 0, ends = (s + 1) % slices == 0;
      const bool fetches = DenseStorage<typename View::Storage> && count >= Kernel::kPrefetchRows;
      impl::transpose_slice<Kernel>(weight, slice, fetches && s != first_slice, panel);
      impl::for_each_row_block<kTileRows<Arch, T>>(count, [&](Index first, Index m, Index block,
                                                              Index blocks) noexcept {
        T* const tile = tiles + first * kPanel<T>;
        TileStep step{.first = first_n, .resume = !begins};
        if (fetches && s + 1 < end_slice) {
          const impl::Slice next = slice_at(s + 1);
          const Index pitch = weight.rows * kPanel<T> * Index{sizeof(T)};  // from panel to panel
          step.fetch = {impl::block_address<Kernel>(weight, next.first, next.block), pitch, block, blocks};
        }
        gemm_tile<Arch>(rows + first_row + first, m, end_n - first_n, panel, tile, step);
        if (ends) epilogue(task.group, first_row + first, m, slice.block, tile);
      });
    }
  });
}

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
    const Index stop = std::min(begin + kTogether, count);
    T* tile = left;
    Index k = first;
    for (; k + kRows <= end; k += kRows, tile += count * kRows) {
      for (Index p = begin; p < stop; ++p) {
        prefetch_l2(rows[std::min(p + kTogether, count - 1)] + k);
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
  const Index columns = std::min(kPanel<T>, end - first);
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
            .units = std::min(gradient.panels, ceil_div(right_width, kPanel<T>)),
            .unit_cost = (count + 2 * impl::kPanelCost) * std::min(left_width, impl::kOuterColumns<T>)};
  };
  const TaskList list(tasks, groups, executor.concurrency(), impl::kLeastCost, extent_of);
  executor.parallel_for(list.size(), [&](Index index, Index worker) noexcept {
    T* const left = scratch + worker * grouped_scratch<T>();
    T* const right = left + impl::kOuterRows * impl::kOuterColumns<T>;
    const TileTask task = list[index];
    const PackedView<T> gradient = gradient_of(task.group);
    const Index first_k = task.row * kRows;
    const Index end_k = std::min(task.row_end * kRows, left_width);
    const Index end_row = offsets[task.group + 1];
    const Index tiles = task.row_end - task.row;
    for (Index row = offsets[task.group]; row < end_row; row += impl::kOuterRows) {
      const Index count = std::min(impl::kOuterRows, end_row - row);
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
                           std::min(kRows, end_k - first_k - t * kRows), panel + t * kRows * kPanel<T>, next);
        }
      }
    }
  });
}

MOE_NAMESPACE_END
