// Plain loops of prepare_row and block_tile, and the words their forms share.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>

#include "moe/kernel/arch.hpp"
#include "moe/kernel/channel_block.hpp"
#include "moe/kernel/panel.hpp"
#include "moe/kernel/ref/gemm_tile.hpp"
#include "moe/kernel/storage_block.hpp"
#include "moe/kernel/super_block.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// Which code serves a storage format on an instruction set, and which rows it reads: `Row`, and `kRows`, the
/// most of them in one tile.
template <class Path, class Storage>
struct BlockShape;

/// A group of a row as floats that the format can hold.
struct FloatGroup {
  float x[kBlockRows];
};

/// A group of a row in 8 bits: number = code * scale; start = -StorageBlock::kOffset * sum of the codes,
/// which makes up for the offset of the stored weights.
struct CodeGroup {
  std::int8_t codes[kBlockRows];
  float scale;
  std::int32_t start;
};

/// The same for weights with a scale for every 16: start of either half of the codes.
struct HalvedCodeGroup {
  std::int8_t codes[kBlockRows];
  float scale;
  std::int32_t start[2];
};

/// kBlockRows codes of a row with one scale. The first of a row's cells is its header instead.
struct ChannelCodes {
  std::int8_t codes[kBlockRows];
};
/// number = code * scale; start as in CodeGroup, of all codes of the row.
struct ChannelHeader {
  float scale;
  std::int32_t start;
};
template <class Cell>
ChannelHeader header_of(const Cell& cell) noexcept {
  ChannelHeader header;
  std::memcpy(&header, cell.codes, sizeof(header));
  return header;
}
template <class Cell>
void set_header(Cell& cell, const ChannelHeader& header) noexcept {
  std::memcpy(cell.codes, &header, sizeof(header));
}

/// Below this a group of a row counts as zeros: 127 / largest must not overflow.
inline constexpr float kLeastRowNumber = 0x1p-118f;
inline constexpr std::uint32_t kInfBits = 0x7F800000u;

/// x + this has the integer nearest to x, ties to even, in its low bits, for |x| < 2^22.
inline constexpr float kRoundToInteger = 0x1.8p23f;

/// What 32 numbers are multiplied by to become codes, and what the codes are multiplied by: 127 / largest and
/// largest / 127; 0 and NaN if one is not finite.
struct RowScale {
  float to_codes;
  float from_codes;
};
inline RowScale row_scale(std::uint32_t magnitude) noexcept {
  const float largest = std::bit_cast<float>(magnitude);
  if (magnitude >= kInfBits) return {0, std::numeric_limits<float>::quiet_NaN()};
  if (magnitude < std::bit_cast<std::uint32_t>(kLeastRowNumber)) return {0, 0};
  return {127 / largest, largest / 127};
}

template <class Storage>
struct BlockShape<reference_arch, Storage> {
  using Row = CodeGroup;
  static constexpr Index kRows = 4;
};
template <>
struct BlockShape<reference_arch, BFloat16> {
  using Row = FloatGroup;
  static constexpr Index kRows = 4;
};
template <>
struct BlockShape<reference_arch, Q6K> {
  using Row = HalvedCodeGroup;
  static constexpr Index kRows = 4;
};
template <>
struct BlockShape<reference_arch, Int8Channels> {
  using Row = ChannelCodes;
  static constexpr Index kRows = 4;
};

inline void prepare_group(const float* x, Index count, FloatGroup& group, BFloat16, reference_arch) noexcept {
  for (Index k = 0; k < kBlockRows; ++k) {
    group.x[k] = k < count ? BFloat16::from_float_within(x[k]).to_float() : 0;
  }
}

inline RowScale scale_of(const float* x, Index count) noexcept {
  std::uint32_t largest = 0;
  for (Index k = 0; k < count; ++k) {
    const std::uint32_t magnitude = std::bit_cast<std::uint32_t>(x[k]) & 0x7FFFFFFFu;
    largest = largest < magnitude ? magnitude : largest;
  }
  return row_scale(largest);
}

/// kBlockRows codes of `count` numbers and zeros; their sum.
inline std::int32_t round_to_codes(const float* x, Index count, const RowScale& scale,
                                   std::int8_t* to) noexcept {
  std::int32_t sum = 0;
  for (Index k = 0; k < kBlockRows; ++k) {
    const float x_k = k < count && scale.to_codes != 0 ? x[k] : 0.0f;
    const float shifted = fma(x_k, scale.to_codes, kRoundToInteger);
    to[k] = static_cast<std::int8_t>(shifted - kRoundToInteger);
    sum += to[k];
  }
  return sum;
}

template <class Storage>
void prepare_group(const float* x, Index count, CodeGroup& group, Storage, reference_arch) noexcept {
  const RowScale scale = scale_of(x, count);
  group.scale = scale.from_codes;
  group.start = -StorageBlock<Storage>::kOffset * round_to_codes(x, count, scale, group.codes);
}

inline void prepare_group(const float* x, Index count, HalvedCodeGroup& group, Q6K, reference_arch) noexcept {
  const RowScale scale = scale_of(x, count);
  group.scale = scale.from_codes;
  round_to_codes(x, count, scale, group.codes);
  for (Index half = 0; half < 2; ++half) {
    group.start[half] = 0;
    for (Index k = 0; k < 16; ++k)
      group.start[half] -= StorageBlock<Q6K>::kOffset * group.codes[16 * half + k];
  }
}

