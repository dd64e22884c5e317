// Panels of Q4K and Q6K: blocks of 256 rows, whose columns have scales of two levels, as GGUF's K-quants have
// them.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>

#include "moe/core/types.hpp"
#include "moe/kernel/number_format.hpp"
#include "moe/kernel/panel.hpp"
#include "moe/kernel/storage_block.hpp"

MOE_NAMESPACE_BEGIN

inline constexpr Index kSuperRows = 256;
inline constexpr Index kSuperGroups = kSuperRows / kBlockRows;

/// Weights stored by 256 rows.
template <class Storage>
concept SuperStorage = std::same_as<Storage, Q4K> || std::same_as<Storage, Q6K>;

/// 256 numbers of one column, by themselves. Q4K: codes 0 .. 15, number = scale * scales[k / 32] * code -
/// offset * offsets[k / 32], of which the codes of scales are 0 .. 63. Q6K: codes -32 .. 31, number = scale *
/// scales[k / 16] * code, with codes of scales of 8 bits.
struct SuperColumn {
  Float16 scale, offset;
  std::int8_t scales[16];
  std::int8_t offsets[kSuperGroups];
  std::int8_t codes[kSuperRows];
};

/// The first level's scales of all columns, then the groups of 32 rows one after the other.
template <>
struct alignas(64) StorageBlock<Q4K> {
  /// Laid out as a block of Int4Groups: two quads of k a byte; the code of the scale in the low half of
  /// `scales`, that of the offset in the high one.
  struct Group {
    static constexpr int kBits = 4;
    std::uint16_t scales[kPanel<float>];
    std::uint8_t quads[kBlockRows / 8][kPanel<float>][4];
  };
  /// A row's start is minus the sum of its codes: what a number's offset multiplies.
  static constexpr int kOffset = 1;

  Float16 scale[kPanel<float>];
  Float16 offset[kPanel<float>];
  Group groups[kSuperGroups];

  int code(Index k, Index column) const noexcept {
    return (groups[k / kBlockRows].quads[k % kBlockRows / 8][column][k % 4] >> (k & 4)) & 15;
  }
  /// Of group g of 32 rows: what multiplies its codes, and what is subtracted. Exact.
  float scale_of(Index g, Index column) const noexcept {
    return scale[column].to_float() * static_cast<float>(groups[g].scales[column] & 255);
  }
  float offset_of(Index g, Index column) const noexcept {
    return offset[column].to_float() * static_cast<float>(groups[g].scales[column] >> 8);
  }
  float number(Index k, Index column) const noexcept {
    const float product = scale_of(k / kBlockRows, column) * static_cast<float>(code(k, column));  // exact
    return product - offset_of(k / kBlockRows, column);
  }
  void set_column(Index column, const SuperColumn& from) noexcept {
    scale[column] = from.scale;
    offset[column] = from.offset;
    for (Index g = 0; g < kSuperGroups; ++g) {
      groups[g].scales[column] = static_cast<std::uint16_t>(from.scales[g] | from.offsets[g] << 8);
    }
    for (Index k = 0; k < kSuperRows; k += 8) {
      for (Index i = 0; i < 4; ++i) {
        groups[k / kBlockRows].quads[k % kBlockRows / 8][column][i] =
            static_cast<std::uint8_t>(from.codes[k + i] | from.codes[k + 4 + i] << 4);
      }
    }
  }
};

template <>
struct alignas(64) StorageBlock<Q6K> {
  /// Codes are stored as code + 32: four bits as in Q4K, the upper two of four quads a byte. Two scales of 16
  /// rows each, the first in the low half.
  struct Group {
    static constexpr int kBits = 6;
    std::uint16_t scales[kPanel<float>];
    std::uint8_t quads[kBlockRows / 8][kPanel<float>][4];
    std::uint8_t high[kBlockRows / 16][kPanel<float>][4];
  };
  static constexpr int kOffset = 32;

