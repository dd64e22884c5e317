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
  const TwoQuads<Words> both[] = {six_bits<Words>(block, pair, column + static_cast<Index>(V * B::size))...};
  B first[] = {std::bit_cast<B>(both[V].first)...};
  (hold_in_register(first[V]), ...);
  quad_step<kVectors>(row, g, 8 * pair, first, dot, all);
  B second[] = {std::bit_cast<B>(both[V].second)...};
  (hold_in_register(second[V]), ...);
  quad_step<kVectors>(row, g, 8 * pair + 4, second, dot, all);
}

/// dot += quads 2 pair and 2 pair + 1 in 32 bits.
template <int kVectors, class Group, CodesOf<6> Block, class Words, std::size_t... V, std::size_t... I>
MOE_ALWAYS_INLINE void add_two_quads(const Group* const* row, Index g, Index pair, const Block& block,
                                     Index column, Words* dot, std::index_sequence<V...>,
                                     std::index_sequence<I...>) noexcept {
  constexpr Index kLanes = static_cast<Index>(sizeof(Words) / 4);
  TwoQuads<Words> weight[] = {six_bits<Words>(block, pair, column + Index{V} * kLanes)...};
  ((hold_words(weight[V].first), hold_words(weight[V].second)), ...);
  const auto products = [](const TwoQuads<Words>& w, const std::int8_t* codes) noexcept {
    Words sum = multiply_bytes(w.first, broadcast_word<Words>(codes));
    add_shorts(sum, multiply_bytes(w.second, broadcast_word<Words>(codes + 4)));
    return add_halves(sum);
  };
  (add_words(dot[I], products(weight[I % kVectors], row[I / kVectors][g].codes + 8 * pair)), ...);
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
                                  Index column, Start start, Batch<float, Arch>* exact,
                                  std::index_sequence<V...> vectors, std::index_sequence<I...> all) noexcept {
  using B = Batch<float, Arch>;
  using L = Lanes<static_cast<Index>(B::size)>;
  using Words = typename L::Words;
  Words dot[] = {Words{} + static_cast<std::uint32_t>(start(row[I / kVectors][g]))...};
  for (Index pair = kFirst / 2; pair < kEnd / 2; ++pair) {
    add_two_quads<kVectors>(row, g, pair, block, column, dot, vectors, all);
  }
  // Products of 4 bits are still sums of 16, and start from 0.
  if constexpr (Block::kBits == 4) ((dot[I] = add_halves(dot[I])), ...);
  ((exact[I] = std::bit_cast<B>(
        __builtin_convertvector(std::bit_cast<typename L::Ints>(dot[I]), typename L::Floats))),
   ...);
}

}  // namespace impl

MOE_NAMESPACE_END
