// prepare_row and block_tile with dot-product instructions: vdpbf16ps (pairs of bf16) and vpdpbusd (quads of
// 8 bits, unsigned weights times signed rows).
//
// A tile is kRows x kVectors accumulators; codes keep their integer and their float accumulators in
// registers. vpdpbusd takes the weights with their offset (code + 128, code + 8); a group starts from minus
// the offset times the sum of the row's codes.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "moe/kernel/arch.hpp"
#include "moe/kernel/isa/byte_products.hpp"
#include "moe/kernel/prefetch.hpp"
#include "moe/kernel/ref/block_tile.hpp"
#include "moe/kernel/simd/block_tile.hpp"
#include "moe/kernel/simd/row_group.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// Vectors of Arch with the instruction of the name.
template <class Arch>
struct Bf16Dot {};
template <class Arch>
struct ByteDot {};

// Which lane counts have the instructions in this translation unit. Where there is AMX, vdpbf16ps of 512 bits
// multiplies at half the rate of fma on numbers that were widened in registers.
#if defined(__AVX512BF16__) && !defined(__AMX_TILE__)
inline constexpr bool kHasBf16Dot512 = true;
#else
inline constexpr bool kHasBf16Dot512 = false;
#endif
#if defined(__AVX512BF16__) && defined(__AVX512VL__)
inline constexpr bool kHasBf16Dot256 = true;
#else
inline constexpr bool kHasBf16Dot256 = false;
#endif
#if defined(__AVX512VNNI__)
inline constexpr bool kHasByteDot512 = true;
#else
inline constexpr bool kHasByteDot512 = false;
#endif
#if defined(__AVXVNNI__) || (defined(__AVX512VNNI__) && defined(__AVX512VL__))
inline constexpr bool kHasByteDot256 = true;
#else
inline constexpr bool kHasByteDot256 = false;
#endif
template <class Arch>
inline constexpr bool kHasBf16Dot = (kHasBf16Dot512 && kHasLanes<Arch, 16>) ||
                                    (kHasBf16Dot256 && kHasLanes<Arch, 8>);
template <class Arch>
inline constexpr bool kHasByteDot = (kHasByteDot512 && kHasLanes<Arch, 16>) ||
                                    (kHasByteDot256 && kHasLanes<Arch, 8>);

/// What serves Storage on Arch.
template <class Arch, class Storage>
struct FindBlockPath {
  using type = std::conditional_t<
      kHasByteDot<Arch>, ByteDot<Arch>,
      std::conditional_t<kHasByteProducts<Arch>, ByteProducts<Arch>, KernelArch<float, Arch>>>;
};
template <class Arch>
struct FindBlockPath<Arch, BFloat16> {
  using type = std::conditional_t<kHasBf16Dot<Arch>, Bf16Dot<Arch>, KernelArch<float, Arch>>;
};
template <class Arch, class Storage>
using BlockPath = typename FindBlockPath<Arch, Storage>::type;

/// A group of a row as bf16, pairs of k side by side.
struct Bf16Group {
  BFloat16 x[kBlockRows];
};

template <class Arch>
struct BlockShape<Bf16Dot<Arch>, BFloat16> {
  using Row = Bf16Group;
  /// As for float (TileShape): 8 x 2 of the 32 registers.
  static constexpr Index kRows = 8;
  static constexpr int vectors(int m) noexcept { return kHasLanes<Arch, 8> && m <= 6 ? 4 : 2; }
};

template <class Arch, class Storage>
struct BlockShape<ByteDot<Arch>, Storage> {
  using Row = CodeGroup;
  static constexpr int kRegisters = kCodeRegisters<Arch>;
  /// 6 x 2 accumulators of each kind in 32 registers, 3 x 2 in 16.
  static constexpr Index kRows = kRegisters == 32 ? 6 : 3;
  static constexpr int vectors(int m) noexcept {
    return kHasLanes<Arch, 8> && 8 * m + 5 <= kRegisters ? 4 : 2;
  }
};