  Float16 scale[kPanel<float>];
  Group groups[kSuperGroups];

  int code(Index k, Index column) const noexcept {
    const Group& group = groups[k / kBlockRows];
    const int low = (group.quads[k % kBlockRows / 8][column][k % 4] >> (k & 4)) & 15;
    const int high = (group.high[k % kBlockRows / 16][column][k % 4] >> (k % 16 / 4 * 2)) & 3;
    return (low | high << 4) - kOffset;
  }
  /// Of group h of 16 rows. Exact.
  float scale_of(Index h, Index column) const noexcept {
    const auto code = static_cast<std::int8_t>(groups[h / 2].scales[column] >> (h % 2 * 8));
    return scale[column].to_float() * static_cast<float>(code);
  }
  float number(Index k, Index column) const noexcept {
    return scale_of(k / 16, column) * static_cast<float>(code(k, column));
  }
  void set_column(Index column, const SuperColumn& from) noexcept {
    scale[column] = from.scale;
    for (Index g = 0; g < kSuperGroups; ++g) {
      groups[g].scales[column] =
          static_cast<std::uint16_t>((from.scales[2 * g] & 255) | (from.scales[2 * g + 1] & 255) << 8);
    }
    for (Index k = 0; k < kSuperRows; k += 16) {
      Group& group = groups[k / kBlockRows];
      for (Index i = 0; i < 4; ++i) {
        int code[4], high = 0;
        for (Index q = 0; q < 4; ++q) {
          code[q] = from.codes[k + 4 * q + i] + kOffset;
          high |= code[q] >> 4 << (2 * q);
        }
        auto* const quads = group.quads + k % kBlockRows / 8;
        quads[0][column][i] = static_cast<std::uint8_t>((code[0] & 15) | (code[1] & 15) << 4);
        quads[1][column][i] = static_cast<std::uint8_t>((code[2] & 15) | (code[3] & 15) << 4);
        group.high[k % kBlockRows / 16][column][i] = static_cast<std::uint8_t>(high);
      }
    }
  }
};

template <>
constexpr Index panel_blocks<Q4K>(Index rows) noexcept {
  return ceil_div(rows, kSuperRows);
}
template <>
constexpr Index panel_blocks<Q6K>(Index rows) noexcept {
  return ceil_div(rows, kSuperRows);
}
template <SuperStorage Storage>
inline constexpr Index kGroupBytes<Storage> = sizeof(StorageBlock<Storage>) / kSuperGroups;

template <SuperStorage Storage>
void decode_rows(const StorageBlock<Storage>* panel, Index group, float* values) noexcept {
  const StorageBlock<Storage>& block = panel[group / kSuperGroups];
  for (Index k = 0; k < kBlockRows; ++k) {
    for (Index c = 0; c < kPanel<float>; ++c) {
      values[k * kPanel<float> + c] = block.number(group % kSuperGroups * kBlockRows + k, c);
    }
  }
}

namespace impl {

inline int nearest_code(float steps, int lowest, int highest) noexcept {
  const float bounded =
      (std::min)((std::max)(steps, static_cast<float>(lowest)), static_cast<float>(highest));
  return static_cast<int>(std::floor(bounded + 0.5f));
}

/// `level` as the first level's scale times codes of the second up to `highest`: the largest gets that one,
/// the others the nearest.
template <Index kCount>
Float16 two_levels(const float (&level)[kCount], int highest, std::int8_t* codes) noexcept {
  float largest = 0;
  for (const float x : level) largest = (std::max)(largest, std::abs(x));
  const Float16 scale = Float16::from_float(largest / static_cast<float>(highest));
  for (Index i = 0; i < kCount; ++i) {
    const int full = level[i] < 0 ? -highest : highest;
    const bool zero = scale.to_float() == 0;
    codes[i] = static_cast<std::int8_t>(zero ? 0
                                        : std::abs(level[i]) == largest
                                            ? full
                                            : nearest_code(level[i] / scale.to_float(), -highest, highest));
  }
  return scale;
}

}  // namespace impl

