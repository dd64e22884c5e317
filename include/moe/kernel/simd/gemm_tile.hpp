// gemm_tile in vector registers.
//
// A tile is kRows x kVectors accumulators, kept in registers over the whole depth; each step of k loads the
// panel's vectors once and broadcasts one number of each row. Registers that hold accumulators are written as
// one array indexed by constants in folds: g++ 12 keeps that in registers, and stores an array that a loop
// runs over to memory at every step, at half the speed.
#pragma once

#include <algorithm>
#include <type_traits>
#include <utility>

#include "moe/kernel/arch.hpp"
#include "moe/kernel/panel.hpp"
#include "moe/kernel/prefetch.hpp"
#include "moe/kernel/ref/gemm_tile.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

#if defined(__aarch64__)
inline constexpr bool kIsArm64 = true;
#else
inline constexpr bool kIsArm64 = false;
#endif

template <class Arch, class T>
requires SimdArch<Arch, T>
struct TileShape<Arch, T> {
  static constexpr int kLanes = static_cast<int>(Batch<T, Arch>::size);
  static constexpr int kPanelVectors = static_cast<int>(kPanel<T>) / kLanes;
  /// 32 vector registers on AVX-512 and 64-bit Arm, 16 elsewhere.
  static constexpr int kRegisters = kLanes * sizeof(T) == 64 || kIsArm64 ? 32 : 16;
  /// 8 x 2: 16 chains hide the latency of fma (4 cycles, 2 a cycle) twice over, and 8 rows are as many cache
  /// lines 4 KiB apart as a first-level cache of 8 ways holds (12 and 14 rows collapse at such strides).
  /// 6 x 2 fills 16 registers: 12 accumulators, 2 vectors of the panel, 1 broadcast.
  static constexpr Index kRows = kRegisters == 32 ? 8 : 6;
  /// Vectors of the panel taken at once for m rows; the rest of the panel takes further passes. Few rows take
  /// all of it: enough independent chains, and memory read in order.
  static constexpr int vectors(int m) noexcept {
    int count = kPanelVectors;
    while (count > 2 && (m + 1) * count + 1 > kRegisters) count /= 2;
    return count;
  }
};

/// Prefetches of one pass over a panel: `lines` cache lines before each kUnroll steps of k, then `bump` bytes
/// on; `pitch` bytes on after each kPanel rows.
struct PassFetch {
  const char* at = nullptr;
  Index lines = 0;
  Index bump = 0;
  Index pitch = 0;
};

inline constexpr Index kTileUnroll = 4;

/// sum += x * weight; `kSums`: how many sums the tile has. More than 8 of AVX2's 16 registers, and the
/// instruction is named: g++ 12 lets a product take a factor's register, moves sums around for it and has one
/// of 12 in memory. (One row of 4 sums from memory is 10 % slower when it is named.)
template <std::size_t kSums, class B>
MOE_ALWAYS_INLINE void add_product(B& sum, const B& x, const B& weight) noexcept {
#if defined(__FMA__) && !defined(__AVX512F__) && (defined(__GNUC__) || defined(__clang__))
  if constexpr (kSums > 8 && sizeof(B) == 32 && std::is_same_v<typename B::value_type, float>) {
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum.data) : "x"(x.data), "x"(weight.data));
    return;
  } else if constexpr (kSums > 8 && sizeof(B) == 32 && std::is_same_v<typename B::value_type, double>) {
    __asm__("vfmadd231pd %2, %1, %0" : "+x"(sum.data) : "x"(x.data), "x"(weight.data));
    return;
  }
#endif
  sum = fma(x, weight, sum);
}

template <class B, int kVectors, class T, std::size_t... V, std::size_t... I>
MOE_ALWAYS_INLINE void tile_step(const T* const* row, Index k, const T* panel, B* sum,
                                 std::index_sequence<V...>, std::index_sequence<I...>) noexcept {
  B weight[kVectors] = {B::load_aligned(panel + V * B::size)...};
  (hold_in_register(weight[V]), ...);
  (add_product<sizeof...(I)>(sum[I], B(row[I / kVectors][k]), weight[I % kVectors]), ...);
}