template <class Arch>
struct BlockShape<ByteDot<Arch>, Int8Channels> {
  using Row = ChannelCodes;
  static constexpr int kRegisters = kCodeRegisters<Arch>;
  /// 8 x 2 accumulators in 32 registers, 6 x 2 in 16.
  static constexpr Index kRows = kRegisters == 32 ? 8 : 6;
  static constexpr int vectors(int m) noexcept {
    return kHasLanes<Arch, 8> && 4 * m + 5 <= kRegisters ? 4 : 2;
  }
};

template <class Arch>
MOE_ALWAYS_INLINE void prepare_whole_group(const float* x, Bf16Group& group, BFloat16) noexcept {
  constexpr Index kLanes = static_cast<Index>(Batch<float, Arch>::size);
  using L = Lanes<kLanes>;
  for (Index k = 0; k < kBlockRows; k += kLanes) {
    const auto rounded = round_to_bf16(load_vector<typename L::Words>(x + k)) >> 16;
    const auto halves = __builtin_convertvector(rounded, typename L::Halves);
    std::memcpy(group.x + k, &halves, sizeof(halves));
  }
}

template <class Group, class Storage, class Arch>
void prepare_row(const float* x, Index count, Group* groups, Storage storage, Bf16Dot<Arch>) noexcept {
  prepare_groups<Arch>(x, count, groups, storage);
}
template <class Group, class Storage, class Arch>
void prepare_row(const float* x, Index count, Group* groups, Storage storage, ByteDot<Arch>) noexcept {
  prepare_groups<Arch>(x, count, groups, storage);
}

/// sum + pair . pair, lane by lane; sum + quad . quad. The operands have names because clang 19 at -O0 with
/// its alignment sanitizer loses them as arguments.
template <class Words, class B>
MOE_ALWAYS_INLINE B dot_pairs([[maybe_unused]] const B& sum, [[maybe_unused]] const Words& row,
                              [[maybe_unused]] const B& weights) noexcept {
#if defined(__AVX512BF16__)
  if constexpr (sizeof(Words) == 64) {
    const auto left = std::bit_cast<__m512bh>(row), right = std::bit_cast<__m512bh>(weights);
    return B(_mm512_dpbf16_ps(sum, left, right));
  }
#if defined(__AVX512VL__)
  if constexpr (sizeof(Words) == 32) {
    const auto left = std::bit_cast<__m256bh>(row), right = std::bit_cast<__m256bh>(weights);
    return B(_mm256_dpbf16_ps(sum, left, right));
  }
#endif
#endif
}

template <class Words, class B>
MOE_ALWAYS_INLINE Words dot_quads([[maybe_unused]] const Words& sum, [[maybe_unused]] const B& weights,
                                  [[maybe_unused]] const Words& row) noexcept {
#if defined(__AVX512VNNI__)
  if constexpr (sizeof(Words) == 64) {
    return std::bit_cast<Words>(_mm512_dpbusd_epi32(
        std::bit_cast<__m512i>(sum), std::bit_cast<__m512i>(weights), std::bit_cast<__m512i>(row)));
  }
#endif
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
  if constexpr (sizeof(Words) == 32) {
    return std::bit_cast<Words>(_mm256_dpbusd_epi32(
        std::bit_cast<__m256i>(sum), std::bit_cast<__m256i>(weights), std::bit_cast<__m256i>(row)));
  }
#elif defined(__AVXVNNI__)
  if constexpr (sizeof(Words) == 32) {
    return std::bit_cast<Words>(_mm256_dpbusd_avx_epi32(
        std::bit_cast<__m256i>(sum), std::bit_cast<__m256i>(weights), std::bit_cast<__m256i>(row)));
  }
#endif
}

template <class Arch, int kVectors, std::size_t... V, std::size_t... I>
MOE_ALWAYS_INLINE void pair_step(const BFloat16* const* row, Index k, const BFloat16 (*weights)[2],
                                 Batch<float, Arch>* sum, std::index_sequence<V...>,
                                 std::index_sequence<I...>) noexcept {
  using B = Batch<float, Arch>;
  using Words = typename Lanes<static_cast<Index>(B::size)>::Words;
  B weight[] = {load_vector<B>(weights + V * B::size)...};
  (hold_in_register(weight[V]), ...);
  ((sum[I] = dot_pairs(sum[I], broadcast_word<Words>(row[I / kVectors] + k), weight[I % kVectors])), ...);
}

