// Which micro-kernel multiplies with weights of a storage, and what it reads rows as.
#pragma once

#include <algorithm>
#include <cstdint>

#include "moe/core/types.hpp"
#include "moe/kernel/arch.hpp"
#include "moe/kernel/block_tile.hpp"
#include "moe/kernel/gemm_tile.hpp"
#include "moe/kernel/prefetch.hpp"
#include "moe/kernel/row.hpp"
#include "moe/kernel/row_group.hpp"
#include "moe/kernel/transpose_panel.hpp"
#include "moe/storage/packed_matrix.hpp"

MOE_NAMESPACE_BEGIN

/// How the panels of a product come from memory, by the rows that meet one. All constants are measured:
/// docs/performance.md, "Prefetches".
struct FetchPlan {
  /// From so many rows on the next panel is fetched while tiles of this one run. Fewer leave the memory no
  /// idle time to use, unless tiles take several passes over a panel, each by half lines, which the
  /// processor's own prefetch does not see through.
  Index next_from = 1;
  /// As so many stretches side by side: Intel's memory then serves several pages at once, AMD's slows down.
  Index streams = 1;
  /// With so many rows a panel is fetched itself, `ahead` bytes before it is read.
  Index ahead_from = 1;
  Index ahead_to = 0;
  std::uintptr_t ahead = 0;
};

/// As far as 40 GB/s come in 150 ns.
inline constexpr std::uintptr_t kAmdAhead = 6144;

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
  static FetchPlan fetch_plan() noexcept {
    constexpr Index kOnePass = kOnePassRows<Arch, Storage>;
    if (on_amd()) {
      const Index from = kOnePass < kRows ? 1 : 4;
      return {.next_from = kOnePass + 1, .ahead_from = from, .ahead_to = kOnePass, .ahead = kAmdAhead};
    }
    if (kOnePass < kRows) return {.next_from = (std::min)(kOnePass + 1, Index{2}), .streams = 8};
    if (!kHasAmx || impl::kRowVectors<Arch, Storage> != 2) return {.next_from = 8, .streams = 8};
    return {.next_from = kRows + 1, .streams = 8, .ahead_from = 1, .ahead_to = kRows, .ahead = 3072};
  }
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
  static FetchPlan fetch_plan() noexcept {
    constexpr Index kOnePass = kOnePassBlockRows<Arch, Storage>;
    constexpr bool kCodes = kGroupBytes<Storage> <= 1536;
    constexpr bool kHalfBytes = kGroupBytes<Storage> <= 768;
    if (on_amd()) {
      // 41 GB/s for one row, 6 KiB ahead 40.
      if (kHalfBytes) return {.next_from = 2, .ahead_from = 1, .ahead_to = 1, .ahead = 8192};
      const Index from = kCodes || kOnePass < kRows ? 1 : 6;
      const Index to = kCodes && kOnePass < kRows ? 1 : kOnePass;
      return {.next_from = to + 1, .ahead_from = from, .ahead_to = to, .ahead = kAmdAhead};
    }
    // The smaller the weights, the fewer rows keep the processor busy until they have arrived. One row of
    // codes is just so much work that the processor's own prefetch falls behind. 13 GB/s bring 2 KiB in
    // 150 ns.
    const Index next = kOnePass < kRows || kHalfBytes ? 2 : kCodes ? 4 : 8;
    return {.next_from = next, .streams = kHalfBytes ? 1 : 8, .ahead_from = 1, .ahead_to = 1, .ahead = 2048};
  }
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