template <class Row, class Storage>
void prepare_row(const float* x, Index count, Row* groups, Storage storage, reference_arch arch) noexcept {
  for (Index k = 0; k < count; k += kBlockRows) {
    prepare_group(x + k, count - k < kBlockRows ? count - k : kBlockRows, groups[k / kBlockRows], storage,
                  arch);
  }
}

inline void prepare_row(const float* x, Index count, ChannelCodes* cells, Int8Channels,
                        reference_arch) noexcept {
  const RowScale scale = scale_of(x, count);
  std::int32_t sum = 0;
  for (Index k = 0; k < count; k += kBlockRows) {
    sum += round_to_codes(x + k, count - k < kBlockRows ? count - k : kBlockRows, scale,
                          cells[1 + k / kBlockRows].codes);
  }
  set_header(cells[0], {scale.from_codes, -StorageBlock<Int8Channels>::kOffset * sum});
}

inline void block_tile(const FloatGroup* const* rows, Index m, Index groups,
                       const StorageBlock<BFloat16>* panel, float* tile, const PanelFetch&,
                       reference_arch) noexcept {
  for (Index i = 0; i < m; ++i) {
    float* const sums = tile + i * kPanel<float>;
    for (Index c = 0; c < kPanel<float>; ++c) {
      float sum = 0;
      for (Index k = 0; k < groups * kBlockRows; ++k) {
        const float weight = panel[k / kBlockRows].at(k % kBlockRows, c).to_float();
        sum = fma(rows[i][k / kBlockRows].x[k % kBlockRows], weight, sum);
      }
      sums[c] = sum;
    }
  }
}

template <class Storage>
void block_tile(const CodeGroup* const* rows, Index m, Index groups, const StorageBlock<Storage>* panel,
                float* tile, const PanelFetch&, reference_arch) noexcept {
  for (Index i = 0; i < m; ++i) {
    float* const sums = tile + i * kPanel<float>;
    for (Index c = 0; c < kPanel<float>; ++c) {
      float sum = 0;
      for (Index g = 0; g < groups; ++g) {
        std::int32_t dot = 0;
        for (Index k = 0; k < kBlockRows; ++k) dot += rows[i][g].codes[k] * panel[g].code(k, c);
        sum = fma(static_cast<float>(dot) * panel[g].scale(c).to_float(), rows[i][g].scale, sum);
      }
      sums[c] = sum;
    }
  }
}

inline void block_tile(const CodeGroup* const* rows, Index m, Index groups, const StorageBlock<Q4K>* panel,
                       float* tile, const PanelFetch&, reference_arch) noexcept {
  for (Index i = 0; i < m; ++i) {
    for (Index c = 0; c < kPanel<float>; ++c) {
      float sum = 0;
      for (Index g = 0; g < groups; ++g) {
        const StorageBlock<Q4K>& block = panel[g / kSuperGroups];
        const Index s = g % kSuperGroups;
        const CodeGroup& row = rows[i][g];
        std::int32_t dot = 0;
        for (Index k = 0; k < kBlockRows; ++k) dot += row.codes[k] * block.code(s * kBlockRows + k, c);
        const float shift = static_cast<float>(row.start) * block.offset_of(s, c);
        sum = fma(fma(static_cast<float>(dot), block.scale_of(s, c), shift), row.scale, sum);
      }
      tile[i * kPanel<float> + c] = sum;
    }
  }
}

inline void block_tile(const HalvedCodeGroup* const* rows, Index m, Index groups,
                       const StorageBlock<Q6K>* panel, float* tile, const PanelFetch&,
                       reference_arch) noexcept {
  for (Index i = 0; i < m; ++i) {
    for (Index c = 0; c < kPanel<float>; ++c) {
      float sum = 0;
      for (Index h = 0; h < 2 * groups; ++h) {
        const StorageBlock<Q6K>& block = panel[h / (2 * kSuperGroups)];
        const Index s = h % (2 * kSuperGroups);
        const HalvedCodeGroup& row = rows[i][h / 2];
        std::int32_t dot = 0;
        for (Index k = 0; k < 16; ++k) dot += row.codes[h % 2 * 16 + k] * block.code(s * 16 + k, c);
        sum = fma(static_cast<float>(dot) * block.scale_of(s, c), row.scale, sum);
      }
      tile[i * kPanel<float> + c] = sum;
    }
  }
}

inline void block_tile(const ChannelCodes* const* rows, Index m, Index groups,
                       const StorageBlock<Int8Channels>* panel, float* tile, const PanelFetch&,
                       reference_arch) noexcept {
  for (Index i = 0; i < m; ++i) {
    for (Index c = 0; c < kPanel<float>; ++c) {
      std::int32_t dot = 0;
      for (Index k = 0; k < groups * kBlockRows; ++k) {
        dot += rows[i][1 + k / kBlockRows].codes[k % kBlockRows] * channel_code(panel, k, c);
      }
      tile[i * kPanel<float> + c] = static_cast<float>(dot) * panel->scale(c) * header_of(*rows[i]).scale;
    }
  }
}

}  // namespace impl

MOE_NAMESPACE_END
