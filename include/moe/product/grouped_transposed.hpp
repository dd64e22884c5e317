// The products of all experts with the transposes of their matrices: what their backward passes on. As
// product/grouped.hpp, whose words hold here too.
#pragma once

#include <algorithm>
#include <type_traits>

#include "moe/core/executor.hpp"
#include "moe/core/types.hpp"
#include "moe/kernel/prefetch.hpp"
#include "moe/product/grouped.hpp"
#include "moe/product/tile_kernel.hpp"
#include "moe/product/tile_tasks.hpp"

MOE_NAMESPACE_BEGIN

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

/// Row p of group g times the transpose of matrix_of(g): C[p][k] = sum over n of rows[p][n] * W[k][n], n in
/// panel order.
///
/// rows [P]: row p has `depth` numbers in panel order, or as many as matrix_of(g) has positions if that is
/// less. epilogue(g, first, m, block, tile), noexcept, gets C of rows first .. first + m - 1 and k from block
/// * kPanel on as a tile [m][kPanel] exactly once; from k = matrix_of(g).rows on there is nothing in it worth
/// reading. tasks: scratch [task_list_size(groups)]; scratch: [executor.concurrency() *
/// grouped_scratch<T>()], aligned to 64 bytes. Each element is ONE chain of fma, n ascending, from +0.
template <class Arch, class T, class MatrixOf, class Epilogue, Executor X>
void grouped_gemm_transposed(const T* const* rows, Index depth, const Index* offsets, Index groups,
                             MatrixOf matrix_of, Epilogue epilogue, Index* tasks, T* scratch,
                             X& executor) noexcept {
  using View = std::invoke_result_t<MatrixOf, Index>;
  using Kernel = TileKernel<Arch, typename View::Storage>;
  const auto extent_of = [&](Index g) noexcept -> GroupExtent {
    const Index count = offsets[g + 1] - offsets[g];
    if (count == 0) return {};
    const View weight = matrix_of(g);
    // Transposing costs about as much again as reading.
    const Index unit_rows = (std::min)(count, impl::kMostRows) + 2 * impl::kPanelCost;
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
    const View weight = matrix_of(task.group);
    const Index first_row = offsets[task.group] + task.row;
    const Index count = task.row_end - task.row;
    const Index width = (std::min)(depth, weight.panels * kPanel<T>);
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
      const Index end_n = (std::min)(slice.end * kPanel<T>, width);
      const bool begins = s % slices == 0, ends = (s + 1) % slices == 0;
      const bool fetches = DenseStorage<typename View::Storage> && count >= impl::kTransposedPrefetchRows;
      impl::transpose_slice<Kernel>(weight, slice, fetches && s != first_slice, panel);
      impl::for_each_row_block<kTileRows<Arch, T>>(count, [&](Index first, Index m, Index block,
                                                              Index blocks) noexcept {
        T* const tile = tiles + first * kPanel<T>;
        TileStep step{.first = first_n, .resume = !begins};
        if (fetches && s + 1 < end_slice) {
          const impl::Slice next = slice_at(s + 1);
          const Index pitch = weight.pitch * Index{sizeof(T)};  // from panel to panel
          step.fetch = {impl::block_address<Kernel>(weight, next.first, next.block), pitch, block, blocks};
        }
        gemm_tile<Arch>(rows + first_row + first, m, end_n - first_n, panel, tile, step);
        if (ends) epilogue(task.group, first_row + first, m, slice.block, tile);
      });
    }
  });
}

MOE_NAMESPACE_END