template <class Arch, int kVectors, std::size_t... R, std::size_t... V, std::size_t... I>
MOE_NOINLINE void block_pass(Bf16Dot<Arch>, const Bf16Group* const* rows, Index groups,
                             const StorageBlock<BFloat16>* panel, Index column, float* tile,
                             FetchCursor fetch, std::index_sequence<R...>, std::index_sequence<V...> vectors,
                             std::index_sequence<I...> all) noexcept {
  using B = Batch<float, Arch>;
  const BFloat16* const row[] = {rows[R]->x...};
  B sum[] = {((void)I, B(0))...};
  const BFloat16(*weights)[2] = panel->pairs[0] + column;
  for (Index k = 0; k < groups * kBlockRows; k += kBlockRows / kFetchSteps) {
    fetch.step();
    pair_step<Arch, kVectors>(row, k, weights, sum, vectors, all);
    pair_step<Arch, kVectors>(row, k + 2, weights + kPanel<float>, sum, vectors, all);
    pair_step<Arch, kVectors>(row, k + 4, weights + 2 * kPanel<float>, sum, vectors, all);
    pair_step<Arch, kVectors>(row, k + 6, weights + 3 * kPanel<float>, sum, vectors, all);
    weights += 4 * kPanel<float>;
  }
  (sum[I].store_aligned(tile + Index{I / kVectors} * kPanel<float> + column + I % kVectors * B::size), ...);
}

template <int kVectors, class Group, class B, class Words, std::size_t... I>
MOE_ALWAYS_INLINE void quad_step(const Group* const* row, Index g, Index k, const B* weight, Words* dot,
                                 std::index_sequence<I...>) noexcept {
  ((dot[I] = dot_quads(dot[I], weight[I % kVectors], broadcast_word<Words>(row[I / kVectors][g].codes + k))),
   ...);
}

/// Steps 2 pair and 2 pair + 1 of the 8 quads of a group.
template <class Arch, int kVectors, class Group, CodesOf<8> Block, class Words, std::size_t... V,
          std::size_t... I>
MOE_ALWAYS_INLINE void two_quads(const Group* const* row, Index g, Index pair, const Block& block,
                                 Index column, Words* dot, std::index_sequence<V...>,
                                 std::index_sequence<I...> all) noexcept {
  using B = Batch<float, Arch>;
  for (Index quad = 2 * pair; quad < 2 * pair + 2; ++quad) {
    B weight[] = {load_vector<B>(quads_at(block, quad, column + static_cast<Index>(V * B::size)))...};
    (hold_in_register(weight[V]), ...);
    quad_step<kVectors>(row, g, 4 * quad, weight, dot, all);
  }
}
template <class Arch, int kVectors, class Group, CodesOf<4> Block, class Words, std::size_t... V,
          std::size_t... I>
MOE_ALWAYS_INLINE void two_quads(const Group* const* row, Index g, Index pair, const Block& block,
                                 Index column, Words* dot, std::index_sequence<V...>,
                                 std::index_sequence<I...> all) noexcept {
  using B = Batch<float, Arch>;
  const Words both[] = {
      load_vector<Words>(quads_at(block, pair, column + static_cast<Index>(V * B::size)))...};
  B low[] = {std::bit_cast<B>(both[V] & 0x0F0F0F0F)...};
  (hold_in_register(low[V]), ...);
  quad_step<kVectors>(row, g, 8 * pair, low, dot, all);
  B high[] = {std::bit_cast<B>((both[V] >> 4) & 0x0F0F0F0F)...};
  (hold_in_register(high[V]), ...);
  quad_step<kVectors>(row, g, 8 * pair + 4, high, dot, all);
}

