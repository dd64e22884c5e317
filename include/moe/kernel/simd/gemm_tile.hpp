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

/// Prefetches of one pass over a panel: the cache lines that begin in `bytes` bytes, before each kTileUnroll
/// steps of k, then `bump` bytes on; `pitch` bytes on after each kPanel rows.
struct PassFetch {
  const char* at = nullptr;
  Index bytes = 0;
  Index bump = 0;
  Index pitch = 0;
};

inline constexpr Index kTileUnroll = 4;

/// What pass `pass` of `passes` of a tile of T fetches.
template <class T>
PassFetch pass_fetch(const PanelFetch& fetch, Index depth, Index pass, Index passes) noexcept {
  constexpr Index kSteps = kPanel<T> / kTileUnroll;  // in a block of kPanel rows
  constexpr Index kBlockBytes = kPanel<T> * kPanel<T> * Index{sizeof(T)};
  if (fetch.at == nullptr) return {};
  const char* const at = static_cast<const char*>(fetch.at);
  const Index blocks = depth / kPanel<T>;
  const Index parts = passes * fetch.parts, part = fetch.part * passes + pass;
  const Index share = ceil_div(kBlockBytes, parts), piece = ceil_div(share, kSteps);
  if (fetch.streams > 1) {
    // kSteps stretches, a piece of each by turns.
    const Index stretch = blocks * fetch.pitch / kSteps;
    return {at + part * ceil_div(stretch, parts), piece, stretch, piece};
  }
  if (parts > 2 && fetch.pitch == kBlockBytes) {
    // Many parts take a stretch each: where they share pages, AMD's memory has slow hours (24 rows of float
    // on AVX-512 13 to 20 GB/s instead of 21).
    return {at + part * ceil_div(blocks * kBlockBytes, parts), piece, piece, piece * kSteps};
  }
  return {at + part * share, piece, piece, fetch.pitch};
}

/// Where the prefetches of a pass are.
class PassCursor {
 public:
  explicit PassCursor(const PassFetch& fetch) noexcept
      : block_(fetch.at), bytes_(fetch.bytes), bump_(fetch.bump), pitch_(fetch.pitch) {}

  MOE_ALWAYS_INLINE void begin_block() noexcept {
    line_ = next_line(block_);
    end_ = block_ + bytes_;
    block_ += pitch_;
  }
  /// fetch(line) for the lines of kTileUnroll steps.
  template <class F>
  MOE_ALWAYS_INLINE void step(const F& fetch) noexcept {
    const char* const begin = line_;
    for (; line_ < end_; line_ += 64) fetch(line_);
    if (bump_ != bytes_) line_ = begin + bump_;
    end_ += bump_;
  }

 private:
  const char* block_;
  Index bytes_, bump_, pitch_;
  const char* line_ = nullptr;
  const char* end_ = nullptr;
};

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
  PassCursor cursor(fetch);
  Index k = 0;
  for (Index block = 0; block + kPanel<T> <= depth; block += kPanel<T>) {
    cursor.begin_block();
    for (; k < block + kPanel<T>; k += kTileUnroll) {
      cursor.step(FetchLine{});
      tile_step<B, kVectors>(row, k, panel, sum, vectors, all);
      tile_step<B, kVectors>(row, k + 1, panel + kPanel<T>, sum, vectors, all);
      tile_step<B, kVectors>(row, k + 2, panel + 2 * kPanel<T>, sum, vectors, all);
      tile_step<B, kVectors>(row, k + 3, panel + 3 * kPanel<T>, sum, vectors, all);
      panel += kTileUnroll * kPanel<T>;
    }
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
  for (Index pass = 0; pass < kPasses; ++pass) {
    const Index column = pass * kVectors * static_cast<Index>(B::size);
    tile_pass<B, kVectors>(rows, step.first, depth, panel + column, tile + column, step.resume,
                           pass_fetch<T>(step.fetch, depth, pass, kPasses), std::make_index_sequence<kRows>{},
                           std::make_index_sequence<kVectors>{},
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
