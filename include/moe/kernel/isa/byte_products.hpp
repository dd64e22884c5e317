// prepare_row and block_tile by products of bytes in pairs (vpmaddubsw: unsigned weights times signed rows,
// two products summed in a lane of 16 bits, which saturates), for what has AVX2 or AVX-512 without vpdpbusd.
//
// Nothing here saturates, so that sums are exact:
//   4 bits: stored codes are 0 .. 15 and a row's -127 .. 127. All 8 quads of a group add up in 16 bits, 16
//   products a lane: at most 16 * 15 * 127 = 30480. One vpmaddwd a group makes 32 bits of them.
//   8 bits: |weight| <= 128 times the row's code with the weight's sign (vpsignb), 2 * 128 * 127 = 32512: one
//   vpmaddwd a quad.
#pragma once

#include <bit>
#include <cstdint>
#include <utility>

#include "moe/kernel/arch.hpp"
#include "moe/kernel/ref/block_tile.hpp"
#include "moe/kernel/simd/block_tile.hpp"
#include "moe/kernel/simd/row_group.hpp"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

MOE_NAMESPACE_BEGIN

namespace impl {

/// Vectors of Arch with vpmaddubsw.
template <class Arch>
struct ByteProducts {};

#if defined(__AVX2__)
inline constexpr bool kHasByteProducts256 = true;
#else
inline constexpr bool kHasByteProducts256 = false;
#endif
#if defined(__AVX512BW__)
inline constexpr bool kHasByteProducts512 = true;
#else
inline constexpr bool kHasByteProducts512 = false;
#endif
#if defined(__AVX512VL__)
inline constexpr bool kHas32Registers256 = true;
#else
inline constexpr bool kHas32Registers256 = false;
#endif

template <class Arch>
inline constexpr bool kHasByteProducts = (kHasByteProducts512 && kHasLanes<Arch, 16>) ||
                                         (kHasByteProducts256 && kHasLanes<Arch, 8>);

/// Vector registers that tiles of codes may fill.
template <class Arch>
inline constexpr int kCodeRegisters = kHasLanes<Arch, 16> || kHas32Registers256 ? 32 : 16;

template <class Arch, class Scale>
struct BlockShape<ByteProducts<Arch>, Int8Groups<Scale>> {
  using Row = CodeGroup;
  /// 5 x 2 integer accumulators; the float ones live in the tile.
  static constexpr bool kSumsInRegisters = false;
  static constexpr Index kRows = 5;
  static constexpr int vectors(int m) noexcept { return kHasLanes<Arch, 8> && m == 1 ? 4 : 2; }
};

template <class Arch, class Scale>
struct BlockShape<ByteProducts<Arch>, Int4Groups<Scale>> {
  using Row = CodeGroup;
  static constexpr bool kSumsInRegisters = true;
  static constexpr Index kRows = 6;
  /// Both kinds of accumulators, the weights, one number of a row and one product are in registers: 6 x 1 or
  /// 3 x 2 of 16.
  static constexpr int vectors(int m) noexcept {
    int count = kHasLanes<Arch, 8> ? 4 : 2;
    while (count > 1 && (2 * m + 1) * count + 2 > kCodeRegisters<Arch>) count /= 2;
    return count;
  }
};

template <class Arch>
struct BlockShape<ByteProducts<Arch>, Int8Channels> {
  using Row = ChannelCodes;
  /// 5 x 2 accumulators.
  static constexpr Index kRows = 5;
  static constexpr int vectors(int m) noexcept { return kHasLanes<Arch, 8> && m <= 2 ? 4 : 2; }
};

template <class Group, class Storage, class Arch>
void prepare_row(const float* x, Index count, Group* groups, Storage storage, ByteProducts<Arch>) noexcept {
  prepare_groups<Arch>(x, count, groups, storage);
}

// Words have 4 bytes or two numbers of 16 bits a lane.

/// Products of unsigned `weights` and signed `row`, added in pairs to 16 bits.
template <class Words>
MOE_ALWAYS_INLINE Words multiply_bytes([[maybe_unused]] const Words& weights,
                                       [[maybe_unused]] const Words& row) noexcept {
#if defined(__AVX512BW__)
  if constexpr (sizeof(Words) == 64) {
    return std::bit_cast<Words>(
        _mm512_maddubs_epi16(std::bit_cast<__m512i>(weights), std::bit_cast<__m512i>(row)));
  }
#endif
#if defined(__AVX2__)
  if constexpr (sizeof(Words) == 32) {
    return std::bit_cast<Words>(
        _mm256_maddubs_epi16(std::bit_cast<__m256i>(weights), std::bit_cast<__m256i>(row)));
  }
#endif
}

/// Both numbers of 16 bits of each lane, added in 32.
template <class Words>
MOE_ALWAYS_INLINE Words add_halves([[maybe_unused]] const Words& x) noexcept {
#if defined(__AVX512BW__)
  if constexpr (sizeof(Words) == 64) {
    return std::bit_cast<Words>(_mm512_madd_epi16(std::bit_cast<__m512i>(x), _mm512_set1_epi16(1)));
  }
#endif
#if defined(__AVX2__)
  if constexpr (sizeof(Words) == 32) {
    return std::bit_cast<Words>(_mm256_madd_epi16(std::bit_cast<__m256i>(x), _mm256_set1_epi16(1)));
  }
#endif
}

/// Computes x here, once and in a register.
template <class Words>
MOE_ALWAYS_INLINE void hold_words([[maybe_unused]] Words& x) noexcept {
#if defined(__AVX2__)
  __asm__("" : "+v"(x));
#endif
}

/// Makes g++ load again what p points to: it would keep it in a register that the tile lacks, that is, on the
/// stack.
template <class T>
MOE_ALWAYS_INLINE void hold_pointer([[maybe_unused]] const T*& p) noexcept {
#if defined(__AVX2__)
  __asm__("" : "+r"(p));
#endif
}

/// sum += x in 16 bits, or in 32. Held: g++ 12 would regroup the chain into a tree, whose leaves do not fit
/// the registers (0.72 of the float peak instead of 1.10).
template <class Words>
MOE_ALWAYS_INLINE void add_shorts(Words& sum, const Words& x) noexcept {
  typedef std::uint16_t Shorts [[gnu::vector_size(sizeof(Words))]];
  sum = std::bit_cast<Words>(std::bit_cast<Shorts>(sum) + std::bit_cast<Shorts>(x));
  hold_words(sum);
}
template <class Words>
MOE_ALWAYS_INLINE void add_words(Words& sum, const Words& x) noexcept {
  sum += x;
  hold_words(sum);
}

/// Magnitudes of signed bytes; the bytes of `row` with the signs of `weights` (0 or any where a weight is 0).
template <class Words>
MOE_ALWAYS_INLINE Words magnitudes_of([[maybe_unused]] const Words& weights) noexcept {
#if defined(__AVX512BW__)
  if constexpr (sizeof(Words) == 64) {
    return std::bit_cast<Words>(_mm512_abs_epi8(std::bit_cast<__m512i>(weights)));
  }
#endif
#if defined(__AVX2__)
  if constexpr (sizeof(Words) == 32) {
    return std::bit_cast<Words>(_mm256_abs_epi8(std::bit_cast<__m256i>(weights)));
  }
#endif
}
template <class Words>
MOE_ALWAYS_INLINE Words with_signs_of([[maybe_unused]] const Words& weights,
                                      [[maybe_unused]] const Words& row) noexcept {
#if defined(__AVX512BW__)
  if constexpr (sizeof(Words) == 64) {
    const __m512i x = std::bit_cast<__m512i>(row);
    const __mmask64 negative = _mm512_movepi8_mask(std::bit_cast<__m512i>(weights));
    return std::bit_cast<Words>(_mm512_mask_sub_epi8(x, negative, __m512i{}, x));
  }
#endif
#if defined(__AVX2__)
  if constexpr (sizeof(Words) == 32) {
    return std::bit_cast<Words>(
        _mm256_sign_epi8(std::bit_cast<__m256i>(row), std::bit_cast<__m256i>(weights)));
  }
#endif
}

/// Quads 2 pair and 2 pair + 1 of the 8 of a group.
template <int kVectors, class Group, CodesOf<8> Block, class Words, std::size_t... V, std::size_t... I>
MOE_ALWAYS_INLINE void add_two_quads(const Group* const* row, Index g, Index pair, const Block& block,
                                     Index column, Words* dot, std::index_sequence<V...>,
                                     std::index_sequence<I...>) noexcept {
  constexpr Index kLanes = static_cast<Index>(sizeof(Words) / 4);
  constexpr std::uint32_t kSign = 0x80808080u;
  for (Index quad = 2 * pair; quad < 2 * pair + 2; ++quad) {
    Words weight[] = {kSign ^ load_vector<Words>(quads_at(block, quad, column + Index{V} * kLanes))...};
    (hold_words(weight[V]), ...);
    Words magnitude[] = {magnitudes_of(weight[V])...};
    (hold_words(magnitude[V]), ...);
    const auto product = [](const Words& w, const Words& magnitudes, const Words& x) noexcept {
      return add_halves(multiply_bytes(magnitudes, with_signs_of(w, x)));
    };
    (add_words(dot[I], product(weight[I % kVectors], magnitude[I % kVectors],
                               broadcast_word<Words>(row[I / kVectors][g].codes + 4 * quad))),
     ...);
  }
}
template <int kVectors, class Group, CodesOf<4> Block, class Words, std::size_t... V, std::size_t... I>
MOE_ALWAYS_INLINE void add_two_quads(const Group* const* row, Index g, Index pair, const Block& block,
                                     Index column, Words* sum, std::index_sequence<V...>,
                                     std::index_sequence<I...>) noexcept {
  constexpr Index kLanes = static_cast<Index>(sizeof(Words) / 4);
  constexpr std::uint32_t kNibbles = 0x0F0F0F0Fu;
  for (Index high = 0; high < 2; ++high) {
    const std::uint8_t* bytes = block.quads[pair][column];
    hold_pointer(bytes);
    Words weight[] = {kNibbles & (load_vector<Words>(bytes + Index{V} * kLanes * 4) >> (4 * high))...};
    (hold_words(weight[V]), ...);
    (add_shorts(sum[I],
                multiply_bytes(weight[I % kVectors],
                               broadcast_word<Words>(row[I / kVectors][g].codes + 8 * pair + 4 * high))),
     ...);
  }
}

/// The exact sums of a group, less what the offset of the stored weights adds.
template <class Scale, class Words>
MOE_ALWAYS_INLINE Words finish_group(const Words& dot, const CodeGroup&, Int8Groups<Scale>) noexcept {
  return dot;
}
template <class Scale, class Words>
MOE_ALWAYS_INLINE Words finish_group(const Words& sum, const CodeGroup& row, Int4Groups<Scale>) noexcept {
  return add_halves(sum) + broadcast_word<Words>(&row.start);
}

template <class Arch, int kVectors, class Storage, std::size_t... R, std::size_t... V, std::size_t... I>
requires(!SuperStorage<Storage>) MOE_NOINLINE
    void block_pass(ByteProducts<Arch>, const CodeGroup* const* rows, Index groups,
                    const StorageBlock<Storage>* panel, Index column, float* tile, FetchCursor fetch,
                    std::index_sequence<R...>, std::index_sequence<V...> vectors,
                    std::index_sequence<I...> all) noexcept {
  using B = Batch<float, Arch>;
  using L = Lanes<static_cast<Index>(B::size)>;
  using Words = typename L::Words;
  constexpr Index kLanes = static_cast<Index>(B::size);
  constexpr bool kInRegisters = BlockShape<ByteProducts<Arch>, Storage>::kSumsInRegisters;
  const CodeGroup* const row[] = {rows[R]...};
  float* const sums = tile + column;
  B sum[] = {((void)I, B(0))...};
  const auto at = [&](std::size_t i) noexcept {
    return sums + static_cast<Index>(i / kVectors) * kPanel<float> +
           static_cast<Index>(i % kVectors) * kLanes;
  };
  if constexpr (!kInRegisters) (sum[I].store_aligned(at(I)), ...);
  fetch.step_by_blocks();
  for (Index g = 0; g < groups; ++g, ++panel) {
    Words dot[] = {((void)I, Words{})...};
    fetch.step();
    add_two_quads<kVectors>(row, g, 0, *panel, column, dot, vectors, all);
    add_two_quads<kVectors>(row, g, 1, *panel, column, dot, vectors, all);
    add_two_quads<kVectors>(row, g, 2, *panel, column, dot, vectors, all);
    add_two_quads<kVectors>(row, g, 3, *panel, column, dot, vectors, all);
    const B scale[] = {std::bit_cast<B>(widen_scales<Words>(panel->scales + column + Index{V} * kLanes))...};
    const auto add = [](const Words& d, const B& weight_scale, float row_scale, const B& to) noexcept -> B {
      const auto exact = __builtin_convertvector(std::bit_cast<typename L::Ints>(d), typename L::Floats);
      return fma(B(std::bit_cast<B>(exact) * weight_scale), B(row_scale), to);
    };
    if constexpr (kInRegisters) {
      ((sum[I] = add(finish_group(dot[I], row[I / kVectors][g], Storage{}), scale[I % kVectors],
                     row[I / kVectors][g].scale, sum[I])),
       ...);
    } else {
      (add(finish_group(dot[I], row[I / kVectors][g], Storage{}), scale[I % kVectors],
           row[I / kVectors][g].scale, B::load_aligned(at(I)))
           .store_aligned(at(I)),
       ...);
    }
  }
  if constexpr (kInRegisters) (sum[I].store_aligned(at(I)), ...);
}

template <class Arch, int kVectors, std::size_t... R, std::size_t... V, std::size_t... I>
MOE_NOINLINE void block_pass(ByteProducts<Arch>, const ChannelCodes* const* rows, Index groups,
                             const StorageBlock<Int8Channels>* panel, Index column, float* tile,
                             FetchCursor fetch, std::index_sequence<R...>, std::index_sequence<V...> vectors,
                             std::index_sequence<I...> all) noexcept {
  using Words = typename Lanes<static_cast<Index>(Batch<float, Arch>::size)>::Words;
  const ChannelCodes* const row[] = {rows[R] + 1 ...};
  const ChannelHeader header[] = {header_of(*rows[R])...};
  Words sum[] = {((void)I, Words{})...};
  ChannelQuads block{panel + 1};
  for (Index g = 0; g < groups; ++g, block.at += kBlockRows / 4) {
    for (Index pair = 0; pair < kFetchSteps; ++pair) {
      fetch.step();
      add_two_quads<kVectors>(row, g, pair, block, column, sum, vectors, all);
    }
  }
  finish_channels<Arch, kVectors>(sum, header, panel, column, tile, vectors, all);
}

template <class Row, class Storage, class Arch>
void block_tile(const Row* const* rows, Index m, Index groups, const StorageBlock<Storage>* panel,
                float* tile, const PanelFetch& fetch, ByteProducts<Arch>) noexcept {
  tile_of_blocks<ByteProducts<Arch>, Arch>(rows, m, groups, panel, tile, fetch);
}

}  // namespace impl

MOE_NAMESPACE_END
