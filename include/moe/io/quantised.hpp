// Matrices whose elements mean something together with scales only, as they lie in checkpoints: 8-bit numbers
// under a grid of scales, MXFP4, NVFP4, 4-bit groups, words of GPTQ and AWQ. Each decodes a piece of one
// stored row to float.
#pragma once

#include <algorithm>
#include <cstdint>
#include <variant>

#include "moe/core/types.hpp"
#include "moe/io/file/dtype.hpp"
#include "moe/kernel/super_block.hpp"

MOE_NAMESPACE_BEGIN
namespace io {

/// Numbers by themselves, [rows, cols].
struct PlainMatrix {
  DType dtype;
  const std::byte* values;
  Index cols;

  /// to[last - first] = elements [first, last) of row o.
  void decode(Index o, Index first, Index last, float* to) const noexcept {
    decode_floats(dtype, values, o * cols + first, last - first, to);
  }
};

/// 8-bit numbers [rows, cols], each times the scale of its block: value(o, i) * scale(o / block_rows,
/// i / block_cols). Blocks at the edges are partial. (DeepSeek-V3's "weight_scale_inv" multiplies, in spite
/// of its name.)
struct ScaledMatrix {
  DType dtype;
  const std::byte* values;
  Index cols;
  DType scale_dtype;
  const std::byte* scales;  // [.., ceil(cols / block_cols)]
  Index block_rows;
  Index block_cols;

  void decode(Index o, Index first, Index last, float* to) const noexcept {
    decode_floats(dtype, values, o * cols + first, last - first, to);
    const Index scale_row = o / block_rows * ceil_div(cols, block_cols);
    for (Index i = first; i < last;) {
      const Index block = i / block_cols, end = (std::min)(last, (block + 1) * block_cols);
      float scale;
      decode_floats(scale_dtype, scales, scale_row + block, 1, &scale);
      for (; i < end; ++i) to[i - first] *= scale;
    }
  }
};

/// MXFP4 in the order of safetensors: two e2m1 numbers a byte, the one of even index in the low half; 32 of a
/// row share a scale 2^(s - 127), where s = 255 makes them NaN. cols is a multiple of 32.
struct Mxfp4Matrix {
  static constexpr Index kGroup = 32;
  const std::byte* values;  // [rows, cols / 2]
  const std::byte* scales;  // [rows, cols / 32]
  Index cols;

  void decode(Index o, Index first, Index last, float* to) const noexcept {
    decode_floats(DType::F4, values, o * cols + first, last - first, to);
    for (Index i = first; i < last;) {
      const Index group = i / kGroup, end = (std::min)(last, (group + 1) * kGroup);
      float scale;
      decode_floats(DType::F8_E8M0, scales, o * (cols / kGroup) + group, 1, &scale);
      for (; i < end; ++i) to[i - first] *= scale;
    }
  }
};

/// compressed-tensors' "pack-quantized" of 4 bits, symmetric: words of 8 numbers along a row, lowest bits
/// first, stored as q + 8; value = q * scale of its group. (In little-endian bytes: even index, low half.)
struct Int4Matrix {
  const std::byte* values;  // [rows, ceil(cols / 8)] words
  Index cols;
  DType scale_dtype;
  const std::byte* scales;  // [rows, ceil(cols / group)]
  Index group;

  int code(Index o, Index i) const noexcept {
    const unsigned byte = std::to_integer<unsigned>(values[o * ceil_div(cols, Index{8}) * 4 + i / 2]);
    return static_cast<int>(i % 2 == 0 ? byte & 15 : byte >> 4) - 8;
  }
  float scale(Index o, Index g) const noexcept {
    float s;
    decode_floats(scale_dtype, scales, o * ceil_div(cols, group) + g, 1, &s);
    return s;
  }
  void decode(Index o, Index first, Index last, float* to) const noexcept {
    for (Index i = first; i < last;) {
      const Index g = i / group, end = (std::min)(last, (g + 1) * group);
      const float s = scale(o, g);
      for (; i < end; ++i) to[i - first] = static_cast<float>(code(o, i)) * s;
    }
  }
};

/// NVFP4: two e2m1 numbers a byte, the one of even index in the low half; 16 of a row share a scale of e4m3,
/// which one number of the whole matrix multiplies. cols is a multiple of 16.
struct Nvfp4Matrix {
  static constexpr Index kGroup = 16;
  const std::byte* values;  // [rows, cols / 2]
  const std::byte* scales;  // [rows, cols / 16]
  Index cols;
  float factor;  // of every scale

