// Rows mixed by dense matrices, in groups: out = M in, one M for each group. Both sides of a soft layer are
// this product, dispatch (slots = D rows) and combine (rows = C results), and so are their input gradients,
// by the transposes. As product/grouped.hpp, on its kernels.
#pragma once

#include <cstring>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/kernel/arch.hpp"
#include "moe/kernel/panel.hpp"
#include "moe/kernel/row.hpp"
#include "moe/product/grouped.hpp"
#include "moe/product/grouped_outer.hpp"
#include "moe/product/grouped_transposed.hpp"
#include "moe/product/tile_tasks.hpp"
#include "moe/storage/packed_matrix.hpp"

MOE_NAMESPACE_BEGIN

/// The rows of one product: group g mixes in rows in_offsets[g] .. in_offsets[g + 1] - 1 to out rows
/// out_offsets[g] .. out_offsets[g + 1] - 1, all `width` wide. weight[o], of an out row o, has a number for
/// each in row of its group.
template <class T>
struct RowMix {
  Index groups = 0;
  const Index* in_offsets = nullptr;   // [G + 1]
  const Index* out_offsets = nullptr;  // [G + 1]
  const T* const* in = nullptr;        // by in row; null: zeros
  const T* const* weight = nullptr;    // by out row
  Index width = 0;

  Index in_rows() const noexcept { return groups == 0 ? 0 : in_offsets[groups]; }
  Index out_rows() const noexcept { return groups == 0 ? 0 : out_offsets[groups]; }
};

namespace impl {

/// f(group, first, last), noexcept, for all rows of all groups: places first .. last - 1 of a group, of up to
/// kRows rows that a worker takes at once.
template <Index kRows, Executor X, class F>
void each_run_of_rows(const Index* offsets, Index groups, X& executor, const F& f) {
  const Index rows = groups == 0 ? 0 : offsets[groups];
  executor.parallel_for(ceil_div(rows, kRows), [&](Index block, Index) noexcept {
    const Index end = (block + 1) * kRows < rows ? (block + 1) * kRows : rows;
    Index g = 0;  // the last group that begins at or before the block
    for (Index after = groups; after - g > 1;) {
      const Index middle = g + (after - g) / 2;
      (offsets[middle] <= block * kRows ? g : after) = middle;
    }
    for (Index first = block * kRows, last = first; first < end; first = last) {
      while (offsets[g + 1] <= first) ++g;
      last = offsets[g + 1] < end ? offsets[g + 1] : end;
      f(g, first - offsets[g], last - offsets[g]);
    }
  });
}

/// The in rows as the kernels read a matrix: [rows of the group][kPanel] by panel of columns.
template <class T>
struct PackedRows {
  T* data;       // [in rows, panels, kPanel]
  Index* tasks;  // [groups + 1]

  PackedRows(Arena& arena, Index groups, Index in_rows, Index width)
      : data(arena.take<T>(checked_product("mixed rows", in_rows, plain_panels<T>(width), kPanel<T>))),
        tasks(arena.take<Index>(task_list_size(groups))) {}

  PackedView<const T> of(const RowMix<T>& mix, Index g) const noexcept {
    const Index panels = plain_panels<T>(mix.width);
    return {data + mix.in_offsets[g] * panels * kPanel<T>, mix.in_offsets[g + 1] - mix.in_offsets[g], panels};
  }

  template <Executor X>
  void pack(const RowMix<T>& mix, X& executor) const {
    const Index panels = plain_panels<T>(mix.width);
    const auto pack_run = [&](Index g, Index first, Index last) noexcept {
      const Index begin = mix.in_offsets[g], count = mix.in_offsets[g + 1] - begin;
      for (Index j = 0; j < panels; ++j) {
        T* to = data + (begin * panels + j * count + first) * kPanel<T>;
        const Index column = j * kPanel<T>, left = mix.width - column;
        for (Index r = begin + first; r < begin + last; ++r, to += kPanel<T>) {
          const T* const from = mix.in[r];
          if (from == nullptr) {
            moe::fill_row(T{0}, to, kPanel<T>);
          } else if (left >= kPanel<T>) {
            std::memcpy(to, from + column, sizeof(T) * kPanel<T>);
          } else {
            copy_padded(from + column, left, to, kPanel<T>);
          }
        }
      }
    };
    each_run_of_rows<32>(mix.in_offsets, mix.groups, executor, pack_run);
  }
};

}  // namespace impl

