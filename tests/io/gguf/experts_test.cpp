#include "moe/io/gguf/experts.hpp"

#include <algorithm>
#include <bit>
#include <string>
#include <vector>

#include "io/gguf/gguf_bytes.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/io/experts.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/same_bits.hpp"

using moe::Index;
using moe::io::ExpertMatrix;
using moe::io::GgufExperts;
using moe::io::GgufFile;
using test::GgufBytes;
using test::little;

namespace {

constexpr Index kExperts = 2, kD = 32, kF = 64;

std::string floats(Index n, float first) {
  std::string out;
  for (Index i = 0; i < n; ++i) out += little(std::bit_cast<std::uint32_t>(first + static_cast<float>(i)), 4);
  return out;
}

/// Q8_0 blocks of scale 1/2 and codes that count up.
std::string q8(Index numbers) {
  std::string out;
  for (Index i = 0; i < numbers; ++i) {
    if (i % 32 == 0) out += little(0x3800, 2);
    out += little(static_cast<std::uint64_t>(i * 7 % 251 - 125), 1);
  }
  return out;
}

GgufBytes model() {
  GgufBytes b;
  const std::string p = "blk.3.ffn_";
  b.tensor(p + "gate_exps.weight", {kD, kF, kExperts}, 0, b.data(floats(kExperts * kD * kF, 1)));
  b.tensor(p + "up_exps.weight", {kD, kF, kExperts}, 8, b.data(q8(kExperts * kD * kF)));
  b.tensor(p + "down_exps.weight", {kF, kD, kExperts}, 8, b.data(q8(kExperts * kD * kF)));
  b.tensor(p + "gate_exps.bias", {kF, kExperts}, 0, b.data(floats(kExperts * kF, -500)));
  const std::string q = "blk.4.ffn_";
  b.tensor(q + "up_exps.weight", {kD, kF, kExperts}, 8, b.data(q8(kExperts * kD * kF)));
  b.tensor(q + "down_exps.weight", {kF, kD, kExperts}, 8, b.data(q8(kExperts * kD * kF)));
  b.tensor("blk.5.ffn_up_exps.weight", {kD, kF, kExperts}, 16, 0);
  b.tensor("blk.5.ffn_down_exps.weight", {kF, kD, kExperts}, 16, 0);
  b.tensor("blk.6.ffn_up_exps.weight", {kD, 1}, 0, b.data(floats(kD, 0)));
  b.tensor("blk.6.ffn_down_exps.weight", {kD, 1, 1}, 0, b.data(floats(kD, 0)));
  b.tensor("blk.8.ffn_up_exps.weight", {kD, 1, 0}, 0, 0);
  b.tensor("blk.8.ffn_down_exps.weight", {1, kD, 0}, 0, 0);
  b.tensor("blk.7.ffn_up_exps.weight", {kD, 1, 1}, 0, b.data(floats(kD, 0)));
  b.tensor("blk.7.ffn_down_exps.weight", {kD, 1, 1}, 0, b.data(floats(kD, 0)));
  return b;
}

float q8_value(Index e, Index o, Index i, Index rows, Index cols) {
  return 0.5f * static_cast<float>(static_cast<std::int8_t>(((e * rows + o) * cols + i) * 7 % 251 - 125));
}

}  // namespace

