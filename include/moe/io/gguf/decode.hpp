// What the bytes of a GGUF file's blocks mean: rows to float, bit for bit as the format's own library has
// them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "moe/core/types.hpp"
#include "moe/io/file/dtype.hpp"
#include "moe/io/gguf/ggml_type.hpp"
#include "moe/kernel/super_block.hpp"

MOE_NAMESPACE_BEGIN
namespace io {

namespace impl {

inline constexpr Index kMostInBlock = 256;

/// IQ4_NL's numbers by code.
inline constexpr std::int8_t kUnevenLevels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                  1,    13,   25,  38,  53,  69,  89,  113};

inline float half_at(const std::byte* from) noexcept {
  return Float16{moe::impl::load_little<std::uint16_t>(from)}.to_float();
}
inline unsigned byte_at(const std::byte* from, Index i) noexcept {
  return std::to_integer<unsigned>(from[i]);
}

/// a * q rounded to float, then + b: what the format says, also where a compiler would fuse the two.
inline float product_plus(float a, int q, float b) noexcept {
  return static_cast<float>(static_cast<double>(a) * q) + b;
}

/// Code of number j of a block whose 16 bytes hold j in the low half of byte j and j + 16 in the high one.
inline unsigned split_code(const std::byte* bytes, Index j) noexcept {
  return byte_at(bytes, j % 16) >> (j < 16 ? 0 : 4) & 15;
}
/// Number j of 256 in fields of 2 bits: byte j % 32 of each half holds j, j + 32, j + 64, j + 96.
inline unsigned two_bits(const std::byte* bytes, Index j) noexcept {
  return byte_at(bytes, j / 128 * 32 + j % 32) >> (j % 128 / 32 * 2) & 3;
}
/// Number j of 256 in halves of bytes, each 32 bytes low halves first.
inline unsigned four_bits(const std::byte* bytes, Index j) noexcept {
  return byte_at(bytes, j / 64 * 32 + j % 32) >> (j % 64 / 32 * 4) & 15;
}
/// Number j of 256 in single bits: byte j % 32 holds one of every 32.
inline unsigned one_bit(const std::byte* bytes, Index j) noexcept {
  return byte_at(bytes, j % 32) >> (j / 32) & 1;
}

/// Number j of 256 in Q6_K: 4 low bits, 2 high ones.
inline int six_bit_code(const std::byte* block, Index j) noexcept {
  const unsigned low = byte_at(block, j / 128 * 64 + j % 64) >> (j % 128 / 64 * 4) & 15;
  return static_cast<int>(low | two_bits(block + 128, j) << 4) - 32;
}

/// Scale and offset codes, 6 bits each, of group g of eight, from the 12 bytes of Q4_K and Q5_K: four low
/// codes of either kind, whose upper two bits belong to the four high ones.
struct SixBits {
  unsigned scale, offset;
};
inline SixBits six_bits(const std::byte* bytes, Index g) noexcept {
  if (g < 4) return {byte_at(bytes, g) & 63, byte_at(bytes, g + 4) & 63};
  const unsigned low = byte_at(bytes, g + 4);
  return {(low & 15) | (byte_at(bytes, g - 4) >> 6 << 4), low >> 4 | (byte_at(bytes, g) >> 6 << 4)};
}
/// Scale of group g of sixteen, from Q3_K's 12 bytes: 4 low bits, then 2 high ones.
inline int signed_six_bits(const std::byte* bytes, Index g) noexcept {
  const unsigned low = byte_at(bytes, g % 8) >> (g < 8 ? 0 : 4) & 15;
  const unsigned high = byte_at(bytes, 8 + g % 4) >> (g / 4 * 2) & 3;
  return static_cast<int>(low | high << 4) - 32;
}

/// to[32 or 256] = the numbers of one block of a type that has any. d, m, dm are f16; s and m of the types of
/// 256 numbers are codes of 4 or 6 bits (of 8 in Q6_K), one for every 16 numbers (Q4_K, Q5_K: 32).
///   Q4_0    d, 16 bytes                             (code - 8) d
///   Q4_1    d, m, 16 bytes                          code d + m
///   Q5_0    d, 32 high bits, 16 bytes               (code - 16) d
///   Q5_1    d, m, 32 high bits, 16 bytes            code d + m
///   Q8_0    d, 32 x i8                              code d
///   IQ4_NL  d, 16 bytes                             level(code) d
///   MXFP4   exponent e of 8 bits, 16 bytes          e2m1(code) 2^(e - 127); e = 255: NaN
///   Q2_K    16 bytes of s and m, 64 bytes, d, dm    code (s d) - m dm
///   Q3_K    256 high bits, 64 bytes, 12 of s, d     (code - 4 where the bit is 0) (s d)
///   Q4_K    d, dm, 12 bytes of s and m, 128 bytes   code (s d) - m dm
///   Q5_K    the same with 256 high bits before the last
///   Q6_K    128 bytes, 64 of high bits, 16 of s, d  (code - 32) (s d)
inline void decode_ggml_block(GgmlType type, const std::byte* block, float* to) noexcept {
  const auto code = [&](Index at, Index j) { return static_cast<int>(split_code(block + at, j)); };
  const auto fifth_bit = [&](Index at, Index j) {
    return static_cast<int>(byte_at(block, at + j / 8) >> (j % 8) & 1) << 4;
  };
  switch (type) {
    case GgmlType::F32:
    case GgmlType::F16:
    case GgmlType::BF16:
      return;
    case GgmlType::Q4_0:
      for (Index j = 0; j < 32; ++j) to[j] = half_at(block) * static_cast<float>(code(2, j) - 8);
      return;
    case GgmlType::Q4_1:
      for (Index j = 0; j < 32; ++j) to[j] = product_plus(half_at(block), code(4, j), half_at(block + 2));
      return;
    case GgmlType::Q5_0:
      for (Index j = 0; j < 32; ++j) {
        to[j] = half_at(block) * static_cast<float>((code(6, j) | fifth_bit(2, j)) - 16);
      }
      return;
    case GgmlType::Q5_1:
      for (Index j = 0; j < 32; ++j) {
        to[j] = product_plus(half_at(block), code(8, j) | fifth_bit(4, j), half_at(block + 2));
      }
      return;
    case GgmlType::Q8_0:
      decode_floats(DType::I8, block + 2, 0, 32, to);
      for (Index j = 0; j < 32; ++j) to[j] *= half_at(block);
      return;
    case GgmlType::IQ4_NL:
      for (Index j = 0; j < 32; ++j) {
        to[j] = half_at(block) * static_cast<float>(kUnevenLevels[split_code(block + 2, j)]);
      }
      return;
    case GgmlType::MXFP4: {
      float scale;
      decode_floats(DType::F8_E8M0, block, 0, 1, &scale);
      for (Index j = 0; j < 32; ++j) {
        to[j] = (kFloat4[split_code(block + 1, j)] + 0.0f) * scale;  // the format has no -0
      }
      return;
    }
    case GgmlType::Q2_K:
      for (Index g = 0; g < 16; ++g) {
        const unsigned both = byte_at(block, g);
        const float scale = half_at(block + 80) * static_cast<float>(both & 15);
        const float offset = half_at(block + 82) * static_cast<float>(both >> 4);
        for (Index j = 16 * g; j < 16 * g + 16; ++j) {
          to[j] = product_plus(scale, static_cast<int>(two_bits(block + 16, j)), -offset);
        }
      }
      return;
    case GgmlType::Q3_K:
      for (Index g = 0; g < 16; ++g) {
        const float scale = half_at(block + 108) * static_cast<float>(signed_six_bits(block + 96, g));
        for (Index j = 16 * g; j < 16 * g + 16; ++j) {
          const int low = static_cast<int>(two_bits(block + 32, j));
          to[j] = scale * static_cast<float>(one_bit(block, j) != 0 ? low : low - 4);
        }
      }
      return;
    case GgmlType::Q4_K:
    case GgmlType::Q5_K: {
      const std::byte* const high = type == GgmlType::Q5_K ? block + 16 : nullptr;
      const std::byte* const low = block + (high == nullptr ? 16 : 48);
      for (Index g = 0; g < 8; ++g) {
        const SixBits of = six_bits(block + 4, g);
        const float scale = half_at(block) * static_cast<float>(of.scale);
        const float offset = half_at(block + 2) * static_cast<float>(of.offset);
        for (Index j = 32 * g; j < 32 * g + 32; ++j) {
          const unsigned fifth = high == nullptr ? 0 : one_bit(high, j) << 4;
          to[j] = product_plus(scale, static_cast<int>(four_bits(low, j) | fifth), -offset);
        }
      }
      return;
    }
    case GgmlType::Q6_K:
      for (Index j = 0; j < 256; ++j) {
        const auto scale = static_cast<std::int8_t>(byte_at(block, 192 + j / 16));
        const auto q = static_cast<float>(six_bit_code(block, j));
        to[j] = half_at(block + 208) * static_cast<float>(scale) * q;
      }
      return;
  }
}

/// A block of Q4_K, or of Q6_K, as its codes.
inline void read_q4_k(const std::byte* block, SuperColumn& to) noexcept {
  to.scale = {moe::impl::load_little<std::uint16_t>(block)};
  to.offset = {moe::impl::load_little<std::uint16_t>(block + 2)};
  for (Index g = 0; g < 8; ++g) {
    const SixBits of = six_bits(block + 4, g);
    to.scales[g] = static_cast<std::int8_t>(of.scale);
    to.offsets[g] = static_cast<std::int8_t>(of.offset);
  }
  for (Index j = 0; j < 256; ++j) to.codes[j] = static_cast<std::int8_t>(four_bits(block + 16, j));
}
inline void read_q6_k(const std::byte* block, SuperColumn& to) noexcept {
  to.scale = {moe::impl::load_little<std::uint16_t>(block + 208)};
  for (Index h = 0; h < 16; ++h) to.scales[h] = static_cast<std::int8_t>(byte_at(block, 192 + h));
  for (Index j = 0; j < 256; ++j) to.codes[j] = static_cast<std::int8_t>(six_bit_code(block, j));
}

}  // namespace impl

/// to[last - first] = numbers [first, last) of a row. Blocks are decoded whole.
inline void decode_ggml_row(GgmlType type, const std::byte* row, Index first, Index last,
                            float* to) noexcept {
  const GgmlBlock size = ggml_block(type);
  MOE_ASSERT(size.numbers > 0 && first >= 0 && first <= last);
  if (size.numbers == 1) {
    const DType dtype = type == GgmlType::F32 ? DType::F32 : type == GgmlType::F16 ? DType::F16 : DType::BF16;
    return decode_floats(dtype, row, first, last - first, to);
  }
  for (Index i = first; i < last;) {
    const Index begin = i / size.numbers * size.numbers, end = (std::min)(last, begin + size.numbers);
    const std::byte* const block = row + begin / size.numbers * size.bytes;
    float* const out = to + (i - first);
    if (i == begin && end == begin + size.numbers) {
      impl::decode_ggml_block(type, block, out);
    } else {
      float whole[impl::kMostInBlock];
      impl::decode_ggml_block(type, block, whole);
      std::copy(whole + (i - begin), whole + (end - begin), out);
    }
    i = end;
  }
}

}  // namespace io
MOE_NAMESPACE_END
