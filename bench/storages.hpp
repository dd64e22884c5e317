// What the benchmarks must know of each storage format.
#pragma once

#include "limits.hpp"
#include "reference.hpp"

namespace bench {

/// kBytes: of one weight, scales included.
template <class Storage>
struct StorageInfo;

template <>
struct StorageInfo<float> {
  static constexpr const char* kName = "float";
  static constexpr double kBytes = 4;
  static constexpr Instruction kInstruction = Instruction::fma_float;
  static constexpr RowFormat kRows = RowFormat::exact;
};

template <>
struct StorageInfo<double> {
  static constexpr const char* kName = "double";
  static constexpr double kBytes = 8;
  static constexpr Instruction kInstruction = Instruction::fma_double;
  static constexpr RowFormat kRows = RowFormat::exact;
};

template <>
struct StorageInfo<moe::BFloat16> {
  static constexpr const char* kName = "bf16";
  static constexpr double kBytes = 2;
  static constexpr Instruction kInstruction = Instruction::dot_bfloat16;
  static constexpr RowFormat kRows = RowFormat::bfloat16;
};

template <>
struct StorageInfo<moe::Int8Groups<>> {
  static constexpr const char* kName = "int8";
  static constexpr double kBytes = 1 + 2.0 / 32;
  static constexpr Instruction kInstruction = Instruction::dot_int8;
  static constexpr RowFormat kRows = RowFormat::int8_groups;
};

template <>
struct StorageInfo<moe::Int4Groups<>> {
  static constexpr const char* kName = "int4";
  static constexpr double kBytes = 0.5 + 2.0 / 32;
  static constexpr Instruction kInstruction = Instruction::dot_int4;
  static constexpr RowFormat kRows = RowFormat::int8_groups;
};

template <>
struct StorageInfo<moe::Int8Channels> {
  static constexpr const char* kName = "int8_channels";
  static constexpr double kBytes = 1;
  static constexpr Instruction kInstruction = Instruction::dot_int8;
  static constexpr RowFormat kRows = RowFormat::int8_row;
};

template <>
struct StorageInfo<moe::Q4K> {
  static constexpr const char* kName = "q4_k";
  static constexpr double kBytes = 4.625 / 8;
  static constexpr Instruction kInstruction = Instruction::dot_int4;
  static constexpr RowFormat kRows = RowFormat::int8_groups;
};

template <>
struct StorageInfo<moe::Q6K> {
  static constexpr const char* kName = "q6_k";
  static constexpr double kBytes = 6.5625 / 8;
  static constexpr Instruction kInstruction = Instruction::dot_int8;
  static constexpr RowFormat kRows = RowFormat::int8_groups;
};

}  // namespace bench
