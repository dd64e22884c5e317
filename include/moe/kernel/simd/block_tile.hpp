// block_tile in float vectors, and what all forms in vector registers share.
//
// Weights are widened to float in registers, once for all rows of the tile. Products of codes are integers,
// and so are their sums, below 2^24: exact in float in any order.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <utility>

#include "moe/kernel/arch.hpp"
#include "moe/kernel/prefetch.hpp"
#include "moe/kernel/ref/block_tile.hpp"
#include "moe/kernel/simd/gemm_tile.hpp"
#include "moe/kernel/simd/half_scales.hpp"
#include "moe/kernel/simd/row_group.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// The codes of one group of a panel of Int8Channels.
struct ChannelQuads {
  static constexpr int kBits = 8;
  const StorageBlock<Int8Channels>* at;
};

/// kBits, 8 or 4, of a block or of what stands for one.
template <class Block, int kBits>
concept CodesOf = Block::kBits == kBits;

/// Four codes of `column` and of those behind it: of quad `quad`, or of the two quads from 2 `quad` on.
template <class Block>
MOE_ALWAYS_INLINE const std::uint8_t* quads_at(const Block& block, Index quad, Index column) noexcept {
  return block.quads[quad][column];
}
MOE_ALWAYS_INLINE const std::uint8_t* quads_at(const ChannelQuads& block, Index quad, Index column) noexcept {
  return block.at[quad].bytes[column];
}

template <class Arch, Index kLanes>
inline constexpr bool kHasLanes = false;
template <class Arch, Index kLanes>
requires SimdArch<Arch>
inline constexpr bool kHasLanes<Arch, kLanes> = Batch<float, Arch>::size == static_cast<std::size_t>(kLanes);

/// The 32 bits at p in every lane.
template <class Words>
MOE_ALWAYS_INLINE Words broadcast_word(const void* p) noexcept {
  return Words{} + load_vector<std::uint32_t>(p);
}

inline constexpr Index kFetchSteps = 4;

/// Prefetches of one pass over a panel: the cache lines that begin in `bytes` bytes of each of `streams`
/// stretches by turns, kFetchSteps times a block.
struct FetchCursor {
  const char* at = nullptr;
  Index bytes = 0;
  Index stretch = 0;
  Index streams = 1;
  Index stream = 0;
  Index line = 0, end = bytes;  // from the beginning of each stretch

  /// Before the first step: one a block, in place of kFetchSteps.
  MOE_ALWAYS_INLINE void step_by_blocks() noexcept { end = bytes *= kFetchSteps; }
  template <class F = FetchLine>
  MOE_ALWAYS_INLINE void step(const F& fetch = {}) noexcept {
    const char* const from = at + stream * stretch;
    Index i = line;
    for (; i < end; i += 64) fetch(from + i);
    if (++stream < streams) return;
    stream = 0;
    line = i;
    end += bytes;
  }
};

/// The share of pass `pass` of `passes` of this call.
inline FetchCursor fetch_cursor(const PanelFetch& fetch, Index groups, Index block_bytes, Index pass,
                                Index passes) noexcept {
  if (fetch.at == nullptr || groups == 0) return {};
  const char* const at = static_cast<const char*>(fetch.at);
  const Index panel = groups * block_bytes, parts = fetch.parts * passes;
  // One row of codes has a panel every 400 ns: no divisions.
  if (parts == 1 && fetch.streams == 1) return {at, ceil_div(block_bytes, kFetchSteps), panel, 1};
  const Index stretch = round_up(ceil_div(panel, fetch.streams), Index{64});
  const Index share = round_up(ceil_div(stretch, parts), Index{64});
  const Index turns = (std::max)(Index{1}, groups * kFetchSteps / fetch.streams);
  return {at + (fetch.part * passes + pass) * share, ceil_div(share, turns), stretch, fetch.streams};
}

/// f(std::integral_constant of m), 1 <= m <= number of indices.
template <class F, std::size_t... I>
MOE_ALWAYS_INLINE void with_row_count(Index m, const F& f, std::index_sequence<I...>) noexcept {
  static_cast<void>((... || (m == Index{I} + 1 && (f(std::integral_constant<std::size_t, I + 1>{}), true))));
}

