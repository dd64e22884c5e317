// Plain loops of gemm_tile, and the words its forms share.
#pragma once

#include "moe/kernel/arch.hpp"
#include "moe/kernel/panel.hpp"

MOE_NAMESPACE_BEGIN

/// What to bring to the second-level cache while a tile runs: part `part` of `parts` of another panel, whose
/// kPanel-row blocks lie `pitch` bytes apart. The tiles that run against one panel take one part each, so
/// that together they fetch the next panel, evenly spread over all their steps: a part of every block, or
/// where blocks follow each other and parts are many a stretch of its own. Unless `streams` is 1, the other
/// panel is fetched as that many stretches (or so) by turns, a part of each stretch: memory then serves
/// several pages at once. Only a panel whose blocks follow each other can be.
struct PanelFetch {
  const void* at = nullptr;  // null: no prefetch
  Index pitch = 0;
  Index part = 0;
  Index parts = 1;
  Index streams = 1;
};

/// How one call of gemm_tile fits into a longer product.
struct TileStep {
  Index first = 0;      // rows[i][first] meets panel[0]
  bool resume = false;  // the sums go on from what `tile` holds
  PanelFetch fetch = {};
};

namespace impl {

template <class Arch, class T>
struct TileShape;

template <class T>
struct TileShape<reference_arch, T> {
  static constexpr Index kRows = 4;
};

template <class T>
void gemm_tile(const T* const* rows, Index m, Index depth, const T* panel, T* tile, const TileStep& step,
               reference_arch) noexcept {
  for (Index i = 0; i < m; ++i) {
    T* sums = tile + i * kPanel<T>;
    if (!step.resume) {
      for (Index c = 0; c < kPanel<T>; ++c) sums[c] = T(0);
    }
    for (Index k = 0; k < depth; ++k) {
      for (Index c = 0; c < kPanel<T>; ++c) {
        sums[c] = fma(rows[i][step.first + k], panel[k * kPanel<T> + c], sums[c]);
      }
    }
  }
}

}  // namespace impl

MOE_NAMESPACE_END
