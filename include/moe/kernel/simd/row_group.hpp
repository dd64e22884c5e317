// prepare_row in vector registers, by the compilers' vector extension: integers and floats of as many lanes
// as the architecture has floats. The last group of a row goes through a padded buffer and the same
// operations.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "moe/kernel/arch.hpp"
#include "moe/kernel/ref/block_tile.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// kLanes numbers each.
template <Index kLanes>
struct Lanes {
  typedef std::uint32_t Words [[gnu::vector_size(4 * kLanes)]];
  typedef std::int32_t Ints [[gnu::vector_size(4 * kLanes)]];
  typedef float Floats [[gnu::vector_size(4 * kLanes)]];
  typedef std::uint16_t Halves [[gnu::vector_size(2 * kLanes)]];
  typedef std::int8_t Bytes [[gnu::vector_size(kLanes)]];
};

struct FloatHalvedCodeGroup {
  float codes[kBlockRows];
  float scale;
  float start[2];
};

/// kBlockRows codes of a row with one scale, for tiles that compute in float; see ChannelCodes.
struct FloatChannelCodes {
  float codes[kBlockRows];
};

template <class V>
MOE_ALWAYS_INLINE V load_vector(const void* p) noexcept {
  V v;
  std::memcpy(&v, p, sizeof(V));
  return v;
}

/// The largest lane, and the sum of all: halves folded onto each other.
template <Index kLanes>
MOE_ALWAYS_INLINE std::int32_t largest_lane(typename Lanes<kLanes>::Ints x) noexcept {
  if constexpr (kLanes == 2) {
    return x[0] < x[1] ? x[1] : x[0];
  } else {
    typename Lanes<kLanes / 2>::Ints half[2];
    std::memcpy(half, &x, sizeof(x));
    return largest_lane<kLanes / 2>(half[0] < half[1] ? half[1] : half[0]);
  }
}
template <Index kLanes>
MOE_ALWAYS_INLINE std::int32_t sum_of_lanes(typename Lanes<kLanes>::Ints x) noexcept {
  if constexpr (kLanes == 2) {
    return x[0] + x[1];
  } else {
    typename Lanes<kLanes / 2>::Ints half[2];
    std::memcpy(half, &x, sizeof(x));
    return sum_of_lanes<kLanes / 2>(half[0] + half[1]);
  }
}

/// A group of a row in 8 bits for tiles that compute in float; start as in CodeGroup.
struct FloatCodeGroup {
  float codes[kBlockRows];
  float scale;
  float start;
};

