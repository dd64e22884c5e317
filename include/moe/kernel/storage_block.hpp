// The unit of low-precision panels: 32 rows (k) x kPanel<float> columns of weights, laid out as the
// micro-kernels of kernel/block_tile.hpp read them. A panel is one block after the other, k padded with zeros
// to a multiple of kBlockRows.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "moe/core/types.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/number_format.hpp"
#include "moe/kernel/panel.hpp"

MOE_NAMESPACE_BEGIN

/// Rows of a block, and weights that share a scale.
inline constexpr Index kBlockRows = 32;

/// One block; see the specialisations.
template <class Storage>
struct StorageBlock;

/// Blocks of a panel of `rows` rows.
template <class Storage>
constexpr Index panel_blocks(Index rows) noexcept {
  return ceil_div(rows, kBlockRows);
}
/// Bytes of kBlockRows rows of a panel.
template <class Storage>
inline constexpr Index kGroupBytes = static_cast<Index>(sizeof(StorageBlock<Storage>));
/// Most rows of a matrix: what its products can sum.
template <class Storage>
inline constexpr Index kMostInputs = PTRDIFF_MAX;

/// Pairs of k side by side: what one lane of a bf16 dot product takes.
template <>
struct alignas(64) StorageBlock<BFloat16> {
  BFloat16 pairs[kBlockRows / 2][kPanel<float>][2];

  BFloat16 at(Index k, Index column) const noexcept { return pairs[k / 2][column][k % 2]; }
  void set(Index k, Index column, BFloat16 value) noexcept { pairs[k / 2][column][k % 2] = value; }
};

/// Quads of k side by side, stored as code + 128: the unsigned operand of an 8-bit dot product.
template <class Scale>
struct alignas(64) StorageBlock<Int8Groups<Scale>> {
  static constexpr int kBits = 8;
  static constexpr int kOffset = 128;
  static constexpr int kLargest = 127;

  Scale scales[kPanel<float>];
  std::uint8_t quads[kBlockRows / 4][kPanel<float>][4];

  Scale scale(Index column) const noexcept { return scales[column]; }
  void set_scale(Index column, Scale value) noexcept { scales[column] = value; }
  /// -128 .. 127.
  int code(Index k, Index column) const noexcept { return quads[k / 4][column][k % 4] - kOffset; }
  void set_code(Index k, Index column, int code) noexcept {
    MOE_ASSERT(code >= -kOffset && code <= kLargest);
    quads[k / 4][column][k % 4] = static_cast<std::uint8_t>(code + kOffset);
  }
};

/// Two quads of k a byte, stored as code + 8: the first in the low halves, the second in the high ones.
template <class Scale>
struct alignas(64) StorageBlock<Int4Groups<Scale>> {
  static constexpr int kBits = 4;
  static constexpr int kOffset = 8;
  static constexpr int kLargest = 7;

  Scale scales[kPanel<float>];
  std::uint8_t quads[kBlockRows / 8][kPanel<float>][4];

  Scale scale(Index column) const noexcept { return scales[column]; }
  void set_scale(Index column, Scale value) noexcept { scales[column] = value; }
  /// -8 .. 7.
  int code(Index k, Index column) const noexcept {
    return ((quads[k / 8][column][k % 4] >> (k & 4)) & 15) - kOffset;
  }
  void set_code(Index k, Index column, int code) noexcept {
    MOE_ASSERT(code >= -kOffset && code <= kLargest);
    std::uint8_t& byte = quads[k / 8][column][k % 4];
    byte = static_cast<std::uint8_t>((byte & (0xF0 >> (k & 4))) | ((code + kOffset) << (k & 4)));
  }
};

/// values [kBlockRows][kPanel<float>] = what the block stands for: code * scale, exact in float.
inline void decode_block(const StorageBlock<BFloat16>& block, float* values) noexcept {
  for (Index k = 0; k < kBlockRows; ++k) {
    for (Index c = 0; c < kPanel<float>; ++c) values[k * kPanel<float> + c] = block.at(k, c).to_float();
  }
}
template <class Storage>
void decode_block(const StorageBlock<Storage>& block, float* values) noexcept {
  float scale[kPanel<float>];
  for (Index c = 0; c < kPanel<float>; ++c) scale[c] = block.scale(c).to_float();
  for (Index k = 0; k < kBlockRows; ++k) {
    for (Index c = 0; c < kPanel<float>; ++c) {
      values[k * kPanel<float> + c] = static_cast<float>(block.code(k, c)) * scale[c];
    }
  }
}

/// values [kBlockRows][kPanel<float>] = rows group * kBlockRows and on of a panel.
template <class Storage>
void decode_rows(const StorageBlock<Storage>* panel, Index group, float* values) noexcept {
  decode_block(panel[group], values);
}