template <class Arch, int kVectors, class Storage, std::size_t... R, std::size_t... V, std::size_t... I>
requires(!SuperStorage<Storage>) MOE_NOINLINE
    void block_pass(ByteDot<Arch>, const CodeGroup* const* rows, Index groups,
                    const StorageBlock<Storage>* panel, Index column, float* tile, FetchCursor fetch,
                    std::index_sequence<R...>, std::index_sequence<V...> vectors,
                    std::index_sequence<I...> all) noexcept {
  using B = Batch<float, Arch>;
  using L = Lanes<static_cast<Index>(B::size)>;
  using Words = typename L::Words;
  const CodeGroup* const row[] = {rows[R]...};
  B sum[] = {((void)I, B(0))...};
  for (Index g = 0; g < groups; ++g, ++panel) {
    Words dot[] = {broadcast_word<Words>(&row[I / kVectors][g].start)...};
    fetch.step();
    two_quads<Arch, kVectors>(row, g, 0, *panel, column, dot, vectors, all);
    fetch.step();
    two_quads<Arch, kVectors>(row, g, 1, *panel, column, dot, vectors, all);
    fetch.step();
    two_quads<Arch, kVectors>(row, g, 2, *panel, column, dot, vectors, all);
    fetch.step();
    two_quads<Arch, kVectors>(row, g, 3, *panel, column, dot, vectors, all);
    const B scale[] = {
        std::bit_cast<B>(widen_scales<Words>(panel->scales + column + static_cast<Index>(V * B::size)))...};
    const auto product = [](const Words& d, const B& weight_scale) noexcept -> B {
      const auto exact = __builtin_convertvector(std::bit_cast<typename L::Ints>(d), typename L::Floats);
      return std::bit_cast<B>(exact) * weight_scale;
    };
    ((sum[I] = fma(product(dot[I], scale[I % kVectors]), B(row[I / kVectors][g].scale), sum[I])), ...);
  }
  (sum[I].store_aligned(tile + Index{I / kVectors} * kPanel<float> + column + I % kVectors * B::size), ...);
}

template <class Arch, int kVectors, std::size_t... R, std::size_t... V, std::size_t... I>
MOE_NOINLINE void block_pass(ByteDot<Arch>, const ChannelCodes* const* rows, Index groups,
                             const StorageBlock<Int8Channels>* panel, Index column, float* tile,
                             FetchCursor fetch, std::index_sequence<R...>, std::index_sequence<V...> vectors,
                             std::index_sequence<I...> all) noexcept {
  using Words = typename Lanes<static_cast<Index>(Batch<float, Arch>::size)>::Words;
  const ChannelCodes* const row[] = {rows[R] + 1 ...};
  const ChannelHeader header[] = {header_of(*rows[R])...};
  Words dot[] = {Words{} + static_cast<std::uint32_t>(header[I / kVectors].start)...};
  ChannelQuads block{panel + 1};
  for (Index g = 0; g < groups; ++g, block.at += kBlockRows / 4) {
    fetch.step();
    two_quads<Arch, kVectors>(row, g, 0, block, column, dot, vectors, all);
    fetch.step();
    two_quads<Arch, kVectors>(row, g, 1, block, column, dot, vectors, all);
    fetch.step();
    two_quads<Arch, kVectors>(row, g, 2, block, column, dot, vectors, all);
    fetch.step();
    two_quads<Arch, kVectors>(row, g, 3, block, column, dot, vectors, all);
  }
  finish_channels<Arch, kVectors>(dot, header, panel, column, tile, vectors, all);
}

template <class Row, class Storage, class Arch>
void block_tile(const Row* const* rows, Index m, Index groups, const StorageBlock<Storage>* panel,
                float* tile, const PanelFetch& fetch, Bf16Dot<Arch>) noexcept {
  tile_of_blocks<Bf16Dot<Arch>, Arch>(rows, m, groups, panel, tile, fetch);
}
template <class Row, class Storage, class Arch>
void block_tile(const Row* const* rows, Index m, Index groups, const StorageBlock<Storage>* panel,
                float* tile, const PanelFetch& fetch, ByteDot<Arch>) noexcept {
  tile_of_blocks<ByteDot<Arch>, Arch>(rows, m, groups, panel, tile, fetch);
}

}  // namespace impl

MOE_NAMESPACE_END