  void decode(Index o, Index first, Index last, float* to) const noexcept {
    decode_floats(DType::F4, values, o * cols + first, last - first, to);
    for (Index i = first; i < last;) {
      const Index group = i / kGroup, end = (std::min)(last, (group + 1) * kGroup);
      float scale;
      decode_floats(DType::F8_E4M3, scales, o * (cols / kGroup) + group, 1, &scale);
      for (; i < end; ++i) to[i - first] *= scale * factor;
    }
  }
};

/// Words of eight 4-bit codes with codes of zero and scales for groups of inputs, as GPTQ's and AWQ's tools
/// write them: stored rows are inputs, value(i, o) = (code - zero) * scale of (i's group, o).
///   GPTQ   words [in / 8, out]: input i in bits 4 (i % 8) of its word
///   AWQ    words [in, out / 8]: outputs 0, 2, 4, 6, 1, 3, 5, 7 of eight, lowest bits first
/// Zeros [groups, out / 8] are packed along the outputs, in order or as AWQ's.
struct WordMatrix {
  bool awq;
  const std::byte* values;
  const std::byte* zeros;
  DType scale_dtype;
  const std::byte* scales;  // [groups, out]
  Index out, group, zero_offset;

  static unsigned word(const std::byte* words, Index at) noexcept {
    return moe::impl::load_little<std::uint32_t>(words + 4 * at);
  }
  /// Bits of output o within its word.
  int shift(Index o) const noexcept {
    constexpr int kAwq[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    return 4 * (awq ? kAwq[o % 8] : static_cast<int>(o % 8));
  }
  void decode(Index i, Index first, Index last, float* to) const noexcept {
    const Index g = i / group;
    decode_floats(scale_dtype, scales, g * out + first, last - first, to);
    for (Index o = first; o < last; ++o) {
      const unsigned code = awq ? word(values, i * (out / 8) + o / 8) >> shift(o)
                                : word(values, i / 8 * out + o) >> (4 * (i % 8));
      const unsigned zero = word(zeros, g * (out / 8) + o / 8) >> shift(o);
      to[o - first] *= static_cast<float>(static_cast<int>(code & 15) - static_cast<int>(zero & 15) -
                                          static_cast<int>(zero_offset));
    }
  }
};

/// Codes and scales of a matrix [out, in] as they lie in a file, of formats that the library's own storages
/// (Int8Groups, Int4Groups) can hold without rounding: 32 numbers of a row to a scale.
struct CodeGroups {
  static constexpr Index kGroup = 32;
  Index out, in;
  int bits;           // 8: two's complement, or 4: code + 8
  DType scale_dtype;  // F16 or BF16
  const std::byte* codes;
  Index code_row;    // bytes from a row to the next
  Index code_group;  // and from a group to the next
  bool split;        // 4 bits: j and j + 16 share a byte (GGUF), not 2j and 2j + 1
  const std::byte* scales;
  Index scale_row, scale_group;             // likewise
  Index first_output = 0, output_step = 1;  // row o stands in stored row first_output + o * output_step

  int code(Index o, Index i) const noexcept {
    const Index j = i % kGroup;
    const std::byte* const group =
        codes + (first_output + o * output_step) * code_row + i / kGroup * code_group;
    if (bits == 8) return static_cast<std::int8_t>(group[j]);
    const unsigned byte = std::to_integer<unsigned>(group[split ? j % 16 : j / 2]);
    const bool high = split ? j >= 16 : j % 2 == 1;
    return static_cast<int>(high ? byte >> 4 : byte & 15) - 8;
  }
  std::uint16_t scale_bits(Index o, Index group) const noexcept {
    return moe::impl::load_little<std::uint16_t>(scales + (first_output + o * output_step) * scale_row +
                                                 group * scale_group);
  }
};

/// The same of 8-bit codes with one scale a row, or one for all: what Int8Channels can hold.
struct CodeChannels {
  Index out, in;
  const std::byte* codes;  // two's complement, [.., in]
  DType scale_dtype;
  const std::byte* scales;
  Index scale_rows;                         // rows under a scale
  Index first_output = 0, output_step = 1;  // as of CodeGroups

  int code(Index o, Index i) const noexcept {
    return static_cast<std::int8_t>(codes[(first_output + o * output_step) * in + i]);
  }
  float scale(Index o) const noexcept {
    float s;
    decode_floats(scale_dtype, scales, (first_output + o * output_step) / scale_rows, 1, &s);
    return s;
  }
};

/// Rows of blocks of 256 numbers that Q4K, of 4 bits, or Q6K can hold.
struct CodeBlocks {
  Index out, in;
  int bits;
  const std::byte* blocks;
  Index row_bytes, block_bytes;
  void (*decode)(const std::byte* block, SuperColumn& to) noexcept;

  void read(Index o, Index block, SuperColumn& to) const noexcept {
    decode(blocks + o * row_bytes + block * block_bytes, to);
  }
};

/// One of them.
using StoredCodes = std::variant<CodeGroups, CodeChannels, CodeBlocks>;

/// One of them.
using StoredMatrix =
    std::variant<PlainMatrix, ScaledMatrix, Mxfp4Matrix, Int4Matrix, Nvfp4Matrix, WordMatrix>;

}  // namespace io
MOE_NAMESPACE_END