/// kVectors vectors of each panel row, for kRows rows.
template <class B, int kVectors, class T, std::size_t... R, std::size_t... V, std::size_t... I>
MOE_NOINLINE void tile_pass(const T* const* rows, Index first, Index depth, const T* panel, T* tile,
                            bool resume, const PassFetch& fetch, std::index_sequence<R...>,
                            std::index_sequence<V...> vectors, std::index_sequence<I...> all) noexcept {
  const T* const row[] = {rows[R] + first...};
  B sum[sizeof...(I)] = {((void)I, B(T(0)))...};
  if (resume) ((sum[I] = B::load_aligned(tile + I / kVectors * kPanel<T> + I % kVectors * B::size)), ...);
  // By reference and copied here: a struct passed by value is copied in one wide load from stores that are
  // still on their way behind the results of the last tile, 3 % of the time.
  const Index lines = fetch.lines, bump = fetch.bump;
  const char* fetched = fetch.at;
  Index k = 0;
  for (Index block = 0; block + kPanel<T> <= depth; block += kPanel<T>) {
    const char* line = fetched;
    for (; k < block + kPanel<T>; k += kTileUnroll) {
      for (Index l = 0; l < lines; ++l) prefetch_l2(line + l * 64);
      line += bump;
      tile_step<B, kVectors>(row, k, panel, sum, vectors, all);
      tile_step<B, kVectors>(row, k + 1, panel + kPanel<T>, sum, vectors, all);
      tile_step<B, kVectors>(row, k + 2, panel + 2 * kPanel<T>, sum, vectors, all);
      tile_step<B, kVectors>(row, k + 3, panel + 3 * kPanel<T>, sum, vectors, all);
      panel += kTileUnroll * kPanel<T>;
    }
    fetched += fetch.pitch;
  }
  for (; k < depth; ++k) {
    tile_step<B, kVectors>(row, k, panel, sum, vectors, all);
    panel += kPanel<T>;
  }
  (sum[I].store_aligned(tile + I / kVectors * kPanel<T> + I % kVectors * B::size), ...);
}

/// m == kRows rows against the whole panel.
template <class Arch, std::size_t kRows, class T>
void tile_rows(const T* const* rows, Index depth, const T* panel, T* tile, const TileStep& step) noexcept {
  using B = Batch<T, Arch>;
  using Shape = TileShape<Arch, T>;
  constexpr int kVectors = Shape::vectors(static_cast<int>(kRows));
  constexpr Index kPasses = Shape::kPanelVectors / kVectors;
  constexpr Index kGroups = kPanel<T> / kTileUnroll;  // of steps, in a block
  PassFetch fetch;
  const Index parts = kPasses * step.fetch.parts;
  Index share = ceil_div(step.fetch.pitch, parts);  // of kPanel rows, in a pass
  if (step.fetch.streams == 1) {
    fetch = {nullptr, ceil_div(share, 64 * kGroups), ceil_div(share, kGroups), step.fetch.pitch};
  } else {
    // kGroups stretches, a piece of each by turns.
    const Index piece = ceil_div(share, kGroups), stretch = depth / kPanel<T> * step.fetch.pitch / kGroups;
    fetch = {nullptr, ceil_div(piece, 64), stretch, piece};
    share = ceil_div(stretch, parts);
  }
  if (step.fetch.at == nullptr) fetch = {};
  for (Index pass = 0; pass < kPasses; ++pass) {
    if (step.fetch.at != nullptr) {
      fetch.at = static_cast<const char*>(step.fetch.at) + (step.fetch.part * kPasses + pass) * share;
    }
    const Index column = pass * kVectors * static_cast<Index>(B::size);
    tile_pass<B, kVectors>(rows, step.first, depth, panel + column, tile + column, step.resume, fetch,
                           std::make_index_sequence<kRows>{}, std::make_index_sequence<kVectors>{},
                           std::make_index_sequence<kRows * kVectors>{});
  }
}

template <class T, class Arch>
requires SimdArch<Arch, T>
void gemm_tile(const T* const* rows, Index m, Index depth, const T* panel, T* tile, const TileStep& step,
               Arch) noexcept {
  constexpr Index kRows = TileShape<Arch, T>::kRows;
  switch (m) {
    case 1:
      return tile_rows<Arch, 1>(rows, depth, panel, tile, step);
    case 2:
      return tile_rows<Arch, 2>(rows, depth, panel, tile, step);
    case 3:
      return tile_rows<Arch, 3>(rows, depth, panel, tile, step);
    case 4:
      return tile_rows<Arch, 4>(rows, depth, panel, tile, step);
    case 5:
      return tile_rows<Arch, 5>(rows, depth, panel, tile, step);
    case 6:
      return tile_rows<Arch, 6>(rows, depth, panel, tile, step);
    default:
      break;
  }
  if constexpr (kRows > 6) {
    if (m == 7) return tile_rows<Arch, 7>(rows, depth, panel, tile, step);
    return tile_rows<Arch, 8>(rows, depth, panel, tile, step);
  }
}

}  // namespace impl

MOE_NAMESPACE_END