/// Scales of as many columns as Words has lanes, as bits of floats.
template <class Words>
MOE_ALWAYS_INLINE Words widen_scales(const BFloat16* scales) noexcept {
  using Halves = typename Lanes<sizeof(Words) / 4>::Halves;
  return __builtin_convertvector(load_vector<Halves>(scales), Words) << 16;
}
template <class Words>
MOE_ALWAYS_INLINE Words widen_scales(const Float16* scales) noexcept {
  if constexpr (kWidensHalves<Words>) return widen_halves<Words>(scales);
  using Halves = typename Lanes<sizeof(Words) / 4>::Halves;
  using Floats = typename Lanes<sizeof(Words) / 4>::Floats;
  const Words half = __builtin_convertvector(load_vector<Halves>(scales), Words);
  const Words magnitude = half & 0x7FFF;
  const Words normal = (magnitude << 13) + 0x38000000;
  const Words tiny = std::bit_cast<Words>(std::bit_cast<Floats>(normal + 0x800000) - 0x1p-14f);
  const Words finite = magnitude < 0x400 ? tiny : normal;
  return (magnitude < 0x7C00 ? finite : normal | kInfBits) | ((half & 0x8000) << 16);
}

/// One or the other k of a pair, kLanes columns from `column` on.
template <Index kLanes, int kOfTwo>
MOE_ALWAYS_INLINE auto widen_pair(const StorageBlock<BFloat16>& block, Index pair, Index column) noexcept {
  using Words = typename Lanes<kLanes>::Words;
  const Words both = load_vector<Words>(&block.pairs[pair][column]);
  return std::bit_cast<typename Lanes<kLanes>::Floats>(kOfTwo == 0 ? both << 16 : both & 0xFFFF0000);
}

template <class Arch, class Storage>
requires SimdArch<Arch>
struct BlockShape<Arch, Storage> {
  using Row = FloatCodeGroup;
  static constexpr Index kRows = TileShape<Arch, float>::kRows;
  static constexpr int vectors(int m) noexcept { return TileShape<Arch, float>::vectors(m); }
};
template <class Arch>
requires SimdArch<Arch>
struct BlockShape<Arch, BFloat16> : TileShape<Arch, float> {
  using Row = FloatGroup;
};
template <class Arch>
requires SimdArch<Arch>
struct BlockShape<Arch, Q6K> : TileShape<Arch, float> {
  using Row = FloatHalvedCodeGroup;
};
template <class Arch>
requires SimdArch<Arch>
struct BlockShape<Arch, Int8Channels> : TileShape<Arch, float> {
  using Row = FloatChannelCodes;
};

template <class Arch, int kVectors, std::size_t... R, std::size_t... V, std::size_t... I>
MOE_NOINLINE void block_pass(Arch, const FloatGroup* const* rows, Index groups,
                             const StorageBlock<BFloat16>* panel, Index column, float* tile,
                             FetchCursor fetch, std::index_sequence<R...>, std::index_sequence<V...>,
                             std::index_sequence<I...>) noexcept {
  using B = Batch<float, Arch>;
  constexpr Index kLanes = static_cast<Index>(B::size);
  const float* const row[] = {rows[R]->x...};
  B sum[] = {((void)I, B(0))...};
  for (Index g = 0; g < groups; ++g, ++panel) {
    for (Index pair = 0; pair < kBlockRows / 2; ++pair) {
      if (pair % (kBlockRows / 2 / kFetchSteps) == 0) fetch.step();
      const Index k = g * kBlockRows + 2 * pair;
      {
        B weight[] = {std::bit_cast<B>(widen_pair<kLanes, 0>(*panel, pair, column + Index{V} * kLanes))...};
        (hold_in_register(weight[V]), ...);
        (add_product<sizeof...(I)>(sum[I], B(row[I / kVectors][k]), weight[I % kVectors]), ...);
      }
      {
        B weight[] = {std::bit_cast<B>(widen_pair<kLanes, 1>(*panel, pair, column + Index{V} * kLanes))...};
        (hold_in_register(weight[V]), ...);
        (add_product<sizeof...(I)>(sum[I], B(row[I / kVectors][k + 1]), weight[I % kVectors]), ...);
      }
    }
  }
  (sum[I].store_aligned(tile + Index{I / kVectors} * kPanel<float> + column + Index{I % kVectors} * kLanes),
   ...);
}

/// Lanes of stored codes k = 4 quad + kByte, as floats.
template <Index kLanes, int kByte, CodesOf<8> Block>
MOE_ALWAYS_INLINE auto widen_codes(const Block& block, Index quad, Index column) noexcept {
  using L = Lanes<kLanes>;
  const auto four = load_vector<typename L::Words>(quads_at(block, quad, column));
  const typename L::Words code = kByte == 3 ? four >> 24 : (four >> (8 * kByte)) & 0xFF;
  return __builtin_convertvector(std::bit_cast<typename L::Ints>(code), typename L::Floats);
}
template <Index kLanes, int kByte, CodesOf<4> Block>
MOE_ALWAYS_INLINE auto widen_codes(const Block& block, Index quad, Index column) noexcept {
  using L = Lanes<kLanes>;
  const auto four = load_vector<typename L::Words>(quads_at(block, quad / 2, column));
  const typename L::Words code = (four >> (Index{8} * kByte + 4 * (quad % 2))) & 0xF;
  return __builtin_convertvector(std::bit_cast<typename L::Ints>(code), typename L::Floats);
}

