// Which micro-kernel multiplies with weights of a storage, and what it reads rows as.
#pragma once

#include <algorithm>
#include <cstdint>

#include "moe/core/types.hpp"
#include "moe/kernel/arch.hpp"
#include "moe/kernel/block_tile.hpp"
#include "moe/kernel/gemm_tile.hpp"
#include "moe/kernel/row.hpp"
#include "moe/kernel/row_group.hpp"
#include "moe/kernel/transpose_panel.hpp"
#include "moe/storage/packed_matrix.hpp"

MOE_NAMESPACE_BEGIN

/// `Cell`: a prepared row is an array of them, `stride(depth)` apart for rows of `depth` numbers. `kRounds`:
/// preparing rounds, `kWholeRows`: by what the whole row holds.
template <class Arch, class Storage>
struct TileKernel;

template <class Arch, DenseStorage Storage>
struct TileKernel<Arch, Storage> {
  using Real = Storage;
  using Cell = Storage;
  static constexpr bool kRounds = false;
  static constexpr bool kWholeRows = false;
  /// Most rows of a tile.
  static constexpr Index kRows = kTileRows<Arch, Storage>;
  /// AVX-512 on processors with AMX has every panel that only one tile reads fetched ahead of itself:
  /// prefetches of the next panel wait for the same few line buffers as the loads of this one. One core, 8
  /// rows: 13.5 GB/s against 11.7, 6 rows 13.5 against 9.2 without any, 1 row 15.5 against 13.5.
  static constexpr bool kStreamsTiles = kHasAmx && impl::kRowVectors<Arch, Storage> == 2;
  /// Rows from which on the next panel is prefetched. Fewer leave the memory no idle time to use, unless
  /// tiles take several passes over a panel, each by half lines, which the processor's own prefetch does not
  /// see through.
  static constexpr Index kPrefetchRows = kStreamsTiles ? kRows + 1
                                         : kOnePassRows<Arch, Storage> < kRows
                                             ? (std::min)(kOnePassRows<Arch, Storage> + 1, Index{2})
                                             : 8;
  /// It is fetched as so many stretches side by side: memory then serves several pages at once (8 rows on
  /// AVX2 14.4 GB/s against 8.5 in one stretch, 12 rows 12.4 against 8.1).
  static constexpr Index kFetchStreams = 8;
  /// A panel for at most so many rows is fetched kFetchAhead bytes before it is read. Elsewhere float needs
  /// no help: the processor's own prefetch is as fast. 8 rows 1, 2, 3, 4, 8 KiB ahead: 11.2, 12.5, 13.5,
  /// 12.2, 12.4 GB/s.
  static constexpr Index kStreamRows = kStreamsTiles ? kRows : 0;
  static constexpr std::uintptr_t kFetchAhead = 3072;
  /// Bytes of kPanel rows of a panel.
  static constexpr Index kPanelPitch = kPanel<Real> * kPanel<Real> * static_cast<Index>(sizeof(Real));

  static constexpr Index stride(Index depth) noexcept { return row_stride<Storage>(depth); }
  static void prepare(const Real* row, Index depth, Cell* cells) noexcept { copy_row(row, cells, depth); }

  /// tile [m][kPanel] = m rows times panel j.
  static void multiply(const Cell* const* rows, Index m, const PackedView<const Storage>& weight, Index j,
                       Real* tile, const PanelFetch& fetch) noexcept {
    gemm_tile<Arch>(rows, m, weight.rows, weight.panel(j), tile, TileStep{.fetch = fetch});
  }

  /// out [kPanel][kPanel]: rows k = block * kPanel on of panel j, transposed.
  static void transpose(const PackedView<const Storage>& weight, Index j, Index block, Real* out) noexcept {
    const Index rows = (std::min)(kPanel<Real>, weight.rows - block * kPanel<Real>);
    transpose_panel<Arch>(weight.panel(j) + block * kPanel<Real> * kPanel<Real>, rows, out);
  }
};

template <class Arch, BlockStorage Storage>
struct TileKernel<Arch, Storage> {
  using Real = float;
  using Cell = RowGroup<Arch, Storage>;
  static constexpr bool kRounds = true;
  static constexpr bool kWholeRows = moe::kWholeRows<Storage>;
  static constexpr Index kRows = kBlockTileRows<Arch, Storage>;
  /// The smaller the weights, the fewer rows keep the processor busy until they have arrived.
  static constexpr Index kPrefetchRows = kOnePassBlockRows<Arch, Storage> < kRows ? Index{2}
                                         : kGroupBytes<Storage> > 1536            ? Index{8}
                                         : kGroupBytes<Storage> > 768             ? Index{4}
                                                                                  : Index{2};
  /// 4 bits: so little a panel that one stretch is better (0.92 of its speed at 64 rows with 8).
  static constexpr Index kFetchStreams = kGroupBytes<Storage> > 768 ? 8 : 1;
  /// One row of codes is just so much work that the processor's own prefetch falls behind.
  static constexpr Index kStreamRows = 1;
  /// What 13 GB/s bring in 150 ns.
  static constexpr std::uintptr_t kFetchAhead = 2048;
  static constexpr Index kPanelPitch = kGroupBytes<Storage>;

  /// Not a multiple of 4 KiB: see row_stride.
  static constexpr Index stride(Index depth) noexcept {
    const Index cells = row_cells<Storage>(depth);
    return cells * Index{sizeof(Cell)} % 4096 == 0 ? cells + 1 : cells;
  }
  static void prepare(const Real* row, Index depth, Cell* cells) noexcept {
    prepare_row<Arch, Storage>(row, depth, cells);
  }

  static void multiply(const Cell* const* rows, Index m, const PackedView<const Storage>& weight, Index j,
                       Real* tile, const PanelFetch& fetch) noexcept {
    block_tile<Arch, Storage>(rows, m, ceil_div(weight.rows, kBlockRows), weight.panel(j), tile, fetch);
  }

  static void transpose(const PackedView<const Storage>& weight, Index j, Index block, Real* out) noexcept {
    alignas(64) float values[kBlockRows * kPanel<float>];
    decode_rows(weight.panel(j), block, values);
    transpose_panel<Arch>(values, kBlockRows, out);
  }
};

MOE_NAMESPACE_END