/// The codes of a group, kBlockRows / kLanes vectors of them.
template <Index kLanes, class Ints>
MOE_ALWAYS_INLINE void store_codes(const Ints* codes, std::int8_t* to) noexcept {
#if defined(__AVX2__)
  if constexpr (kLanes == 8) {  // g++ 12 converts one lane at a time
    __m256i words[4];
    std::memcpy(words, codes, sizeof(words));
    // Packs work in halves: fours of bytes come out as 0 2 4 6 and 1 3 5 7.
    const __m256i fours =
        _mm256_packs_epi16(_mm256_packs_epi32(words[0], words[1]), _mm256_packs_epi32(words[2], words[3]));
    const __m256i bytes = _mm256_permutevar8x32_epi32(fours, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    std::memcpy(to, &bytes, sizeof(bytes));
    return;
  }
#endif
  for (Index k = 0; k < kBlockRows; k += kLanes) {
    const auto bytes = __builtin_convertvector(codes[k / kLanes], typename Lanes<kLanes>::Bytes);
    std::memcpy(to + k, &bytes, sizeof(bytes));
  }
}
template <Index kLanes, class Ints>
MOE_ALWAYS_INLINE void store_codes(const Ints* codes, float* to) noexcept {
  for (Index k = 0; k < kBlockRows; k += kLanes) {
    const auto floats = __builtin_convertvector(codes[k / kLanes], typename Lanes<kLanes>::Floats);
    std::memcpy(to + k, &floats, sizeof(floats));
  }
}

/// Lane by lane the largest magnitude, as bits, of `largest` and kBlockRows numbers.
template <class Ints>
MOE_ALWAYS_INLINE void raise_to_magnitudes(const float* x, Ints& largest) noexcept {
  for (Index k = 0; k < kBlockRows; k += static_cast<Index>(sizeof(Ints) / 4)) {
    const Ints magnitude = load_vector<Ints>(x + k) & 0x7FFFFFFF;
    largest = largest < magnitude ? magnitude : largest;
  }
}

/// Codes of kBlockRows numbers; their sums are added to `sum` lane by lane.
template <class Arch, class Ints, class Code>
MOE_ALWAYS_INLINE void round_to_codes(const float* x, const RowScale& scale, Code* to, Ints& sum) noexcept {
  using B = Batch<float, Arch>;
  constexpr Index kLanes = static_cast<Index>(B::size);
  using Words = typename Lanes<kLanes>::Words;
  const std::uint32_t keep = scale.to_codes == 0 ? 0 : 0xFFFFFFFF;  // else NaN would reach the codes
  Ints codes[kBlockRows / kLanes];
  for (Index k = 0; k < kBlockRows; k += kLanes) {
    const B number = std::bit_cast<B>(load_vector<Words>(x + k) & keep);
    const B shifted = fma(number, B(scale.to_codes), B(kRoundToInteger));
    codes[k / kLanes] = std::bit_cast<Ints>(shifted) - std::bit_cast<std::int32_t>(kRoundToInteger);
    sum += codes[k / kLanes];
  }
  store_codes<kLanes>(codes, to);
}

template <class Arch, class Group, class Storage>
MOE_ALWAYS_INLINE void prepare_whole_group(const float* x, Group& group, Storage) noexcept {
  constexpr Index kLanes = static_cast<Index>(Batch<float, Arch>::size);
  using Ints = typename Lanes<kLanes>::Ints;
  Ints largest = {}, sum = {};
  raise_to_magnitudes(x, largest);
  const RowScale scale = row_scale(static_cast<std::uint32_t>(largest_lane<kLanes>(largest)));
  round_to_codes<Arch>(x, scale, group.codes, sum);
  group.scale = scale.from_codes;
  group.start =
      static_cast<decltype(group.start)>(-StorageBlock<Storage>::kOffset * sum_of_lanes<kLanes>(sum));
}

template <class Arch, class Group>
MOE_ALWAYS_INLINE void prepare_whole_group(const float* x, Group& group, Q6K) noexcept {
  constexpr Index kLanes = static_cast<Index>(Batch<float, Arch>::size);
  static_assert(kLanes <= 16);
  using Ints = typename Lanes<kLanes>::Ints;
  Ints largest = {}, sum = {};
  raise_to_magnitudes(x, largest);
  const RowScale scale = row_scale(static_cast<std::uint32_t>(largest_lane<kLanes>(largest)));
  round_to_codes<Arch>(x, scale, group.codes, sum);
  group.scale = scale.from_codes;
  // The start of the second half is what the first half leaves of the whole group's.
  std::int32_t first = 0;
  for (Index k = 0; k < 16; ++k) first += static_cast<std::int32_t>(group.codes[k]);
  constexpr std::int32_t kOffset = StorageBlock<Q6K>::kOffset;
  using Start = std::remove_reference_t<decltype(group.start[0])>;
  group.start[0] = static_cast<Start>(-kOffset * first);
  group.start[1] = static_cast<Start>(-kOffset * (sum_of_lanes<kLanes>(sum) - first));
}

/// The bits of BFloat16::from_float_within, in the upper halves of the words.
template <class Words>
MOE_ALWAYS_INLINE Words round_to_bf16(const Words& u) noexcept {
  const Words magnitude = u & 0x7FFFFFFF;
  const Words rounded = u + 0x7FFF + ((u >> 16) & 1);
  const Words finite = magnitude - 0x7F7F8000 < 0x8000 ? u - 0x8000 : rounded;
  return (magnitude > kInfBits ? u | 0x400000 : finite) & 0xFFFF0000;
}

template <class Arch>
MOE_ALWAYS_INLINE void prepare_whole_group(const float* x, FloatGroup& group, BFloat16) noexcept {
  using Words = typename Lanes<static_cast<Index>(Batch<float, Arch>::size)>::Words;
  for (Index k = 0; k < kBlockRows; k += static_cast<Index>(sizeof(Words) / 4)) {
    const Words rounded = round_to_bf16(load_vector<Words>(x + k));
    std::memcpy(group.x + k, &rounded, sizeof(rounded));
  }
}

/// For any path of vectors; Arch: whose vectors.
template <class Arch, class Group, class Storage>
void prepare_groups(const float* x, Index count, Group* groups, Storage storage) noexcept {
  Index k = 0;
  for (; k + kBlockRows <= count; k += kBlockRows) prepare_whole_group<Arch>(x + k, *groups++, storage);
  if (k < count) {
    alignas(64) float padded[kBlockRows] = {};
    std::memcpy(padded, x + k, static_cast<std::size_t>(count - k) * sizeof(float));
    prepare_whole_group<Arch>(padded, *groups, storage);
  }
}

/// The same with one scale for the row.
template <class Arch, class Cell>
void prepare_groups(const float* x, Index count, Cell* cells, Int8Channels) noexcept {
  constexpr Index kLanes = static_cast<Index>(Batch<float, Arch>::size);
  using Ints = typename Lanes<kLanes>::Ints;
  const Index whole = count / kBlockRows * kBlockRows;
  alignas(64) float padded[kBlockRows] = {};
  if (count > whole) std::memcpy(padded, x + whole, static_cast<std::size_t>(count - whole) * sizeof(float));
  Ints largest = {}, sum = {};
  for (Index k = 0; k < whole; k += kBlockRows) raise_to_magnitudes(x + k, largest);
  raise_to_magnitudes(padded, largest);
  const RowScale scale = row_scale(static_cast<std::uint32_t>(largest_lane<kLanes>(largest)));
  for (Index k = 0; k < count; k += kBlockRows) {
    round_to_codes<Arch>(k < whole ? x + k : padded, scale, cells[1 + k / kBlockRows].codes, sum);
  }
  set_header(cells[0], {scale.from_codes, -StorageBlock<Int8Channels>::kOffset * sum_of_lanes<kLanes>(sum)});
}

template <class Group, class Storage, class Arch>
requires SimdArch<Arch>
void prepare_row(const float* x, Index count, Group* groups, Storage storage, Arch) noexcept {
  prepare_groups<Arch>(x, count, groups, storage);
}

}  // namespace impl

MOE_NAMESPACE_END
