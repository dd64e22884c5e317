#include "moe/io/matrix_reader.hpp"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "io/file/temporary_folder.hpp"
#include "moe/io/checkpoint.hpp"
#include "moe/io/safetensors/writer.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

using moe::Index;
using moe::io::Checkpoint;
using moe::io::DType;
using moe::io::Encoding;
using moe::io::MatrixLayout;
using moe::io::MatrixReader;
using moe::io::Outputs;
using moe::io::Shape;

namespace {

/// Element (o, i) of matrix `part` of expert e: all different enough, exact in every float type.
float element(Index e, Index part, Index o, Index i) {
  return static_cast<float>((e * 97 + part * 41 + o * 13 + i * 3) % 255 - 127);
}

/// Values in the order of a tensor of these extents.
template <class Value>
std::vector<float> tensor(Index a, Index b, Index c, Value value) {
  std::vector<float> out;
  for (Index i = 0; i < a; ++i) {
    for (Index j = 0; j < b; ++j) {
      for (Index k = 0; k < c; ++k) out.push_back(value(i, j, k));
    }
  }
  return out;
}

/// Whether the reader finds matrix `part` [out, in] of every expert.
bool reads(const Checkpoint& checkpoint, const MatrixLayout& layout, Index experts, Index part, Index out,
           Index in) {
  const MatrixReader reader(checkpoint, layout, experts, out, in);
  for (Index e = 0; e < experts; ++e) {
    std::vector<float> to(static_cast<std::size_t>(out * (in + 2)), 7.5f);
    reader.read(e, moe::MatrixView<float>(to.data(), out, in, in + 2));
    reader.release(e);
    for (Index o = 0; o < out; ++o) {
      for (Index i = 0; i < in + 2; ++i) {
        const float want = i < in ? element(e, part, o, i) : 7.5f;  // between the rows nothing is written
        if (to[static_cast<std::size_t>(o * (in + 2) + i)] != want) return false;
      }
    }
  }
  return true;
}

std::string reason(const Checkpoint& c, const MatrixLayout& layout, Index experts, Index out, Index in) {
  return test::message_of<moe::format_error>([&] { MatrixReader(c, layout, experts, out, in); });
}

}  // namespace

