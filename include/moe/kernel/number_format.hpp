// Numbers of 16 bits, and the tags that name how weights are stored.
#pragma once

#include <bit>
#include <cstdint>

#include "moe/config.hpp"

MOE_NAMESPACE_BEGIN

/// The upper half of a float: 8 bits of precision, its whole range. As a storage tag: one number a weight.
struct BFloat16 {
  std::uint16_t bits;

  /// Nearest, ties to even; beyond the largest finite number +-inf; NaN stays NaN, made quiet.
  static constexpr BFloat16 from_float(float x) noexcept {
    const auto u = std::bit_cast<std::uint32_t>(x);
    const bool nan = (u & 0x7FFFFFFFu) > 0x7F800000u;
    const std::uint32_t rounded = u + 0x7FFFu + ((u >> 16) & 1u);
    return {static_cast<std::uint16_t>((nan ? u | 0x400000u : rounded) >> 16)};
  }
  /// The nearest finite number: what is beyond the largest by less than a step becomes that; infinities stay.
  static constexpr BFloat16 from_float_within(float x) noexcept {
    constexpr std::uint32_t kBeyond = 0x7F7F8000u, kInf = 0x7F800000u;  // from here on it rounds to inf
    const auto u = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t magnitude = u & 0x7FFFFFFFu;
    if (magnitude < kBeyond || magnitude >= kInf) return from_float(x);
    return {static_cast<std::uint16_t>((u - 0x8000u) >> 16)};
  }
  constexpr float to_float() const noexcept { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

  friend constexpr bool operator==(BFloat16 a, BFloat16 b) noexcept { return a.bits == b.bits; }
};

/// IEEE binary16: 11 bits of precision, 2^-24 to 65504.
struct Float16 {
  std::uint16_t bits;

  /// Nearest, ties to even, subnormal numbers included; beyond the largest finite number +-inf; NaN stays
  /// NaN, made quiet.
  static constexpr Float16 from_float(float x) noexcept {
    const auto u = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t magnitude = u & 0x7FFFFFFFu;
    std::uint32_t half = (magnitude - 0x38000000u + 0xFFFu + ((magnitude >> 13) & 1u)) >> 13;
    if (magnitude < 0x38800000u) {
      // Below 2^-14: adding 1/2, whose last place is 2^-24, leaves the number of 2^-24 in the low bits.
      half = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3F000000u;
    }
    if (magnitude >= 0x477FF000u) half = 0x7C00u;
    if (magnitude > 0x7F800000u) half = 0x7E00u | ((magnitude >> 13) & 0x3FFu);
    return {static_cast<std::uint16_t>(((u >> 16) & 0x8000u) | half)};
  }
  constexpr float to_float() const noexcept {
    const std::uint32_t magnitude = bits & 0x7FFFu;
    std::uint32_t u = (magnitude << 13) + 0x38000000u;
    if (magnitude < 0x400u) {  // 2^-14 + m 2^-24, less 2^-14
      u = std::bit_cast<std::uint32_t>(std::bit_cast<float>(u + 0x800000u) - 0x1p-14f);
    }
    if (magnitude >= 0x7C00u) u |= 0x7F800000u;
    return std::bit_cast<float>(u | (std::uint32_t{bits & 0x8000u} << 16));
  }

  friend constexpr bool operator==(Float16 a, Float16 b) noexcept { return a.bits == b.bits; }
};

/// Storage tags: 8-bit codes -128 .. 127, or 4-bit codes -8 .. 7, times one Scale for every 32 weights of a
/// column. Scale: BFloat16, or Float16 for the weights of GGUF's Q8_0 and Q4_0 as they are.
template <class Scale = BFloat16>
struct Int8Groups {};
template <class Scale = BFloat16>
struct Int4Groups {};

/// 8-bit codes -128 .. 127 times one float for a whole column, against rows in 8 bits with one scale for the
/// whole row: the weights of W8A8 checkpoints as they are.
struct Int8Channels {};

/// GGUF's K-quants as they are (kernel/super_block.hpp): 4-bit codes 0 .. 15 with a scale and an offset for
/// every 32 weights of a column, 6-bit codes -32 .. 31 with a scale for every 16; 4.625 and 6.5625 bits a
/// weight.
struct Q4K {};
struct Q6K {};

MOE_NAMESPACE_END