/// Takes from a measuring arena what mix_rows takes.
template <class T>
void measure_mix_rows(Arena& arena, Index groups, Index in_rows, Index width) {
  impl::PackedRows<T>{arena, groups, in_rows, width};
}

/// out[o] = sum over the in rows i of o's group of weight[o][i] * in[i], or out[o] += that. Each sum is ONE
/// chain of fma, i ascending, from +0.
template <class T, Executor X>
void mix_rows(const RowMix<T>& mix, T* const* out, bool add, Arena& arena, X& executor) {
  const impl::PackedRows<T> packed(arena, mix.groups, mix.in_rows(), mix.width);
  packed.pack(mix, executor);
  for (Index g = 0; g < mix.groups; ++g) {  // nothing to mix: the kernels do not see such a group
    if (mix.in_offsets[g] != mix.in_offsets[g + 1] || add) continue;
    for (Index o = mix.out_offsets[g]; o < mix.out_offsets[g + 1]; ++o) fill_row(T{0}, out[o], mix.width);
  }
  grouped_gemm<native_arch>(
      mix.weight, mix.out_offsets, mix.groups, [&](Index g) noexcept { return packed.of(mix, g); },
      [&](Index, Index first, Index m, Index panel, const T* tile) noexcept {
        const Index column = panel * kPanel<T>;
        const Index count = mix.width - column < kPanel<T> ? mix.width - column : kPanel<T>;
        for (Index i = 0; i < m; ++i) {
          T* const to = out[first + i] + column;
          add ? add_row(tile + i * kPanel<T>, to, count) : copy_row(tile + i * kPanel<T>, to, count);
        }
      },
      packed.tasks, executor);
}

template <class T>
void measure_mix_weight_gradients(Arena& arena, Index groups, Index in_rows, Index width, Index concurrency) {
  impl::PackedRows<T>{arena, groups, in_rows, width};
  arena.take<T>(concurrency * grouped_scratch<T>());
}

/// dweight[o][i] = <dout[o], in[i]>, for all of the group: what the weights of mix_rows are worth. mix.weight
/// is not read.
template <class T, Executor X>
void mix_weight_gradients(const RowMix<T>& mix, const T* const* dout, T* const* dweight, Arena& arena,
                          X& executor) {
  const impl::PackedRows<T> packed(arena, mix.groups, mix.in_rows(), mix.width);
  T* const panels = arena.take<T>(executor.concurrency() * grouped_scratch<T>());
  packed.pack(mix, executor);
  grouped_gemm_transposed<native_arch>(
      dout, mix.width, mix.out_offsets, mix.groups, [&](Index g) noexcept { return packed.of(mix, g); },
      [&](Index g, Index first, Index m, Index block, const T* tile) noexcept {
        const Index column = block * kPanel<T>;
        const Index left = mix.in_offsets[g + 1] - mix.in_offsets[g] - column;
        for (Index i = 0; i < m; ++i) {
          copy_row(tile + i * kPanel<T>, dweight[first + i] + column, left < kPanel<T> ? left : kPanel<T>);
        }
      },
      packed.tasks, panels, executor);
}

/// to[i][o] = from[o][i], for every group; `mix` says which rows are whose, its rows are not read.
template <class T, Executor X>
void transpose_weights(const RowMix<T>& mix, const T* const* from, T* const* to, X& executor) {
  impl::each_run_of_rows<kHalf<T>>(  // a cache line of each row that is read
      mix.in_offsets, mix.groups, executor, [&](Index g, Index first, Index last) noexcept {
        const Index in = mix.in_offsets[g], out = mix.out_offsets[g];
        for (Index o = 0; o < mix.out_offsets[g + 1] - out; ++o) {
          for (Index i = first; i < last; ++i) to[in + i][o] = from[out + o][i];
        }
      });
}

MOE_NAMESPACE_END