TEST_CASE("gguf experts: a layer's experts in a bank", "[io]") {
  const test::TemporaryFolder folder;
  const GgufFile file(folder.write("m.gguf", model().all()));
  const GgufExperts source(file, 3);
  static_assert(moe::io::ExpertSource<GgufExperts>);
  REQUIRE(source.experts() == kExperts);
  REQUIRE(source.width() == kD);
  REQUIRE(source.hidden() == kF);
  CHECK(source.is_gated());
  CHECK((source.has_bias(ExpertMatrix::gate) && !source.has_bias(ExpertMatrix::up)));
  moe::Glu<moe::Silu> bank({.experts = kExperts, .width = kD, .hidden = kF, .bias = true});
  moe::io::load_experts(bank, source);
  Index seen = 0;
  bank.visit_parameters(nullptr, [&](const auto& p) {
    const std::string name = p.name;
    const Index e = name[8] - '0';
    const bool bias = name.find(".bias") != std::string::npos,
               gate = name.find("gate_proj") != std::string::npos;
    INFO(name);
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) {
        const float want = bias   ? (gate ? -500 + static_cast<float>(e * kF + o) : 0)
                           : gate ? static_cast<float>(1 + (e * kF + o) * kD + i)
                                  : q8_value(e, o, i, p.value.rows, p.value.cols);
        CHECK(p.value(o, i) == want);
      }
    }
    ++seen;
  });
  CHECK(seen == kExperts * 6);
}

TEST_CASE("gguf experts: without a gate, and what is refused", "[io]") {
  const std::vector<std::byte> bytes = test::exact_bytes(model().all());
  const GgufFile file = GgufFile::from_bytes(bytes, "f");
  const GgufExperts source(file, 4);
  CHECK_FALSE(source.is_gated());
  moe::Mlp<moe::Relu> bank({.experts = kExperts, .width = kD, .hidden = kF});
  moe::io::load_experts(bank, source);
  bank.visit_parameters(nullptr, [&](const auto& p) {
    const Index e = p.name[8] - '0';
    CHECK(p.value(p.value.rows - 1, 3) == q8_value(e, p.value.rows - 1, 3, p.value.rows, p.value.cols));
  });
  std::vector<float> to(kD * kF);
  CHECK_THROWS_AS(source.read(kExperts, ExpertMatrix::fc1, moe::MatrixView<float>(to.data(), kF, kD)),
                  moe::config_error);
  CHECK_THROWS_AS(source.read(0, ExpertMatrix::gate, moe::MatrixView<float>(to.data(), kF, kD)),
                  moe::config_error);
  CHECK_THROWS_AS(source.read(0, ExpertMatrix::fc2, moe::MatrixView<float>(to.data(), kF, kD)),
                  moe::shape_error);
  CHECK_THROWS_AS(source.read_bias(0, ExpertMatrix::fc1, to.data()), moe::config_error);

  const auto reason = [&](Index layer) {
    return test::message_of<moe::format_error>([&] { GgufExperts(file, layer); });
  };
  CHECK(reason(0) == "moe: f: expected a tensor \"blk.0.ffn_up_exps.weight\", got none");
  CHECK(
      reason(5) ==
      "moe: f: tensor \"blk.5.ffn_up_exps.weight\": expected type F32, F16, BF16, MXFP4, IQ4_NL, Q4_0, Q4_1, "
      "Q5_0, Q5_1, Q8_0 or Q2_K to Q6_K, got IQ2_XXS");
  CHECK(reason(6) ==
        "moe: f: tensor \"blk.6.ffn_up_exps.weight\": expected shape [experts, hidden, width], got [1, 32]");
  CHECK(reason(8).find("expected shape [experts, hidden, width], got [0, 1, 32]") != std::string::npos);
  CHECK(reason(7) ==
        "moe: f: tensor \"blk.7.ffn_down_exps.weight\": expected shape [1, 32, 1], got [1, 1, 32]");
}