/// Stored codes, 0 .. 63, of quads 2 pair and 2 pair + 1 of a group of Q6K.
template <class Words>
struct TwoQuads {
  Words first, second;
};
template <class Words, CodesOf<6> Block>
MOE_ALWAYS_INLINE TwoQuads<Words> six_bits(const Block& block, Index pair, Index column) noexcept {
  const auto low = load_vector<Words>(block.quads[pair][column]);
  const auto high = load_vector<Words>(block.high[pair / 2][column]);
  const Words first = pair % 2 == 0 ? high << 4 : high;
  const Words second = pair % 2 == 0 ? high << 2 : high >> 2;
  return {(low & 0x0F0F0F0Fu) | (first & 0x30303030u), ((low >> 4) & 0x0F0F0F0Fu) | (second & 0x30303030u)};
}

template <Index kLanes, int kByte, CodesOf<6> Block>
MOE_ALWAYS_INLINE auto widen_codes(const Block& block, Index quad, Index column) noexcept {
  using L = Lanes<kLanes>;
  const auto both = six_bits<typename L::Words>(block, quad / 2, column);
  const typename L::Words code = ((quad % 2 == 0 ? both.first : both.second) >> (8 * kByte)) & 0xFF;
  return __builtin_convertvector(std::bit_cast<typename L::Ints>(code), typename L::Floats);
}

template <class Arch, int kVectors, int kByte, class Group, class Block, std::size_t... V, std::size_t... I>
MOE_ALWAYS_INLINE void code_step(const Group* const* row, Index g, const Block& block, Index quad,
                                 Index column, Batch<float, Arch>* dot, std::index_sequence<V...>,
                                 std::index_sequence<I...>) noexcept {
  using B = Batch<float, Arch>;
  constexpr Index kLanes = static_cast<Index>(B::size);
  B weight[] = {std::bit_cast<B>(widen_codes<kLanes, kByte>(block, quad, column + Index{V} * kLanes))...};
  (hold_in_register(weight[V]), ...);
  ((dot[I] = fma(B(row[I / kVectors][g].codes[4 * quad + kByte]), weight[I % kVectors], dot[I])), ...);
}

/// float(sum) * scale of the column * scale of the row, to the tile.
template <class Arch, int kVectors, class Ints, std::size_t... V, std::size_t... I>
MOE_ALWAYS_INLINE void finish_channels(const Ints* sum, const ChannelHeader* header,
                                       const StorageBlock<Int8Channels>* panel, Index column, float* tile,
                                       std::index_sequence<V...>, std::index_sequence<I...>) noexcept {
  using B = Batch<float, Arch>;
  using L = Lanes<static_cast<Index>(B::size)>;
  constexpr Index kLanes = static_cast<Index>(B::size);
  const B scale[] = {load_vector<B>(panel->bytes[column + Index{V} * kLanes])...};
  const auto product = [](const Ints& exact, const B& weight_scale, float row_scale) noexcept -> B {
    const auto number = __builtin_convertvector(std::bit_cast<typename L::Ints>(exact), typename L::Floats);
    return std::bit_cast<B>(number) * weight_scale * B(row_scale);
  };
  (product(sum[I], scale[I % kVectors], header[I / kVectors].scale)
       .store_aligned(tile + Index{I / kVectors} * kPanel<float> + column + Index{I % kVectors} * kLanes),
   ...);
}

