// The products of all experts at once: forward, with the transposed weights, and the gradients of the
// weights.
//
// Rows come sorted by group (expert): group g owns rows offsets[g] .. offsets[g + 1] - 1, each given by a
// pointer of any alignment. matrix_of(g) is asked for groups with rows only. Panels run outermost and rows
// inside, so that weights are read from memory once per row chunk while the rows stay in cache; while the
// tiles of one panel run, the next panel (or the next task's first), or with few rows what is ahead in this
// one, is prefetched (FetchPlan). The work is one flat list of tasks (product/tile_tasks.hpp); every element
// of a result belongs to one task and is summed in one fixed order, so no result depends on the executor.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "moe/core/executor.hpp"
#include "moe/core/types.hpp"
#include "moe/product/tile_kernel.hpp"
#include "moe/product/tile_tasks.hpp"

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

/// Rows from which on the next slice to transpose is prefetched.
inline constexpr Index kTransposedPrefetchRows = 8;

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

/// `bytes` beyond `panel`. Past the panel's end lies the next one, or nothing of interest: a prefetch may
/// name any address.
inline const void* ahead_of(const void* panel, std::uintptr_t bytes) noexcept {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): past the array's end a pointer may not be formed by adding.
  return reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(panel) + bytes);
}

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

/// Row p of group g times matrix_of(g), for all: the product's tiles go to `epilogue`, kPanels panels of them
/// at once.
///
/// rows [P]: row p has TileKernel's cells for matrix_of(g).rows numbers. matrix_of(g) -> PackedView of const,
/// a multiple of kPanels panels. epilogue(g, first, m, unit, tile), noexcept, gets the finished tiles
/// [kPanels][TileKernel::kRows][kPanel] of panels unit * kPanels and on, rows first .. first + m - 1, exactly
/// once, from any worker; it may overwrite them. announce(row, unit), noexcept, is called before the tile of
/// that row is computed: the place to prefetch what the epilogue will write. tasks: scratch
/// [task_list_size(groups)].
template <class Arch, Index kPanels = 1, class Cell, class MatrixOf, class Epilogue, Executor X,
          class Announce = impl::NoAnnounce>
void grouped_gemm(const Cell* const* rows, const Index* offsets, Index groups, MatrixOf matrix_of,
                  Epilogue epilogue, Index* tasks, X& executor, Announce announce = {}) noexcept {
  using View = std::invoke_result_t<MatrixOf, Index>;
  using Kernel = TileKernel<Arch, typename View::Storage>;
  using T = typename Kernel::Real;
  const auto extent_of = [&](Index g) noexcept -> GroupExtent {
    const Index count = offsets[g + 1] - offsets[g];
    if (count == 0) return {};
    const View weight = matrix_of(g);
    MOE_ASSERT(weight.panels % kPanels == 0);
    const Index row_bytes = std::max<Index>(Kernel::stride(weight.rows), 1) * Index{sizeof(Cell)};
    const Index limit = std::clamp(impl::kChunkBytes / row_bytes, impl::kFewestRows, impl::kMostRows);
    return {.rows = count,
            .row_limit = limit,
            .units = weight.panels / kPanels,
            .unit_cost = ((std::min)(count, limit) + impl::kPanelCost) * weight.rows * kPanels};
  };
  const TaskList list(tasks, groups, executor.concurrency(), impl::kLeastCost, extent_of);
  const FetchPlan plan = Kernel::fetch_plan();
  executor.parallel_for(list.size(), [&](Index index, Index) noexcept {
    const TileTask task = list[index];
    const View weight = matrix_of(task.group);
    const Index first_row = offsets[task.group] + task.row;
    const Index count = task.row_end - task.row;
    const bool fetches = count >= plan.next_from;
    const bool fetches_itself = count >= plan.ahead_from && count <= plan.ahead_to;
    // When tasks take equally long, this worker's next one is as many tasks away as there are workers.
    const Index next_index = index + executor.concurrency();
    const bool continues = fetches && next_index < list.size();
    const TileTask next = continues ? list[next_index] : TileTask{};
    const View next_weight = continues ? matrix_of(next.group) : weight;
    constexpr Index kTile = Kernel::kRows * kPanel<T>;
    alignas(64) T tiles[kPanels * kTile];
    const Index blocks = ceil_div(count, Kernel::kRows);
    for (Index unit = task.unit; unit < task.unit_end; ++unit) {
      const bool last = unit + 1 == task.unit_end;
      const View& ahead = last ? next_weight : weight;
      const Index ahead_panel = (last ? next.unit : unit + 1) * kPanels;
      const bool fetch_next = last ? continues : fetches;
      impl::for_each_row_block<Kernel::kRows>(count, [&](Index first, Index m, Index block, Index) noexcept {
        for (Index i = 0; i < m; ++i) announce(first_row + first + i, unit);
        for (Index p = 0; p < kPanels; ++p) {
          PanelFetch fetch;
          if (fetch_next) {
            fetch = {ahead.panel(ahead_panel + p), Kernel::kPanelPitch, block, blocks, plan.streams};
          } else if (fetches_itself) {
            fetch = {impl::ahead_of(weight.panel(unit * kPanels + p), plan.ahead), Kernel::kPanelPitch, 0, 1};
          }
          Kernel::multiply(rows + first_row + first, m, weight, unit * kPanels + p, tiles + p * kTile, fetch);
        }
        epilogue(task.group, first_row + first, m, unit, tiles);
      });
    }
  });
}

MOE_NAMESPACE_END
