// Element types of checkpoints and their decoding to float.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <string_view>

#include "moe/core/bytes.hpp"
#include "moe/core/types.hpp"
#include "moe/kernel/number_format.hpp"

MOE_NAMESPACE_BEGIN
namespace io {

/// Element types of safetensors, by their names there. F8_E4M3 is e4m3fn: no infinity, largest number 448.
/// `other` is any name that is not here: such a tensor is a view of bytes that nothing can read.
enum class DType : std::uint8_t {
  BOOL,
  F4,
  F6_E2M3,
  F6_E3M2,
  U8,
  I8,
  F8_E5M2,
  F8_E4M3,
  F8_E8M0,
  F8_E4M3FNUZ,
  F8_E5M2FNUZ,
  I16,
  U16,
  F16,
  BF16,
  I32,
  U32,
  F32,
  C64,
  I64,
  U64,
  F64,
  other
};

namespace impl {

struct DTypeRow {
  const char* name;
  Index bits;
};
inline constexpr DTypeRow kDTypes[] = {
    {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
    {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
    {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
    {"C64", 64},    {"I64", 64},    {"U64", 64},    {"F64", 64},        {"another", 0}};
static_assert(std::size(kDTypes) == std::size_t{static_cast<std::uint8_t>(DType::other)} + 1);

}  // namespace impl

constexpr const char* dtype_name(DType type) noexcept {
  return impl::kDTypes[static_cast<std::uint8_t>(type)].name;
}
constexpr Index dtype_bits(DType type) noexcept {
  return impl::kDTypes[static_cast<std::uint8_t>(type)].bits;
}

/// The type of that name; false if there is none.
constexpr bool dtype_from_name(std::string_view name, DType& type) noexcept {
  for (std::size_t i = 0; i + 1 < std::size(impl::kDTypes); ++i) {
    if (name == impl::kDTypes[i].name) {
      type = static_cast<DType>(i);
      return true;
    }
  }
  return false;
}

// Decoding. Source bytes of any alignment, little-endian whatever the machine.

namespace impl {

/// Value of a number of `exponent` and `mantissa` bits below a sign bit, all codes finite.
constexpr float small_float(unsigned code, int exponent, int mantissa, int bias) noexcept {
  const unsigned fraction = code & ((1u << mantissa) - 1);
  const int power = static_cast<int>(code >> mantissa & ((1u << exponent) - 1));
  const bool negative = (code >> (exponent + mantissa) & 1u) != 0;
  float value = static_cast<float>(power == 0 ? fraction : fraction + (1u << mantissa));
  for (int p = (power == 0 ? 1 : power) - bias - mantissa; p != 0; p += p < 0 ? 1 : -1) {
    value *= p < 0 ? 0.5f : 2.0f;
  }
  return negative ? -value : value;
}

inline constexpr float kQuietNaN = std::bit_cast<float>(0x7FC00000u);
inline constexpr float kInfinity = std::bit_cast<float>(0x7F800000u);

/// Value of every code of an 8-bit type.
struct ByteTable {
  float value[256];
};

constexpr ByteTable byte_table(DType type) noexcept {
  ByteTable t{};
  for (unsigned c = 0; c < 256; ++c) {
    float& v = t.value[c];
    switch (type) {
      case DType::F8_E4M3:
        v = (c & 0x7F) == 0x7F ? kQuietNaN : small_float(c, 4, 3, 7);
        break;
      case DType::F8_E4M3FNUZ:
        v = c == 0x80 ? kQuietNaN : small_float(c, 4, 3, 8);
        break;
      case DType::F8_E5M2FNUZ:
        v = c == 0x80 ? kQuietNaN : small_float(c, 5, 2, 16);
        break;
      case DType::F8_E5M2:
        v = (c & 0x7F) < 0x7C ? small_float(c, 5, 2, 15)
            : (c & 3) != 0    ? kQuietNaN
            : c < 0x80        ? kInfinity
                              : -kInfinity;
        break;
      case DType::F8_E8M0:  // 2^(c - 127); the smallest is below float's normal numbers
        v = c == 255 ? kQuietNaN : std::bit_cast<float>(c == 0 ? 0x400000u : c << 23);
        break;
      case DType::I8:
        v = static_cast<float>(c < 128 ? static_cast<int>(c) : static_cast<int>(c) - 256);
        break;
      default:
        v = static_cast<float>(c);
        break;  // U8, BOOL
    }
  }
  return t;
}

template <DType kType>
inline constexpr ByteTable kByteTable = byte_table(kType);

/// e2m1: bit 3 is the sign.
inline constexpr float kFloat4[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                      -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

template <class Word>
Word load_word(const std::byte* from) noexcept {
  if constexpr (std::endian::native == std::endian::little) {
    Word word;
    std::memcpy(&word, from, sizeof word);
    return word;
  } else {
    return moe::impl::load_little<Word>(from);
  }
}

template <class Word, class Value>
void decode_words(const std::byte* from, Index n, float* to, Value value) noexcept {
  for (Index i = 0; i < n; ++i) to[i] = value(load_word<Word>(from + i * Index{sizeof(Word)}));
}

inline void decode_bytes(const std::byte* from, Index n, float* to, const ByteTable& table) noexcept {
  for (Index i = 0; i < n; ++i) to[i] = table.value[std::to_integer<unsigned>(from[i])];
}

}  // namespace impl

/// Whether decode_floats() knows the type: all but F6_E2M3, F6_E3M2 (no agreed packing), C64 and other.
constexpr bool is_decodable(DType type) noexcept {
  return type != DType::F6_E2M3 && type != DType::F6_E3M2 && type != DType::C64 && type != DType::other;
}

/// to[n] = elements [first, first + n) of the array at `data`. F64 and wide integers are rounded to float; F4
/// holds an element of even index in the low half of its byte.
inline void decode_floats(DType type, const std::byte* data, Index first, Index n, float* to) noexcept {
  MOE_ASSERT(first >= 0 && n >= 0 && is_decodable(type));
  const std::byte* const from = type == DType::F4 ? data : data + first * (dtype_bits(type) / 8);
  switch (type) {
    case DType::F32:
      return impl::decode_words<std::uint32_t>(
          from, n, to, [](std::uint32_t w) noexcept { return std::bit_cast<float>(w); });
    case DType::BF16:
      return impl::decode_words<std::uint16_t>(
          from, n, to, [](std::uint16_t w) noexcept { return BFloat16{w}.to_float(); });
    case DType::F16:
      return impl::decode_words<std::uint16_t>(
          from, n, to, [](std::uint16_t w) noexcept { return Float16{w}.to_float(); });
    case DType::F64:
      return impl::decode_words<std::uint64_t>(
          from, n, to, [](std::uint64_t w) noexcept { return static_cast<float>(std::bit_cast<double>(w)); });
    case DType::F8_E4M3:
      return impl::decode_bytes(from, n, to, impl::kByteTable<DType::F8_E4M3>);
    case DType::F8_E5M2:
      return impl::decode_bytes(from, n, to, impl::kByteTable<DType::F8_E5M2>);
    case DType::F8_E8M0:
      return impl::decode_bytes(from, n, to, impl::kByteTable<DType::F8_E8M0>);
    case DType::F8_E4M3FNUZ:
      return impl::decode_bytes(from, n, to, impl::kByteTable<DType::F8_E4M3FNUZ>);
    case DType::F8_E5M2FNUZ:
      return impl::decode_bytes(from, n, to, impl::kByteTable<DType::F8_E5M2FNUZ>);
    case DType::I8:
      return impl::decode_bytes(from, n, to, impl::kByteTable<DType::I8>);
    case DType::BOOL:
    case DType::U8:
      return impl::decode_bytes(from, n, to, impl::kByteTable<DType::U8>);
    case DType::I16:
      return impl::decode_words<std::uint16_t>(from, n, to, [](std::uint16_t w) noexcept {
        return static_cast<float>(static_cast<std::int16_t>(w));
      });
    case DType::U16:
      return impl::decode_words<std::uint16_t>(
          from, n, to, [](std::uint16_t w) noexcept { return static_cast<float>(w); });
    case DType::I32:
      return impl::decode_words<std::uint32_t>(from, n, to, [](std::uint32_t w) noexcept {
        return static_cast<float>(static_cast<std::int32_t>(w));
      });
    case DType::U32:
      return impl::decode_words<std::uint32_t>(
          from, n, to, [](std::uint32_t w) noexcept { return static_cast<float>(w); });
    case DType::I64:
      return impl::decode_words<std::uint64_t>(from, n, to, [](std::uint64_t w) noexcept {
        return static_cast<float>(static_cast<std::int64_t>(w));
      });
    case DType::U64:
      return impl::decode_words<std::uint64_t>(
          from, n, to, [](std::uint64_t w) noexcept { return static_cast<float>(w); });
    case DType::F4:
      for (Index i = 0; i < n; ++i) {
        const unsigned byte = std::to_integer<unsigned>(data[(first + i) / 2]);
        to[i] = impl::kFloat4[(first + i) % 2 == 0 ? byte & 15 : byte >> 4];
      }
      return;
    case DType::F6_E2M3:
    case DType::F6_E3M2:
    case DType::C64:
    case DType::other:
      return;
  }
}

}  // namespace io
MOE_NAMESPACE_END
