// block_tile of Q4K and Q6K by vpdpbusd, or by products of bytes in pairs (isa/byte_products.hpp).
//
// 6 bits in pairs: |code| <= 32 times the row's code with the weight's sign; 8 products of a group of 16 add
// up to at most 8 * 32 * 127 = 32512 in 16 bits.
#pragma once

#include <cstdint>
#include <utility>

#include "moe/kernel/arch.hpp"
#include "moe/kernel/isa/block_tile.hpp"
#include "moe/kernel/isa/byte_products.hpp"
#include "moe/kernel/simd/block_tile.hpp"
#include "moe/kernel/simd/super_tile.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

template <class Arch>
struct BlockShape<ByteDot<Arch>, Q6K> : BlockShape<ByteDot<Arch>, Q4K> {
  using Row = HalvedCodeGroup;
};
/// As of 4 bits with one scale a group.
template <class Arch>
struct BlockShape<ByteProducts<Arch>, Q4K> : BlockShape<ByteProducts<Arch>, Int4Groups<Float16>> {};
template <class Arch>
struct BlockShape<ByteProducts<Arch>, Q6K> : BlockShape<ByteProducts<Arch>, Int4Groups<Float16>> {
  using Row = HalvedCodeGroup;
};

template <class Arch, int kVectors, class Group, CodesOf<6> Block, class Words, std::size_t... V,
          std::size_t... I>
MOE_ALWAYS_INLINE void two_quads(const Group* const* row, Index g, Index pair, const Block& block,
                                 Index column, Words* dot, std::index_sequence<V...>,
                                 std::index_sequence<I...> all) noexcept {
  using B = Batch<float, Arch>;
  for (Index quad = 2 * pair; quad < 2 * pair + 2; ++quad) {
    B weight[] = {
        std::bit_cast<B>(six_bits<Words>(block, quad, column + static_cast<Index>(V * B::size)))...};
    (hold_in_register(weight[V]), ...);
    quad_step<kVectors>(row, g, 4 * quad, weight, dot, all);
  }
}

template <int kVectors, class Group, CodesOf<6> Block, class Words, std::size_t... V, std::size_t... I>
MOE_ALWAYS_INLINE void add_two_quads(const Group* const* row, Index g, Index pair, const Block& block,
                                     Index column, Words* sum, std::index_sequence<V...>,
                                     std::index_sequence<I...>) noexcept {
  typedef std::int8_t Bytes [[gnu::vector_size(sizeof(Words))]];
  constexpr Index kLanes = static_cast<Index>(sizeof(Words) / 4);
  const auto less_offset = [](const Words& stored) noexcept {
    return std::bit_cast<Words>(std::bit_cast<Bytes>(stored) - static_cast<std::int8_t>(32));
  };
  for (Index quad = 2 * pair; quad < 2 * pair + 2; ++quad) {
    Words weight[] = {less_offset(six_bits<Words>(block, quad, column + Index{V} * kLanes))...};
    (hold_words(weight[V]), ...);
    Words magnitude[] = {magnitudes_of(weight[V])...};
    (hold_words(magnitude[V]), ...);
    (add_shorts(sum[I],
                multiply_bytes(magnitude[I % kVectors],
                               with_signs_of(weight[I % kVectors],
                                             broadcast_word<Words>(row[I / kVectors][g].codes + 4 * quad)))),
     ...);
  }
}

template <class Arch, int kVectors, Index kFirst, Index kEnd, class Group, class Block, class Start,
          std::size_t... V, std::size_t... I>
MOE_ALWAYS_INLINE void group_dots(ByteDot<Arch>, const Group* const* row, Index g, const Block& block,
                                  Index column, Start start, Batch<float, Arch>* exact,
                                  std::index_sequence<V...> vectors, std::index_sequence<I...> all) noexcept {
  using B = Batch<float, Arch>;
  using L = Lanes<static_cast<Index>(B::size)>;
  using Words = typename L::Words;
  Words dot[] = {Words{} + static_cast<std::uint32_t>(start(row[I / kVectors][g]))...};
  for (Index pair = kFirst / 2; pair < kEnd / 2; ++pair) {
    two_quads<Arch, kVectors>(row, g, pair, block, column, dot, vectors, all);
  }
  ((exact[I] = std::bit_cast<B>(
        __builtin_convertvector(std::bit_cast<typename L::Ints>(dot[I]), typename L::Floats))),
   ...);
}

template <class Arch, int kVectors, Index kFirst, Index kEnd, class Group, class Block, class Start,
          std::size_t... V, std::size_t... I>
MOE_ALWAYS_INLINE void group_dots(ByteProducts<Arch>, const Group* const* row, Index g, const Block& block,
                                  Index column, Start, Batch<float, Arch>* exact,
                                  std::index_sequence<V...> vectors, std::index_sequence<I...> all) noexcept {
  using B = Batch<float, Arch>;
  using L = Lanes<static_cast<Index>(B::size)>;
  using Words = typename L::Words;
  Words dot[] = {((void)I, Words{})...};
  for (Index pair = kFirst / 2; pair < kEnd / 2; ++pair) {
    add_two_quads<kVectors>(row, g, pair, block, column, dot, vectors, all);
  }
  ((exact[I] = std::bit_cast<B>(
        __builtin_convertvector(std::bit_cast<typename L::Ints>(add_halves(dot[I])), typename L::Floats))),
   ...);
}

}  // namespace impl

MOE_NAMESPACE_END