TEST_CASE(
    "matrix reader: per expert, fused, stacked; either orientation; gate and up apart, halved, interleaved",
    "[io]") {
  // Sizes around the tile of the transposed copy (32 x 64), and a square that no shape could tell apart.
  const Index sizes[][2] = {{3, 5}, {5, 3}, {4, 4}, {70, 33}, {64, 32}};
  constexpr Index kExperts = 3;
  for (const auto& [f, d] : sizes) {
    INFO("F " << f << ", D " << d);
    const test::TemporaryFolder folder;
    moe::io::SafetensorsWriter writer;
    const auto gate_or_up = [half = f](Index e, Index row, Index i, bool interleaved) {
      return interleaved ? element(e, row % 2, row / 2, i) : element(e, row / half, row % half, i);
    };
    for (Index e = 0; e < kExperts; ++e) {
      const std::string prefix = "experts." + std::to_string(e) + ".";
      writer.add_floats(prefix + "w1", DType::BF16, Shape(f, d),
                        tensor(1, f, d, [&](Index, Index o, Index i) { return element(e, 0, o, i); }).data());
      writer.add_floats(prefix + "t", DType::F16, Shape(d, f),
                        tensor(1, d, f, [&](Index, Index i, Index o) { return element(e, 0, o, i); }).data());
      writer.add_floats(
          prefix + "w13", DType::F64, Shape(2 * f, d),
          tensor(1, 2 * f, d, [&](Index, Index o, Index i) { return gate_or_up(e, o, i, false); }).data());
    }
    for (const bool interleaved : {false, true}) {
      const std::string kind = interleaved ? "mixed" : "joined";
      writer.add_floats(kind, DType::F32, Shape(kExperts, 2 * f, d),
                        tensor(kExperts, 2 * f, d, [&](Index e, Index o, Index i) {
                          return gate_or_up(e, o, i, interleaved);
                        }).data());
      writer.add_floats(kind + ".t", DType::F32, Shape(kExperts, d, 2 * f),
                        tensor(kExperts, d, 2 * f, [&](Index e, Index i, Index o) {
                          return gate_or_up(e, o, i, interleaved);
                        }).data());
    }
    writer.add_floats(
        "stacked", DType::BF16, Shape(kExperts * f, d),
        tensor(kExperts, f, d, [](Index e, Index o, Index i) { return element(e, 0, o, i); }).data());
    // A down matrix [out = d, in = f], stored as f rows of d.
    writer.add_floats(
        "stacked.t", DType::BF16, Shape(kExperts * f, d),
        tensor(kExperts, f, d, [](Index e, Index i, Index o) { return element(e, 2, o, i); }).data());
    writer.save(folder.path() / "model.safetensors");
    const Checkpoint c(folder.path());

    CHECK(reads(c, {.name = "experts.{expert}.w1"}, kExperts, 0, f, d));
    // The first two of three in a tensor of all; the last two of those that have one each.
    CHECK(reads(c, {.name = "joined", .outputs = Outputs::second_half, .behind = 1}, 2, 1, f, d));
    CHECK(reads(c, {.name = "stacked", .stacked = true, .behind = 1}, 2, 0, f, d));
    std::vector<float> second(static_cast<std::size_t>(f * d));
    MatrixReader(c, {.name = "experts.{expert}.w1", .first = 1}, 2, f, d)
        .read(0, moe::MatrixView<float>(second.data(), f, d));
    CHECK(second[0] == element(1, 0, 0, 0));
    CHECK(reads(c, {.name = "experts.{expert}.t", .transposed = true}, kExperts, 0, f, d));
    CHECK(reads(c, {.name = "experts.{expert}.w13", .outputs = Outputs::first_half}, kExperts, 0, f, d));
    CHECK(reads(c, {.name = "experts.{expert}.w13", .outputs = Outputs::second_half}, kExperts, 1, f, d));
    for (const bool t : {false, true}) {
      const std::string suffix = t ? ".t" : "";
      CHECK(reads(c, {.name = "joined" + suffix, .transposed = t, .outputs = Outputs::first_half}, kExperts,
                  0, f, d));
      CHECK(reads(c, {.name = "joined" + suffix, .transposed = t, .outputs = Outputs::second_half}, kExperts,
                  1, f, d));
      CHECK(
          reads(c, {.name = "mixed" + suffix, .transposed = t, .outputs = Outputs::even}, kExperts, 0, f, d));
      CHECK(
          reads(c, {.name = "mixed" + suffix, .transposed = t, .outputs = Outputs::odd}, kExperts, 1, f, d));
    }
    CHECK(reads(c, {.name = "stacked", .stacked = true}, kExperts, 0, f, d));
    CHECK(reads(c, {.name = "stacked.t", .transposed = true, .stacked = true}, kExperts, 2, d, f));
    CHECK(reads(c, {.name = "experts.0.w1"}, 0, 0, f, d) /* a single matrix */);
    if (f == d) {
      CHECK_FALSE(reads(c, {.name = "experts.{expert}.w1", .transposed = true}, kExperts, 0, f, d));
    } else {
      CHECK(reason(c, {.name = "experts.{expert}.w1", .transposed = true}, kExperts, f, d)
                .find("that is the other orientation") != std::string::npos);
    }
    float one = 0;
    MatrixReader single(c, {.name = "experts.0.w1"}, 0, f, d);
    CHECK_THROWS_AS(single.read(1, moe::MatrixView<float>(&one, 1, 1)), moe::config_error);
    CHECK_THROWS_AS(single.read(0, moe::MatrixView<float>(&one, 1, 1)), moe::shape_error);
  }
}

