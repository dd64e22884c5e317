// How a checkpoint lays out the matrices of a layer's experts, as data, and reading them one expert at a
// time.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/io/file/text.hpp"

MOE_NAMESPACE_BEGIN
namespace io {

/// Which of the stored outputs a matrix is made of, where gate and up share a tensor of twice as many:
/// concatenated (first_half, second_half) or interleaved (even, odd).
enum class Outputs : std::uint8_t { all, first_half, second_half, even, odd };

/// How elements are stored; see io/quantised.hpp.
enum class Encoding : std::uint8_t { plain, scaled, mxfp4, int4, nvfp4, gptq, awq };

/// Where one kind of matrix W [out, in] is found and how it is stored. Nothing is guessed from shapes.
struct MatrixLayout {
  /// Tensor. With "{expert}" in it one per expert, of [A, B]; without, all experts in one of [E, A, B], or
  /// [E * A, B] if `stacked`. [A, B] is [out, in], or [in, out] if `transposed`, where a part of the
  /// `outputs` makes `out` twice as large.
  std::string name{};
  bool transposed = false;
  Outputs outputs = Outputs::all;
  bool stacked = false;
  Index first = 0;   // number of the first expert in names
  Index behind = 0;  // experts that a tensor of all holds behind those that are read

  Encoding encoding = Encoding::plain;
  std::string scales{};  // tensor of the scales, likewise
  /// `scaled`: elements under one scale along A and B; 0: all of them ([128, 128]: DeepSeek-V3, [1, 0]: one a
  /// row, [0, 0]: one a matrix).
  Index scale_rows = 0;
  Index scale_cols = 0;
  Index group = 32;  // `int4`, `gptq`, `awq`; of these two 0: all inputs
  /// `nvfp4`: tensor of one number that every scale is multiplied by, or divided if `divides`.
  std::string global{};
  bool divides = false;
  std::string zeros{};    // `gptq`, `awq`: tensor of the codes that mean 0
  Index zero_offset = 0;  // added to these: 1 for the first version of GPTQ's files

  explicit operator bool() const noexcept { return !name.empty(); }
};

/// A bias, [n] with "{expert}" in its name, else [E, n], where a part of the `outputs` makes n twice as
/// large.
struct BiasLayout {
  std::string name{};
  Outputs outputs = Outputs::all;

  explicit operator bool() const noexcept { return !name.empty(); }
};

/// The matrices of an expert: gate, up, down of gated ones, else fc1, fc2.
enum class ExpertMatrix : std::uint8_t { gate, up, down, fc1, fc2 };
inline constexpr Index kParts = 5;

constexpr const char* part_name(ExpertMatrix part) noexcept {
  constexpr const char* kNames[kParts] = {"gate", "up", "down", "fc1", "fc2"};
  return kNames[static_cast<std::uint8_t>(part)];
}

/// All of a layer's experts. Gated: gate, up and down; else fc1 and fc2.
struct ExpertLayout {
  MatrixLayout matrix[kParts]{};
  BiasLayout bias[kParts]{};

  MatrixLayout& operator[](ExpertMatrix p) noexcept { return matrix[static_cast<std::uint8_t>(p)]; }
  const MatrixLayout& operator[](ExpertMatrix p) const noexcept {
    return matrix[static_cast<std::uint8_t>(p)];
  }
  BiasLayout& bias_of(ExpertMatrix p) noexcept { return bias[static_cast<std::uint8_t>(p)]; }
  const BiasLayout& bias_of(ExpertMatrix p) const noexcept { return bias[static_cast<std::uint8_t>(p)]; }
  bool is_gated() const noexcept { return static_cast<bool>((*this)[ExpertMatrix::gate]); }

  /// Every name with "{layer}" replaced.
  ExpertLayout for_layer(Index layer) const {
    ExpertLayout out = *this;
    for (Index p = 0; p < kParts; ++p) {
      for (std::string* const name : {&out.matrix[p].name, &out.matrix[p].scales, &out.matrix[p].global,
                                      &out.matrix[p].zeros, &out.bias[p].name}) {
        *name = with_number(std::move(*name), "{layer}", layer);
      }
    }
    return out;
  }
};

/// One [out, in] tensor per matrix and expert: `prefix` + name + ".weight".
inline ExpertLayout per_expert_glu(const std::string& prefix, const char* gate, const char* up,
                                   const char* down) {
  ExpertLayout out;
  out[ExpertMatrix::gate].name = prefix + gate + ".weight";
  out[ExpertMatrix::up].name = prefix + up + ".weight";
  out[ExpertMatrix::down].name = prefix + down + ".weight";
  return out;
}
inline ExpertLayout per_expert_mlp(const std::string& prefix, const char* fc1, const char* fc2) {
  ExpertLayout out;
  out[ExpertMatrix::fc1].name = prefix + fc1 + ".weight";
  out[ExpertMatrix::fc2].name = prefix + fc2 + ".weight";
  return out;
}

/// Gate and up in one tensor: [E, 2F, D] and down [E, D, F], or `transposed` [E, D, 2F] and [E, F, D].
inline ExpertLayout fused_glu(std::string gate_up, std::string down, bool transposed,
                              Outputs gate = Outputs::first_half, Outputs up = Outputs::second_half) {
  ExpertLayout out;
  out[ExpertMatrix::gate] = {.name = gate_up, .transposed = transposed, .outputs = gate};
  out[ExpertMatrix::up] = {.name = std::move(gate_up), .transposed = transposed, .outputs = up};
  out[ExpertMatrix::down] = {.name = std::move(down), .transposed = transposed};
  return out;
}

/// Tensors [E * F, D]: gate and up as [out, in], down as [in, out] (DBRX).
inline ExpertLayout stacked_glu(std::string gate, std::string up, std::string down) {
  ExpertLayout out;
  out[ExpertMatrix::gate] = {.name = std::move(gate), .stacked = true};
  out[ExpertMatrix::up] = {.name = std::move(up), .stacked = true};
  out[ExpertMatrix::down] = {.name = std::move(down), .transposed = true, .stacked = true};
  return out;
}
/// The same of experts without a gate (Nomic).
inline ExpertLayout stacked_mlp(std::string fc1, std::string fc2) {
  ExpertLayout out;
  out[ExpertMatrix::fc1] = {.name = std::move(fc1), .stacked = true};
  out[ExpertMatrix::fc2] = {.name = std::move(fc2), .transposed = true, .stacked = true};
  return out;
}

namespace impl {

/// Output o of a matrix is stored output first + o * step.
struct OutputChoice {
  Index stored, first, step;

  OutputChoice(Outputs outputs, Index out)
      : stored(outputs == Outputs::all ? out : checked_product("outputs", out, 2)),
        first(outputs == Outputs::second_half ? out
              : outputs == Outputs::odd       ? 1
                                              : 0),
        step(outputs == Outputs::even || outputs == Outputs::odd ? 2 : 1) {}
  Index operator()(Index o) const noexcept { return first + o * step; }
};

}  // namespace impl

}  // namespace io
MOE_NAMESPACE_END