/// x [256], finite, as Q4K. Every group's range, widened to hold 0 below, is cut into 15 steps; steps and
/// offsets are rounded to the codes of two levels, each by at most half of 1 / 63 of the block's largest; a
/// group's smallest number gets code 0 if it is below 0, the largest code 15, the others the nearest. So what
/// a column made here decodes to is encoded to the same column, as far as its offsets are below 2^10 times
/// its steps.
inline void encode_column(const float* x, SuperColumn& to, Q4K) noexcept {
  float lowest[kSuperGroups], highest[kSuperGroups], step[kSuperGroups], offset[kSuperGroups];
  for (Index g = 0; g < kSuperGroups; ++g) {
    const auto [low, high] = std::minmax_element(x + g * kBlockRows, x + (g + 1) * kBlockRows);
    lowest[g] = *low, highest[g] = *high;
    offset[g] = (std::max)(-*low, 0.0f);
    step[g] = (*high + offset[g]) / 15;
  }
  to.scale = impl::two_levels(step, 63, to.scales);
  to.offset = impl::two_levels(offset, 63, to.offsets);
  for (Index k = 0; k < kSuperRows; ++k) {
    const Index g = k / kBlockRows;
    const float scale = to.scale.to_float() * static_cast<float>(to.scales[g]);
    const float shift = to.offset.to_float() * static_cast<float>(to.offsets[g]);
    int code = scale == 0 ? 0 : impl::nearest_code((x[k] + shift) / scale, 0, 15);
    if (scale != 0 && x[k] == highest[g]) code = 15;
    if (x[k] == lowest[g] && x[k] < 0) code = 0;
    to.codes[k] = static_cast<std::int8_t>(code);
  }
}

/// x [256], finite, as Q6K. Of every 16 numbers the largest magnitude gets code -32, which makes the scale's
/// sign the opposite of its own; scales are rounded as those of Q4K, by at most half of 1 / 127 of the
/// block's largest; the others get the nearest code. What a column made here decodes to is encoded to the
/// same column.
inline void encode_column(const float* x, SuperColumn& to, Q6K) noexcept {
  constexpr Index kGroups = kSuperRows / 16;
  float top[kGroups], step[kGroups];
  for (Index h = 0; h < kGroups; ++h) {
    top[h] = *std::max_element(x + h * 16, x + (h + 1) * 16,
                               [](float a, float b) noexcept { return std::abs(a) < std::abs(b); });
    step[h] = -top[h] / 32;
  }
  to.scale = impl::two_levels(step, 127, to.scales);
  for (Index k = 0; k < kSuperRows; ++k) {
    const Index h = k / 16;
    const float scale = to.scale.to_float() * static_cast<float>(to.scales[h]);
    const int code = scale == 0 ? 0 : x[k] == top[h] ? -32 : impl::nearest_code(x[k] / scale, -32, 31);
    to.codes[k] = static_cast<std::int8_t>(code);
  }
}

/// Columns `source` [kPanel<float>], `rows` finite numbers each (null: zeros), as a panel.
template <SuperStorage Storage>
void encode_panel(const float* const* source, Index rows, StorageBlock<Storage>* panel) noexcept {
  float values[kSuperRows];
  SuperColumn column;
  for (Index k = 0; k < rows; k += kSuperRows) {
    const Index count = (std::min)(kSuperRows, rows - k);
    for (Index c = 0; c < kPanel<float>; ++c) {
      std::fill(values, values + kSuperRows, 0.0f);
      if (source[c] != nullptr) std::copy(source[c] + k, source[c] + k + count, values);
      encode_column(values, column, Storage{});
      panel[k / kSuperRows].set_column(c, column);
    }
  }
}

MOE_NAMESPACE_END