TEST_CASE("gguf experts: gate and up in one tensor, a scale for each expert", "[io]") {
  const std::string p = "blk.0.ffn_";
  const std::string down = q8(kExperts * kD * kF);
  const auto file_of = [](const GgufBytes& b, std::vector<std::byte>& bytes) {
    bytes = test::exact_bytes(b.all());
    return GgufFile::from_bytes(bytes, "f");
  };
  GgufBytes b;
  b.tensor(p + "gate_up_exps.weight", {kD, 2 * kF, kExperts}, 8, b.data(q8(kExperts * 2 * kD * kF)));
  b.tensor(p + "gate_up_exps.bias", {2 * kF, kExperts}, 0, b.data(floats(kExperts * 2 * kF, -500)));
  b.tensor(p + "down_exps.weight", {kF, kD, kExperts}, 8, b.data(down));
  b.tensor(p + "down_exps.scale", {kExperts}, 0, b.data(little(0x40000000, 4) + little(0xBF000000, 4)));
  b.tensor(p + "norm_exps.weight", {kD}, 0, b.data(floats(kD, 1)));  // Arctic's, which is no expert's
  std::vector<std::byte> bytes;
  const GgufFile file = file_of(b, bytes);
  const GgufExperts source(file, 0);
  CHECK((source.is_gated() && source.experts() == kExperts && source.hidden() == kF && source.width() == kD));
  std::vector<float> to(kD * kF), bias(kF);
  for (Index e = 0; e < kExperts; ++e) {
    for (const bool up : {false, true}) {
      const ExpertMatrix part = up ? ExpertMatrix::up : ExpertMatrix::gate;
      source.read(e, part, moe::MatrixView<float>(to.data(), kF, kD));
      for (Index o : {Index{0}, kF - 1}) {
        CHECK(to[static_cast<std::size_t>(o * kD + 5)] == q8_value(e, o + (up ? kF : 0), 5, 2 * kF, kD));
      }
      source.read_bias(e, part, bias.data());
      CHECK(bias[3] == -500 + static_cast<float>((2 * e + Index{up}) * kF + 3));
      const auto groups = source.groups(e, part);
      REQUIRE(groups.has_value());
      CHECK(0.5f * static_cast<float>(std::get<moe::io::CodeGroups>(*groups).code(kF - 1, 7)) ==
            q8_value(e, kF - 1 + (up ? kF : 0), 7, 2 * kF, kD));
    }
    source.read(e, ExpertMatrix::down, moe::MatrixView<float>(to.data(), kD, kF));
    CHECK(to[9] == (e == 0 ? 2.0f : -0.5f) * q8_value(e, 0, 9, kD, kF));
    CHECK(!source.groups(e, ExpertMatrix::down).has_value());
  }
  const GgufExperts unscaled(file, 0, false);  // somebody else reads the scale of the second layer
  unscaled.read(0, ExpertMatrix::down, moe::MatrixView<float>(to.data(), kD, kF));
  CHECK(to[9] == q8_value(0, 0, 9, kD, kF));
  CHECK(unscaled.groups(0, ExpertMatrix::down).has_value());
  // A bias is added behind the scale.
  GgufBytes biased = b;
  biased.tensor(p + "down_exps.bias", {kD, kExperts}, 0, biased.data(floats(kD * kExperts, 100)));
  std::vector<std::byte> of_biased;
  const GgufFile biased_file = file_of(biased, of_biased);
  const GgufExperts both(biased_file, 0);
  std::vector<float> offset(kD);
  both.read(1, ExpertMatrix::down, moe::MatrixView<float>(to.data(), kD, kF));
  both.read_bias(1, ExpertMatrix::down, offset.data());
  CHECK(to[9] == -0.5f * q8_value(1, 0, 9, kD, kF));
  CHECK(offset[2] == 100 + static_cast<float>(kD + 2));
  // Nothing of an expert is left out without a word.
  const auto reason = [&](const char* name, std::initializer_list<std::uint64_t> extents, Index n) {
    GgufBytes more = b;
    more.tensor(p + name, extents, 0, more.data(floats(n, 0)));
    std::vector<std::byte> own;
    return test::message_of<moe::format_error>([&] { GgufExperts(file_of(more, own), 0); });
  };
  CHECK(reason("gate_exps.weight", {kD, kF, kExperts}, kD * kF * kExperts) ==
        "moe: f: tensor \"blk.0.ffn_gate_exps.weight\": expected no such tensor beside "
        "ffn_gate_up_exps.weight, got "
        "one that would not be read");
  GgufBytes bias_alone = model();
  bias_alone.tensor("blk.4.ffn_gate_exps.bias", {kF, kExperts}, 0, bias_alone.data(floats(kExperts * kF, 0)));
  std::vector<std::byte> own;
  CHECK(test::message_of<moe::format_error>([&] {
          GgufExperts(file_of(bias_alone, own), 4);
        }).find("no such tensor without ffn_gate_exps.weight") != std::string::npos);
}