TEST_CASE("matrix reader: shapes that contradict the extents are refused with file, tensor and both shapes",
          "[io]") {
  const test::TemporaryFolder folder;
  moe::io::SafetensorsWriter writer;
  const std::vector<float> zeros(4 * 6 * 8);
  writer.add_floats("fused", DType::F32, Shape(4, 6, 8), zeros.data());
  writer.add_floats("experts.0.w", DType::F32, Shape(6, 8), zeros.data());
  const std::vector<std::uint8_t> bytes(6 * 8);
  writer.add("fp8", DType::F8_E4M3, Shape(6, 8), bytes.data());
  writer.add("int", DType::I8, Shape(6, 8), bytes.data());
  const auto path = folder.path() / "model.safetensors";
  writer.save(path);
  const Checkpoint c(folder.path());
  CHECK(reason(c, {.name = "fused"}, 4, 6, 8) == "nothing thrown");
  CHECK(reason(c, {.name = "fused"}, 4, 3, 8) ==
        "moe: " + moe::io::shown(path) +
            ": tensor \"fused\": expected shape [4, 3, 8] for 4 experts, 3 outputs, 8 inputs, got [4, 6, 8]");
  CHECK(reason(c, {.name = "fused", .outputs = Outputs::even}, 4, 3, 8) == "nothing thrown");
  CHECK(reason(c, {.name = "fused"}, 3, 6, 8).find("expected shape [3, 6, 8]") != std::string::npos);
  CHECK(reason(c, {.name = "fused"}, 4, 8, 6).find("the other orientation") != std::string::npos);
  CHECK(reason(c, {.name = "fused", .stacked = true}, 4, 6, 8).find("expected shape [24, 8]") !=
        std::string::npos);
  CHECK(reason(c, {.name = "experts.{expert}.w"}, 2, 6, 8)
            .find("expected a tensor \"experts.1.w\", got none") != std::string::npos);
  CHECK(reason(c, {.name = "fp8"}, 0, 6, 8).find("numbers by themselves, got F8_E4M3") != std::string::npos);
  CHECK(reason(c, {.name = "int"}, 0, 6, 8).find("numbers by themselves, got I8") != std::string::npos);
  const auto contradiction = [&](const MatrixLayout& layout, Index experts) {
    CHECK_THROWS_AS(MatrixReader(c, layout, experts, 6, 8), moe::config_error);
  };
  contradiction({.name = "experts.{expert}.w"}, 0);
  contradiction({.name = "experts.{expert}.w", .stacked = true}, 1);
  contradiction({.name = "fp8", .encoding = Encoding::scaled}, 0);
  contradiction({.name = "fp8", .scales = "s"}, 0);
  CHECK_THROWS_AS(MatrixReader(c, {.name = "fused"}, 4, 0, 8), moe::config_error);
  CHECK_THROWS_AS(MatrixReader(c, {.name = "fused"}, 4, PTRDIFF_MAX / 4, 8), moe::size_error);
}

TEST_CASE(
    "matrix reader: 8-bit numbers with their scales per block, row, matrix, in one tensor or one an expert",
    "[io]") {
  const test::TemporaryFolder folder;
  moe::io::SafetensorsWriter writer;
  constexpr Index kExperts = 2, kOut = 5, kIn = 6;
  std::vector<std::int8_t> codes;
  for (Index i = 0; i < kExperts * kOut * kIn; ++i)
    codes.push_back(static_cast<std::int8_t>(i * 5 % 251 - 125));
  std::vector<float> scales;
  for (Index i = 0; i < 100; ++i) scales.push_back(0.25f * static_cast<float>(i + 1));
  writer.add("w", DType::I8, Shape(kExperts, kOut, kIn), codes.data());
  writer.add_floats("blocks", DType::F32, Shape(kExperts, 3, 2), scales.data());
  writer.add_floats("rows", DType::BF16, Shape(kExperts, kOut, 1), scales.data());
  writer.add_floats("matrices", DType::F32, Shape(kExperts), scales.data());
  writer.add_floats("wrong", DType::F32, Shape(kExperts, 2, 3), scales.data());
  for (Index e = 0; e < kExperts; ++e) {
    const std::string name = std::to_string(e);
    writer.add(name + ".w", DType::I8, Shape(kOut, kIn), codes.data() + e * kOut * kIn);
    writer.add_floats(name + ".s", DType::F32, Shape(), scales.data() + e);
  }
  writer.save(folder.path() / "model.safetensors");
  const Checkpoint c(folder.path());
  const auto check = [&](const MatrixLayout& layout, auto scale_of) {
    const MatrixReader reader(c, layout, kExperts, kOut, kIn);
    for (Index e = 0; e < kExperts; ++e) {
      float to[kOut * kIn];
      reader.read(e, moe::MatrixView<float>(to, kOut, kIn));
      for (Index o = 0; o < kOut; ++o) {
        for (Index i = 0; i < kIn; ++i) {
          const float q = codes[static_cast<std::size_t>((e * kOut + o) * kIn + i)];
          CHECK(to[o * kIn + i] == q * scales[static_cast<std::size_t>(scale_of(e, o, i))]);
        }
      }
    }
  };
  const MatrixLayout base{.name = "w", .encoding = Encoding::scaled};
  MatrixLayout blocks = base, rows = base, matrices = base, wrong = base;
  blocks.scales = "blocks", blocks.scale_rows = 2, blocks.scale_cols = 3;
  rows.scales = "rows", rows.scale_rows = 1;
  matrices.scales = "matrices";
  wrong.scales = "wrong", wrong.scale_rows = 2, wrong.scale_cols = 3;
  check(blocks, [](Index e, Index o, Index i) { return e * 6 + o / 2 * 2 + i / 3; });
  check(rows, [](Index e, Index o, Index) { return e * kOut + o; });
  check(matrices, [](Index e, Index, Index) { return e; });
  blocks.scale_rows = blocks.scale_cols = PTRDIFF_MAX;  // larger than the matrix
  blocks.scales = "matrices";
  check(blocks, [](Index e, Index, Index) { return e; });
  check({.name = "{expert}.w", .encoding = Encoding::scaled, .scales = "{expert}.s"},
        [](Index e, Index, Index) { return e; });
  CHECK(reason(c, wrong, kExperts, kOut, kIn)
            .find("\"wrong\": expected scales of shape [2, 3, 2], got [2, 2, 3]") != std::string::npos);
  wrong.name = "blocks";
  CHECK(reason(c, wrong, kExperts, 3, 2).find("expected 8-bit numbers") != std::string::npos);
}