/// The block nearest to values [kBlockRows][kPanel<float>], which are finite.
inline void encode_block(const float* values, StorageBlock<BFloat16>& block) noexcept {
  for (Index k = 0; k < kBlockRows; ++k) {
    for (Index c = 0; c < kPanel<float>; ++c) {
      block.set(k, c, BFloat16::from_float(values[k * kPanel<float> + c]));
    }
  }
}

namespace impl {

/// What bounds the scales that encode_block makes. From kFinest on a scale is rounded to at least 7 bits;
/// below, only powers of two are used, down to kSmallest.
template <class Scale>
struct ScaleRange;
template <>
struct ScaleRange<BFloat16> {
  static constexpr float kSmallest = 0x1p-126f, kFinest = 0x1p-126f;
};
template <>
struct ScaleRange<Float16> {
  static constexpr float kSmallest = 0x1p-24f, kFinest = 0x1p-16f;
};

/// The smallest power of two >= x >= 0.
inline float next_power_of_two(float x) noexcept {
  return std::bit_cast<float>((std::bit_cast<std::uint32_t>(x) + 0x7FFFFFu) & 0x7F800000u);
}

/// The scale of a column whose largest number is `top` and whose smallest is -`bottom`, both >= 0.
///
/// 8 bits: the larger / 127, rounded. 4 bits: the larger takes code -8, which may make the scale negative,
/// and the other at most 7; where they are so close that -7 .. 7 does as well, the scale is positive. So that
/// what a block decodes to is encoded to the same block, close means closer than 1.074, between 7.5 / 7 and 7
/// / 6.5, and the scale is rounded towards zero: the codes that decide stay on their side of the limit.
template <class Storage, class Scale>
Scale column_scale(float top, float bottom) noexcept {
  constexpr float kFinest = ScaleRange<Scale>::kFinest;
  constexpr float kSteps = StorageBlock<Storage>::kOffset;
  constexpr bool kEight = kSteps == 128;
  const float largest = (std::max)(top, bottom);
  const bool flip = !kEight && top > 1.074f * bottom;
  const float exact = kEight ? largest / 127 : (std::max)(largest / 8, (flip ? bottom : top) / 7);
  Scale scale = Scale::from_float(exact);
  if (!is_finite(scale.to_float())) return scale;
  if (!kEight && scale.to_float() > exact) --scale.bits;
  if (scale.to_float() < kFinest) {
    float step = next_power_of_two(largest / kSteps);
    if (largest > (kSteps - 0.5f) * step) step *= 2;
    if (step > kFinest) {  // by code -8 alone
      scale = Scale::from_float(kFinest);
    } else {
      step = (std::max)(step, ScaleRange<Scale>::kSmallest);
      return Scale::from_float(2 * largest <= step ? 0 : step);
    }
  }
  if (flip) scale.bits |= 0x8000;
  return scale;
}

}  // namespace impl

/// Every number within half a scale of what the block stands for, as far as Scale can hold the scale (Float16
/// holds those of numbers up to 65504 * 127 or 65504 * 8; above, the column decodes to NaN). A column of
/// zeros has scale 0 and codes 0. What a block made here decodes to is encoded to the same block.
template <class Storage>
void encode_block(const float* values, StorageBlock<Storage>& block) noexcept {
  using Block = StorageBlock<Storage>;
  float top[kPanel<float>] = {}, bottom[kPanel<float>] = {}, scale[kPanel<float>];
  for (Index k = 0; k < kBlockRows; ++k) {
    for (Index c = 0; c < kPanel<float>; ++c) {
      const float x = values[k * kPanel<float> + c];
      top[c] = top[c] < x ? x : top[c];
      bottom[c] = bottom[c] < -x ? -x : bottom[c];
    }
  }
  for (Index c = 0; c < kPanel<float>; ++c) {
    const auto stored = impl::column_scale<Storage, decltype(block.scale(c))>(top[c], bottom[c]);
    block.set_scale(c, stored);
    scale[c] = stored.to_float() == 0 ? 1 : stored.to_float();
  }
  constexpr float kLowest = Block::kLargest == 127 ? -127 : -8, kHighest = Block::kLargest;
  for (Index k = 0; k < kBlockRows; ++k) {
    for (Index c = 0; c < kPanel<float>; ++c) {
      const float steps = values[k * kPanel<float> + c] / scale[c];
      const float bounded = (std::min)((std::max)(steps, kLowest), kHighest);
      // To the nearest, from the middle upwards.
      block.set_code(k, c, static_cast<int>(bounded + (Block::kOffset + 0.5f)) - Block::kOffset);
    }
  }
}

MOE_NAMESPACE_END
