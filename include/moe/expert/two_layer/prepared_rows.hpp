// Rows as the kernels of a storage read them: block storages round every row, once, however many experts read
// it; dense storages take rows where they are, unless they lie badly for the cache.
#pragma once

#include "moe/core/executor.hpp"
#include "moe/core/workspace.hpp"
#include "moe/expert/concept.hpp"

MOE_NAMESPACE_BEGIN

/// Scratch for the rows of a batch. `Kernel`: a TileKernel.
template <class Kernel>
class PreparedRows {
 public:
  using Real = typename Kernel::Real;
  using Cell = typename Kernel::Cell;

  /// Room for up to `slots` rows of `width` numbers.
  PreparedRows(Arena& arena, Index slots, Index width) : width_(width) {
    if (!Kernel::kRounds && !lies_badly(width)) return;
    row_ = arena.take<const Cell*>(slots);
    source_ = arena.take<const Real*>(slots);
    cell_ = arena.take<Cell>(checked_product("prepared rows", slots, Kernel::stride(width)));
  }

  /// [P] the prepared row of every slot: `row` [P], of which those of one token are the same.
  template <Executor X>
  const Cell* const* prepare(const Real* const* row, const RowBatch<Real>& batch,
                             X& executor) const noexcept {
    const Index slots = batch.slots();
    // There is room for `slots` rows: with more tokens than slots, every slot has a row of its own.
    const bool by_token = batch.tokens > 0 && batch.tokens <= slots;
    if constexpr (!Kernel::kRounds) {
      if (cell_ == nullptr || !by_token || batch.tokens < kWorthCopying) return row;
    }
    const Index rows = by_token ? batch.tokens : slots, stride = Kernel::stride(width_);
    for (Index r = 0; r < rows; ++r) source_[r] = nullptr;
    for (Index s = 0; s < slots; ++s) {
      const Index r = by_token ? Index{batch.token[s]} : s;
      MOE_ASSERT(r >= 0 && r < rows && (source_[r] == nullptr || source_[r] == row[s]));
      source_[r] = row[s];
      row_[s] = cell_ + r * stride;
    }
    constexpr Index kRows = 4;  // of a task
    executor.parallel_for(ceil_div(rows, kRows), [&](Index task, Index) noexcept {
      for (Index r = task * kRows; r < rows && r < (task + 1) * kRows; ++r) {
        if (source_[r] != nullptr) Kernel::prepare(source_[r], width_, cell_ + r * stride);
      }
    });
    return row_;
  }

 private:
  /// Fewer rows hardly fill a tile.
  static constexpr Index kWorthCopying = 16;

  /// Rows that follow each other without a gap would be a multiple of 4 KiB apart: see row_stride.
  static constexpr bool lies_badly(Index width) noexcept { return width * Index{sizeof(Real)} % 4096 == 0; }

  Index width_;
  const Cell** row_ = nullptr;     // [P]
  const Real** source_ = nullptr;  // [rows] null: no slot reads it
  Cell* cell_ = nullptr;           // [rows, stride]
};

MOE_NAMESPACE_END
