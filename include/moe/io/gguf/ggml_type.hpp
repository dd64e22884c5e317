// Element types of GGUF files that can be decoded: numbers, and blocks of 32 or 256 numbers of a row with
// their scales. What the bytes of a block mean: io/gguf/decode.hpp.
#pragma once

#include <cstdint>
#include <iterator>

#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN
namespace io {

/// Numbers as in the files; those not listed are other types, whose tensors can be named but not read.
enum class GgmlType : std::uint32_t {
  F32 = 0,
  F16 = 1,
  Q4_0 = 2,
  Q4_1 = 3,
  Q5_0 = 6,
  Q5_1 = 7,
  Q8_0 = 8,
  Q2_K = 10,
  Q3_K = 11,
  Q4_K = 12,
  Q5_K = 13,
  Q6_K = 14,
  IQ4_NL = 20,
  BF16 = 30,
  MXFP4 = 39
};

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
    case GgmlType::IQ4_NL:
      return {32, 18};
    case GgmlType::Q4_1:
      return {32, 20};
    case GgmlType::Q5_0:
      return {32, 22};
    case GgmlType::Q5_1:
      return {32, 24};
    case GgmlType::Q8_0:
      return {32, 34};
    case GgmlType::Q2_K:
      return {256, 84};
    case GgmlType::Q3_K:
      return {256, 110};
    case GgmlType::Q4_K:
      return {256, 144};
    case GgmlType::Q5_K:
      return {256, 176};
    case GgmlType::Q6_K:
      return {256, 210};
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

}  // namespace io
MOE_NAMESPACE_END