TEST_CASE("gguf experts: Q8_0 and Q4_0 are repacked as they are", "[io]") {
  const auto check = [](auto storage, std::uint32_t type, int code_bytes) {
    // Codes of any value and scales of either sign: what rounding anew would not give back.
    std::string blocks;
    for (Index g = 0; g < kD * kF / 32; ++g) {
      blocks += little(static_cast<std::uint64_t>(0x2A00 + g * 5 + (g % 3 == 0 ? 0x8000 : 0)), 2);
      for (int b = 0; b < code_bytes; ++b)
        blocks += little(static_cast<std::uint64_t>(g * 29 + b * 53) / 3, 1);
    }
    GgufBytes bytes;
    bytes.tensor("blk.0.ffn_up_exps.weight", {kD, kF, 1}, type, bytes.data(blocks));
    bytes.tensor("blk.0.ffn_down_exps.weight", {kF, kD, 1}, type, bytes.data(blocks));
    const std::vector<std::byte> exact = test::exact_bytes(bytes.all());
    const GgufFile file = GgufFile::from_bytes(exact, "f");
    const GgufExperts source(file, 0);
    moe::Mlp<moe::Relu, decltype(storage)> bank({.experts = 1, .width = kD, .hidden = kF});
    moe::io::load_experts(bank, source);
    std::vector<float> fc1(kD * kF), fc2(kD * kF), want1(kD * kF), want2(kD * kF);
    bank.unpack(0, moe::MatrixView<float>(fc1.data(), kF, kD), moe::MatrixView<float>(fc2.data(), kD, kF));
    source.read(0, ExpertMatrix::fc1, moe::MatrixView<float>(want1.data(), kF, kD));
    source.read(0, ExpertMatrix::fc2, moe::MatrixView<float>(want2.data(), kD, kF));
    CHECK(fc1 == want1);
    CHECK(fc2 == want2);
    CHECK(std::count(want1.begin(), want1.end(), 0.0f) < kD * kF / 4);
  };
  check(moe::Int8Groups<moe::Float16>{}, 8, 32);
  check(moe::Int4Groups<moe::Float16>{}, 2, 16);
}

namespace {

/// Blocks of Q4_K or Q6_K of any bytes, but for scales that are not finite.
std::string super_blocks(Index blocks, bool four, std::uint32_t seed) {
  std::string out;
  for (Index b = 0; b < blocks; ++b) {
    std::string block;
    for (int i = 0; i < (four ? 144 : 210); ++i)
      block += static_cast<char>((seed = seed * 1664525 + 1013904223) >> 24);
    for (const std::size_t high : {std::size_t{four ? 1u : 209u}, std::size_t{four ? 3u : 209u}}) {
      block[high] = static_cast<char>(block[high] & ~0x40);  // scales below 2
    }
    out += block;
  }
  return out;
}

constexpr Index kSuper = 256;
/// fc1 and fc2, [256, 256].
struct SuperMatrices {
  std::vector<float> fc1, fc2;
  SuperMatrices() : fc1(kSuper * kSuper), fc2(fc1.size()) {}
  moe::MatrixView<float> view(bool second) { return {(second ? fc2 : fc1).data(), kSuper, kSuper}; }
};

template <class Storage>
SuperMatrices repacked(const GgufExperts& source) {
  moe::Mlp<moe::Relu, Storage> bank({.experts = 1, .width = kSuper, .hidden = kSuper});
  moe::io::load_experts(bank, source);
  SuperMatrices m;
  bank.unpack(0, m.view(false), m.view(true));
  return m;
}

}  // namespace

