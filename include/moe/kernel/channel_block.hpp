// Panels of Int8Channels: a block with the scales of the columns, then the codes, a block for every four
// rows.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "moe/core/types.hpp"
#include "moe/kernel/number_format.hpp"
#include "moe/kernel/panel.hpp"
#include "moe/kernel/storage_block.hpp"

MOE_NAMESPACE_BEGIN

/// One quad of k for every column, stored as code + 128: the unsigned operand of an 8-bit dot product. The
/// first block of a panel holds a float for every column instead, its scale.
template <>
struct alignas(64) StorageBlock<Int8Channels> {
  static constexpr int kBits = 8;
  static constexpr int kOffset = 128;
  static constexpr int kLargest = 127;

  std::uint8_t bytes[kPanel<float>][4];

  /// -128 .. 127 of row k < 4.
  int code(Index k, Index column) const noexcept { return bytes[column][k] - kOffset; }
  void set_code(Index k, Index column, int code) noexcept {
    MOE_ASSERT(code >= -kOffset && code <= kLargest);
    bytes[column][k] = static_cast<std::uint8_t>(code + kOffset);
  }
  float scale(Index column) const noexcept {
    float scale;
    std::memcpy(&scale, bytes[column], sizeof(scale));
    return scale;
  }
  void set_scale(Index column, float scale) noexcept { std::memcpy(bytes[column], &scale, sizeof(scale)); }
};

/// k is padded to whole groups of kBlockRows, as in every block storage.
template <>
constexpr Index panel_blocks<Int8Channels>(Index rows) noexcept {
  return 1 + round_up(rows, kBlockRows) / 4;
}
template <>
inline constexpr Index kGroupBytes<Int8Channels> = kBlockRows* kPanel<float>;
/// So many products of two codes fit 32 bits.
template <>
inline constexpr Index kMostInputs<Int8Channels> = 131072;

inline int channel_code(const StorageBlock<Int8Channels>* panel, Index k, Index column) noexcept {
  return panel[1 + k / 4].code(k % 4, column);
}

/// code * scale, exact for scales of up to 17 bits, as those of encode_panel and of bf16; else rounded once.
inline void decode_rows(const StorageBlock<Int8Channels>* panel, Index group, float* values) noexcept {
  for (Index k = 0; k < kBlockRows; ++k) {
    for (Index c = 0; c < kPanel<float>; ++c) {
      values[k * kPanel<float> + c] =
          static_cast<float>(channel_code(panel, group * kBlockRows + k, c)) * panel->scale(c);
    }
  }
}

/// Columns `source` [kPanel<float>], `rows` finite numbers each (null: zeros), as a panel: the scale largest
/// / 127, rounded to 17 bits, and every number within half a scale. A column of numbers below 127 * 2^-126 is
/// one of zeros. What a panel made here decodes to is encoded to the same panel.
inline void encode_panel(const float* const* source, Index rows, StorageBlock<Int8Channels>* panel) noexcept {
  for (Index c = 0; c < kPanel<float>; ++c) {
    float largest = 0;
    for (Index k = 0; source[c] != nullptr && k < rows; ++k) {
      largest = (std::max)(largest, std::abs(source[c][k]));
    }
    const auto bits = std::bit_cast<std::uint32_t>(largest / 127);
    const float rounded = std::bit_cast<float>((bits + 0x3Fu + ((bits >> 7) & 1u)) & ~0x7Fu);
    const float scale = rounded < 0x1p-126f ? 0.0f : rounded;
    panel->set_scale(c, scale);
    for (Index k = 0; k < round_up(rows, kBlockRows); ++k) {
      const float steps = k < rows && scale != 0 ? source[c][k] / scale : 0.0f;
      const float bounded = (std::min)((std::max)(steps, -127.0f), 127.0f);
      panel[1 + k / 4].set_code(k % 4, c, static_cast<int>(bounded + 128.5f) - 128);
    }
  }
}

MOE_NAMESPACE_END
