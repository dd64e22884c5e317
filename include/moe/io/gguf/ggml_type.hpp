// Element types of GGUF files that can be decoded: numbers, and blocks of 32 numbers of a row with a scale.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "moe/core/types.hpp"
#include "moe/io/file/dtype.hpp"

MOE_NAMESPACE_BEGIN
namespace io {

/// Numbers as in the files; those not listed are other types, whose tensors can be named but not read.
enum class GgmlType : std::uint32_t { F32 = 0, F16 = 1, Q4_0 = 2, Q8_0 = 8, BF16 = 30, MXFP4 = 39 };

/// Numbers that are stored together, and their bytes; 0 of a type that is not listed.
struct GgmlBlock {
  Index numbers;
  Index bytes;
};

constexpr GgmlBlock ggml_block(GgmlType type) noexcept {
  switch (type) {
    case GgmlType::F32:
      return {1, 4};
    case GgmlType::F16:
    case GgmlType::BF16:
      return {1, 2};
    case GgmlType::Q4_0:
      return {32, 18};
    case GgmlType::Q8_0:
      return {32, 34};
    case GgmlType::MXFP4:
      return {32, 17};
  }
  return {0, 0};
}

/// The format's own name, also of types that cannot be decoded; "unknown" of a number that is none.
constexpr const char* ggml_type_name(GgmlType type) noexcept {
  constexpr const char* kNames[] = {"F32",   "F16",   "Q4_0",    "Q4_1",   nullptr,   nullptr, "Q5_0",
                                    "Q5_1",  "Q8_0",  "Q8_1",    "Q2_K",   "Q3_K",    "Q4_K",  "Q5_K",
                                    "Q6_K",  "Q8_K",  "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL",
                                    "IQ3_S", "IQ2_S", "IQ4_XS",  "I8",     "I16",     "I32",   "I64",
                                    "F64",   "IQ1_M", "BF16",    nullptr,  nullptr,   nullptr, "TQ1_0",
                                    "TQ2_0", nullptr, nullptr,   nullptr,  "MXFP4",   "NVFP4", "Q1_0"};
  const auto number = static_cast<std::uint32_t>(type);
  const char* const name = number < std::size(kNames) ? kNames[number] : nullptr;
  return name == nullptr ? "unknown" : name;
}

namespace impl {

/// Code of number j of a block whose 16 bytes hold j in the low half of byte j and j + 16 in the high one.
inline unsigned split_code(const std::byte* bytes, Index j) noexcept {
  const unsigned byte = std::to_integer<unsigned>(bytes[j % 16]);
  return j < 16 ? byte & 15 : byte >> 4;
}

}  // namespace impl

/// to[last - first] = numbers [first, last) of a row.
///   Q8_0   f16 scale d, 32 x i8 q:       q * d
///   Q4_0   f16 scale d, 16 bytes:        (code - 8) * d
///   MXFP4  u8 exponent e, 16 bytes:      e2m1(code) * 2^(e - 127); e = 255: NaN
inline void decode_ggml_row(GgmlType type, const std::byte* row, Index first, Index last,
                            float* to) noexcept {
  const GgmlBlock size = ggml_block(type);
  MOE_ASSERT(size.numbers > 0 && first >= 0 && first <= last);
  if (size.numbers == 1) {
    const DType dtype = type == GgmlType::F32 ? DType::F32 : type == GgmlType::F16 ? DType::F16 : DType::BF16;
    return decode_floats(dtype, row, first, last - first, to);
  }
  for (Index i = first; i < last;) {
    const std::byte* const block = row + i / size.numbers * size.bytes;
    const Index begin = i / size.numbers * size.numbers, end = (std::min)(last, begin + size.numbers);
    float scale;
    decode_floats(type == GgmlType::MXFP4 ? DType::F8_E8M0 : DType::F16, block, 0, 1, &scale);
    for (; i < end; ++i) {
      const Index j = i - begin;
      float value;
      if (type == GgmlType::Q8_0) {
        decode_floats(DType::I8, block + 2, j, 1, &value);
      } else if (type == GgmlType::Q4_0) {
        value = static_cast<float>(impl::split_code(block + 2, j)) - 8;
      } else {
        value = impl::kFloat4[impl::split_code(block + 1, j)];
      }
      to[i - first] = value * scale;
    }
  }
}

}  // namespace io
MOE_NAMESPACE_END