TEST_CASE("gguf experts: Q4_K and Q6_K are repacked as they are, every matrix by itself", "[io]") {
  const std::string four = super_blocks(kSuper, true, 1), six = super_blocks(kSuper, false, 2);
  const auto file_of = [&](bool up_four, bool down_four, std::vector<std::byte>& own) {
    GgufBytes bytes;
    bytes.tensor("blk.0.ffn_up_exps.weight", {kSuper, kSuper, 1}, up_four ? 12 : 14,
                 bytes.data(up_four ? four : six));
    bytes.tensor("blk.0.ffn_down_exps.weight", {kSuper, kSuper, 1}, down_four ? 12 : 14,
                 bytes.data(down_four ? four : six));
    own = test::exact_bytes(bytes.all());
    return GgufFile::from_bytes(own, "f");
  };
  std::vector<std::byte> own;
  const auto read = [](const GgufExperts& source) {
    SuperMatrices m;
    source.read(0, ExpertMatrix::fc1, m.view(false));
    source.read(0, ExpertMatrix::fc2, m.view(true));
    return m;
  };
  {
    const GgufFile file = file_of(true, true, own);
    const GgufExperts source(file, 0);
    const SuperMatrices got = repacked<moe::Q4K>(source), want = read(source);
    CHECK(test::same_bits(got.fc1, want.fc1));
    CHECK(test::same_bits(got.fc2, want.fc2));
  }
  {
    const GgufFile file = file_of(false, false, own);
    const GgufExperts source(file, 0);
    const SuperMatrices got = repacked<moe::Q6K>(source), want = read(source);
    CHECK(test::same_bits(got.fc1, want.fc1));
    CHECK(test::same_bits(got.fc2, want.fc2));
  }
  // Mixed, as files are: what is not the storage's is rounded, the other not.
  const GgufFile file = file_of(true, false, own);
  const GgufExperts source(file, 0);
  SuperMatrices want = read(source);
  const SuperMatrices as_four = repacked<moe::Q4K>(source), as_six = repacked<moe::Q6K>(source);
  moe::Mlp<moe::Relu, moe::Q4K> rounded({.experts = 1, .width = kSuper, .hidden = kSuper});
  rounded.load(0, want.view(false), want.view(true));
  SuperMatrices all_rounded;
  rounded.unpack(0, all_rounded.view(false), all_rounded.view(true));
  CHECK(test::same_bits(as_four.fc1, want.fc1));
  CHECK(test::same_bits(as_four.fc2, all_rounded.fc2));
  CHECK_FALSE(test::same_bits(as_four.fc2, want.fc2));
  CHECK_FALSE(test::same_bits(all_rounded.fc1, want.fc1));
  CHECK(test::same_bits(as_six.fc2, want.fc2));
}

TEST_CASE("gguf experts: super-blocks whose scales are not finite are refused", "[io]") {
  std::string blocks = super_blocks(kSuper, true, 3);
  blocks[5 * 144 + 3] = 0x7C;
  blocks[5 * 144 + 2] = 0;
  GgufBytes bytes;
  bytes.tensor("blk.0.ffn_up_exps.weight", {kSuper, kSuper, 1}, 12, bytes.data(blocks));
  bytes.tensor("blk.0.ffn_down_exps.weight", {kSuper, kSuper, 1}, 12,
               bytes.data(super_blocks(kSuper, true, 4)));
  const std::vector<std::byte> own = test::exact_bytes(bytes.all());
  const GgufFile file = GgufFile::from_bytes(own, "f");
  CHECK(test::message_of<moe::numeric_error>([&] { repacked<moe::Q4K>(GgufExperts(file, 0)); }) ==
        "moe: expert 0 of the checkpoint: moe: fc1: expected finite scales, got another in row 5, block 0");
}