TEST_CASE("matrix reader: MXFP4 in blocks or rows of bytes, interleaved and turned", "[io]") {
  const test::TemporaryFolder folder;
  moe::io::SafetensorsWriter writer;
  constexpr Index kExperts = 2, kF = 3, kD = 64;  // [E, 2F, D]
  std::vector<std::uint8_t> codes, scales;
  for (Index i = 0; i < kExperts * 2 * kF * kD / 2; ++i) codes.push_back(static_cast<std::uint8_t>(i * 37));
  for (Index i = 0; i < kExperts * 2 * kF * kD / 32; ++i)
    scales.push_back(static_cast<std::uint8_t>(120 + i % 13));
  writer.add("blocks", DType::U8, Shape(kExperts, 2 * kF, kD / 32, 16), codes.data());
  writer.add("bytes", DType::I8, Shape(kExperts, 2 * kF, kD / 2), codes.data());
  writer.add("f4", DType::F4, Shape(kExperts, 2 * kF, kD), codes.data());
  writer.add("s.u8", DType::U8, Shape(kExperts, 2 * kF, kD / 32), scales.data());
  writer.add("s.e8m0", DType::F8_E8M0, Shape(kExperts, 2 * kF, kD / 32), scales.data());
  writer.save(folder.path() / "model.safetensors");
  const Checkpoint c(folder.path());
  const auto value = [&](Index e, Index row, Index i) {
    const Index at = (e * 2 * kF + row) * kD + i;
    const unsigned byte = codes[static_cast<std::size_t>(at / 2)];
    const float table[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    const unsigned code = i % 2 == 0 ? byte & 15 : byte >> 4;
    const float magnitude = std::ldexp(table[code & 7], scales[static_cast<std::size_t>(at / 32)] - 127);
    return code < 8 ? magnitude : -magnitude;
  };
  for (const auto& [name, s] :
       {std::pair("blocks", "s.u8"), std::pair("bytes", "s.e8m0"), std::pair("f4", "s.u8")}) {
    INFO(name);
    for (const bool odd : {false, true}) {
      const MatrixReader reader(c,
                                {.name = name,
                                 .outputs = odd ? Outputs::odd : Outputs::even,
                                 .encoding = Encoding::mxfp4,
                                 .scales = s},
                                kExperts, kF, kD);
      float to[kF * kD];
      reader.read(1, moe::MatrixView<float>(to, kF, kD));
      for (Index o = 0; o < kF; ++o) {
        for (Index i = 0; i < kD; ++i) CHECK(to[o * kD + i] == value(1, 2 * o + odd, i));
      }
    }
    // The same bytes as [in, out].
    const MatrixReader turned(c, {.name = name, .transposed = true, .encoding = Encoding::mxfp4, .scales = s},
                              kExperts, kD, 2 * kF);
    float to[kD * 2 * kF];
    turned.read(0, moe::MatrixView<float>(to, kD, 2 * kF));
    for (Index o = 0; o < kD; ++o) {
      for (Index i = 0; i < 2 * kF; ++i) CHECK(to[o * 2 * kF + i] == value(0, i, o));
    }
  }
  CHECK(reason(c, {.name = "blocks", .encoding = Encoding::mxfp4, .scales = "bytes"}, kExperts, 2 * kF, kD)
            .find("expected dtype U8 or F8_E8M0 for scales of MXFP4, got I8") != std::string::npos);
  CHECK(reason(c, {.name = "s.e8m0", .encoding = Encoding::mxfp4, .scales = "s.u8"}, kExperts, 2 * kF, kD)
            .find("expected dtype U8, I8 or F4 for MXFP4, got F8_E8M0") != std::string::npos);
  CHECK(reason(c, {.name = "blocks", .encoding = Encoding::mxfp4, .scales = "s.u8"}, kExperts, 2 * kF, 48)
            .find("expected rows of whole groups of 32 for MXFP4, got rows of 48") != std::string::npos);
}

TEST_CASE("matrix reader: packed 4-bit groups, with the shape beside them", "[io]") {
  const test::TemporaryFolder folder;
  moe::io::SafetensorsWriter writer;
  constexpr Index kOut = 3, kIn = 64;
  std::vector<std::uint32_t> words;
  for (std::uint32_t i = 0; i < kOut * kIn / 8; ++i) words.push_back(0x9E3779B9u * (i + 1));
  std::vector<float> scales;
  for (Index i = 0; i < kOut * kIn / 32; ++i) scales.push_back(0.5f * static_cast<float>(i + 1));
  const std::int32_t shape[] = {kOut, kIn}, wrong[] = {kIn, kOut};
  for (const char* const base : {"a.weight_", "b.weight_", "c.weight_", "d.weight_"}) {
    writer.add(std::string(base) + "packed", DType::I32, Shape(kOut, kIn / 8), words.data());
    writer.add_floats(std::string(base) + "scale", DType::BF16, Shape(kOut, kIn / 32), scales.data());
  }
  writer.add("a.weight_shape", DType::I32, Shape(2), shape);
  writer.add("b.weight_shape", DType::I32, Shape(2), wrong);
  writer.add("c.weight_zero_point", DType::I32, Shape(2), shape);
  writer.add("d.weight_g_idx", DType::I32, Shape(2), shape);
  writer.save(folder.path() / "model.safetensors");
  const Checkpoint c(folder.path());
  const auto layout = [](const std::string& base) {
    return MatrixLayout{
        .name = base + ".weight_packed", .encoding = Encoding::int4, .scales = base + ".weight_scale"};
  };
  const MatrixReader reader(c, layout("a"), 0, kOut, kIn);
  float to[kOut * kIn];
  reader.read(0, moe::MatrixView<float>(to, kOut, kIn));
  for (Index at = 0; at < kOut * kIn; ++at) {
    const auto q = static_cast<int>(words[static_cast<std::size_t>(at / 8)] >> (4 * (at % 8)) & 15) - 8;
    CHECK(to[at] == static_cast<float>(q) * scales[static_cast<std::size_t>(at / 32)]);
  }
  CHECK(reason(c, layout("b"), 0, kOut, kIn).find("\"b.weight_shape\": expected 3 x 64, got 64 x 3") !=
        std::string::npos);
  CHECK(reason(c, layout("c"), 0, kOut, kIn).find("expected symmetric groups in order, got a zero_point") !=
        std::string::npos);
  CHECK(reason(c, layout("d"), 0, kOut, kIn).find("got a g_idx") != std::string::npos);
  MatrixLayout other = layout("a");
  other.group = 16;
  CHECK(reason(c, other, 0, kOut, kIn).find("expected scales of shape [3, 4], got [3, 2]") !=
        std::string::npos);
}
