// block_tile of Q4K and Q6K: what their forms in vector registers share, and the one in float.
//
// A group's exact sums of code times code (of 16 codes in Q6K) are had as in a block with a scale for every
// group; then the two levels of the weights' scales are one number, exact in float.
#pragma once

#include <bit>
#include <cstdint>
#include <utility>

#include "moe/kernel/arch.hpp"
#include "moe/kernel/simd/block_tile.hpp"
#include "moe/kernel/simd/row_group.hpp"
#include "moe/kernel/super_block.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// exact[I] = start + the sums of quads kFirst .. kEnd - 1 of group g.
template <class Arch, int kVectors, Index kFirst, Index kEnd, class Group, class Block, class Start,
          std::size_t... V, std::size_t... I>
MOE_ALWAYS_INLINE void group_dots(Arch, const Group* const* row, Index g, const Block& block, Index column,
                                  Start start, Batch<float, Arch>* exact, std::index_sequence<V...> vectors,
                                  std::index_sequence<I...> all) noexcept {
  ((exact[I] = Batch<float, Arch>(static_cast<float>(start(row[I / kVectors][g])))), ...);
  for (Index quad = kFirst; quad < kEnd; ++quad) {
    code_step<Arch, kVectors, 0>(row, g, block, quad, column, exact, vectors, all);
    code_step<Arch, kVectors, 1>(row, g, block, quad, column, exact, vectors, all);
    code_step<Arch, kVectors, 2>(row, g, block, quad, column, exact, vectors, all);
    code_step<Arch, kVectors, 3>(row, g, block, quad, column, exact, vectors, all);
  }
}

/// One half or the other of the codes of a group's scales, times the first level's.
template <int kHalf, bool kSigned, class B>
MOE_ALWAYS_INLINE B second_level(const std::uint16_t* codes, const float* first) noexcept {
  using L = Lanes<static_cast<Index>(B::size)>;
  const auto both = std::bit_cast<typename L::Ints>(
      __builtin_convertvector(load_vector<typename L::Halves>(codes), typename L::Words));
  typename L::Ints code = kHalf == 0 ? both & 0xFF : both >> 8;
  if constexpr (kSigned) code = both << (kHalf == 0 ? 24 : 16) >> 24;
  return std::bit_cast<B>(__builtin_convertvector(code, typename L::Floats)) * B::load_aligned(first);
}

/// sum += a group of Q4K.
template <class Arch, int kVectors, class Path, class Group, std::size_t... V, std::size_t... I>
MOE_ALWAYS_INLINE void add_group(Path path, const Group* const* row, Index g,
                                 const StorageBlock<Q4K>::Group& block, Index column,
                                 const float (*first)[kPanel<float>], Batch<float, Arch>* sum,
                                 std::index_sequence<V...> vectors, std::index_sequence<I...> all) noexcept {
  using B = Batch<float, Arch>;
  constexpr Index kLanes = static_cast<Index>(B::size);
  B exact[sizeof...(I)];
  group_dots<Arch, kVectors, 0, kBlockRows / 4>(
      path, row, g, block, column, [](const Group&) noexcept { return 0; }, exact, vectors, all);
  const B scale[] = {
      second_level<0, false, B>(block.scales + column + Index{V} * kLanes, first[0] + Index{V} * kLanes)...};
  const B offset[] = {
      second_level<1, false, B>(block.scales + column + Index{V} * kLanes, first[1] + Index{V} * kLanes)...};
  const auto add = [](const B& dot, const B& s, const B& o, const Group& of, const B& to) noexcept -> B {
    return fma(fma(dot, s, B(B(static_cast<float>(of.start)) * o)), B(of.scale), to);
  };
  ((sum[I] = add(exact[I], scale[I % kVectors], offset[I % kVectors], row[I / kVectors][g], sum[I])), ...);
}

/// The same of 16 rows of a group of Q6K, then of the others.
template <class Arch, int kVectors, int kHalf, class Path, class Group, std::size_t... V, std::size_t... I>
MOE_ALWAYS_INLINE void add_half_group(Path path, const Group* const* row, Index g,
                                      const StorageBlock<Q6K>::Group& block, Index column,
                                      const float (*first)[kPanel<float>], Batch<float, Arch>* sum,
                                      std::index_sequence<V...> vectors,
                                      std::index_sequence<I...> all) noexcept {
  using B = Batch<float, Arch>;
  constexpr Index kLanes = static_cast<Index>(B::size);
  B exact[sizeof...(I)];
  group_dots<Arch, kVectors, 4 * kHalf, 4 * kHalf + 4>(
      path, row, g, block, column, [](const Group& of) noexcept { return of.start[kHalf]; }, exact, vectors,
      all);
  const B scale[] = {second_level<kHalf, true, B>(block.scales + column + Index{V} * kLanes,
                                                  first[0] + Index{V} * kLanes)...};
  ((sum[I] = fma(B(exact[I] * scale[I % kVectors]), B(row[I / kVectors][g].scale), sum[I])), ...);
}
template <class Arch, int kVectors, class Path, class Group, std::size_t... V, std::size_t... I>
MOE_ALWAYS_INLINE void add_group(Path path, const Group* const* row, Index g,
                                 const StorageBlock<Q6K>::Group& block, Index column,
                                 const float (*first)[kPanel<float>], Batch<float, Arch>* sum,
                                 std::index_sequence<V...> vectors, std::index_sequence<I...> all) noexcept {
  add_half_group<Arch, kVectors, 0>(path, row, g, block, column, first, sum, vectors, all);
  add_half_group<Arch, kVectors, 1>(path, row, g, block, column, first, sum, vectors, all);
}

template <class Arch, int kVectors, class Path, class Group, SuperStorage Storage, std::size_t... R,
          std::size_t... V, std::size_t... I>
MOE_NOINLINE void block_pass(Path path, const Group* const* rows, Index groups,
                             const StorageBlock<Storage>* panel, Index column, float* tile, FetchCursor fetch,
                             std::index_sequence<R...>, std::index_sequence<V...> vectors,
                             std::index_sequence<I...> all) noexcept {
  using B = Batch<float, Arch>;
  using Words = typename Lanes<static_cast<Index>(B::size)>::Words;
  constexpr Index kLanes = static_cast<Index>(B::size);
  const Group* const row[] = {rows[R]...};
  B sum[] = {((void)I, B(0))...};
  fetch.step_by_blocks();
  alignas(64) float first[2][kPanel<float>];
  const auto keep = [](const Words& bits, float* to) noexcept { std::bit_cast<B>(bits).store_aligned(to); };
  for (Index g = 0; g < groups; ++panel) {
    (keep(widen_scales<Words>(panel->scale + column + Index{V} * kLanes), first[0] + Index{V} * kLanes), ...);
    if constexpr (std::same_as<Storage, Q4K>) {
      (keep(widen_scales<Words>(panel->offset + column + Index{V} * kLanes), first[1] + Index{V} * kLanes),
       ...);
    }
    for (Index s = 0; s < kSuperGroups && g < groups; ++s, ++g) {
      fetch.step();
      add_group<Arch, kVectors>(path, row, g, panel->groups[s], column, first, sum, vectors, all);
    }
  }
  (sum[I].store_aligned(tile + Index{I / kVectors} * kPanel<float> + column + Index{I % kVectors} * kLanes),
   ...);
}

}  // namespace impl

MOE_NAMESPACE_END