/// The sums live in the tile: a group's integer sums take the registers.
template <class Arch, int kVectors, class Storage, std::size_t... R, std::size_t... V, std::size_t... I>
requires(!SuperStorage<Storage>) MOE_NOINLINE
    void block_pass(Arch, const FloatCodeGroup* const* rows, Index groups, const StorageBlock<Storage>* panel,
                    Index column, float* tile, FetchCursor fetch, std::index_sequence<R...>,
                    std::index_sequence<V...> vectors, std::index_sequence<I...> all) noexcept {
  using B = Batch<float, Arch>;
  using Words = typename Lanes<static_cast<Index>(B::size)>::Words;
  constexpr Index kLanes = static_cast<Index>(B::size);
  const FloatCodeGroup* const row[] = {rows[R]...};
  float* const sums = tile + column;
  (B(0).store_aligned(sums + Index{I / kVectors} * kPanel<float> + Index{I % kVectors} * kLanes), ...);
  for (Index g = 0; g < groups; ++g, ++panel) {
    B dot[] = {B(row[I / kVectors][g].start)...};
    for (Index quad = 0; quad < kBlockRows / 4; ++quad) {
      if (quad % (kBlockRows / 4 / kFetchSteps) == 0) fetch.step();
      code_step<Arch, kVectors, 0>(row, g, *panel, quad, column, dot, vectors, all);
      code_step<Arch, kVectors, 1>(row, g, *panel, quad, column, dot, vectors, all);
      code_step<Arch, kVectors, 2>(row, g, *panel, quad, column, dot, vectors, all);
      code_step<Arch, kVectors, 3>(row, g, *panel, quad, column, dot, vectors, all);
    }
    const B scale[] = {std::bit_cast<B>(widen_scales<Words>(panel->scales + column + Index{V} * kLanes))...};
    const auto add = [&](B d, float row_scale, const B& weight_scale, float* sum) noexcept {
      fma(B(d * weight_scale), B(row_scale), B::load_aligned(sum)).store_aligned(sum);
    };
    (add(dot[I], row[I / kVectors][g].scale, scale[I % kVectors],
         sums + Index{I / kVectors} * kPanel<float> + Index{I % kVectors} * kLanes),
     ...);
  }
}

/// A group's sum is exact in float, that of all groups is an integer.
template <class Arch, int kVectors, std::size_t... R, std::size_t... V, std::size_t... I>
MOE_NOINLINE void block_pass(Arch, const FloatChannelCodes* const* rows, Index groups,
                             const StorageBlock<Int8Channels>* panel, Index column, float* tile,
                             FetchCursor fetch, std::index_sequence<R...>, std::index_sequence<V...> vectors,
                             std::index_sequence<I...> all) noexcept {
  using B = Batch<float, Arch>;
  using L = Lanes<static_cast<Index>(B::size)>;
  using Ints = typename L::Ints;
  const FloatChannelCodes* const row[] = {rows[R] + 1 ...};
  const ChannelHeader header[] = {header_of(*rows[R])...};
  Ints sum[] = {Ints{} + header[I / kVectors].start...};
  ChannelQuads block{panel + 1};
  for (Index g = 0; g < groups; ++g, block.at += kBlockRows / 4) {
    B dot[] = {((void)I, B(0))...};
    for (Index quad = 0; quad < kBlockRows / 4; ++quad) {
      if (quad % (kBlockRows / 4 / kFetchSteps) == 0) fetch.step();
      code_step<Arch, kVectors, 0>(row, g, block, quad, column, dot, vectors, all);
      code_step<Arch, kVectors, 1>(row, g, block, quad, column, dot, vectors, all);
      code_step<Arch, kVectors, 2>(row, g, block, quad, column, dot, vectors, all);
      code_step<Arch, kVectors, 3>(row, g, block, quad, column, dot, vectors, all);
    }
    ((sum[I] += __builtin_convertvector(std::bit_cast<typename L::Floats>(dot[I]), Ints)), ...);
  }
  finish_channels<Arch, kVectors>(sum, header, panel, column, tile, vectors, all);
}

/// Whole panels for m rows, in passes of as many columns as the registers hold. Path: as in BlockShape; Arch:
/// whose vectors.
template <class Path, class Arch, class Row, class Storage>
void tile_of_blocks(const Row* const* rows, Index m, Index groups, const StorageBlock<Storage>* panel,
                    float* tile, const PanelFetch& fetch) noexcept {
  using Shape = BlockShape<Path, Storage>;
  constexpr Index kLanes = static_cast<Index>(Batch<float, Arch>::size);
  with_row_count(
      m,
      [&](auto count) noexcept {
        constexpr std::size_t kRows = decltype(count)::value;
        constexpr int kVectors = Shape::vectors(static_cast<int>(kRows));
        constexpr Index kPasses = kPanel<float> / (kVectors * kLanes);
        for (Index pass = 0; pass < kPasses; ++pass) {
          block_pass<Arch, kVectors>(Path{}, rows, groups, panel, pass * kVectors * kLanes, tile,
                                     fetch_cursor(fetch, groups, kGroupBytes<Storage>, pass, kPasses),
                                     std::make_index_sequence<kRows>{}, std::make_index_sequence<kVectors>{},
                                     std::make_index_sequence<kRows * kVectors>{});
        }
      },
      std::make_index_sequence<static_cast<std::size_t>(Shape::kRows)>{});
}

template <class Row, class Storage, class Arch>
requires SimdArch<Arch>
void block_tile(const Row* const* rows, Index m, Index groups, const StorageBlock<Storage>* panel,
                float* tile, const PanelFetch& fetch, Arch) noexcept {
  tile_of_blocks<Arch, Arch>(rows, m, groups, panel, tile, fetch);
}

}  // namespace impl

MOE_NAMESPACE_END
