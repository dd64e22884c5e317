#include "moe/io/experts.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "io/file/temporary_folder.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/io/safetensors/writer.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

using moe::Index;
using moe::io::Checkpoint;
using moe::io::CheckpointExperts;
using moe::io::DType;
using moe::io::ExpertLayout;
using moe::io::ExpertMatrix;
using moe::io::Outputs;
using moe::io::Shape;

namespace {

constexpr Index kExperts = 3, kD = 5, kF = 4;

float element(Index e, Index part, Index o, Index i) {
  return static_cast<float>(e * 100 + part * 30 + o * 5 + i + 1) / 8;
}

/// Gate and up interleaved [E, 2F, D] with biases [E, 2F], down [E, D, F] with bias; fc1 and fc2 per expert.
void write_model(const std::filesystem::path& folder) {
  moe::io::SafetensorsWriter writer;
  std::vector<float> gate_up, gate_up_bias, down, down_bias;
  for (Index e = 0; e < kExperts; ++e) {
    std::vector<float> fc1, fc1_bias, fc2;
    for (Index o = 0; o < 2 * kF; ++o) {
      for (Index i = 0; i < kD; ++i) gate_up.push_back(element(e, o % 2, o / 2, i));
      gate_up_bias.push_back(-element(e, o % 2, o / 2, 0));
    }
    for (Index o = 0; o < kD; ++o) {
      for (Index i = 0; i < kF; ++i) {
        down.push_back(element(e, 2, o, i));
        fc2.push_back(element(e, 4, o, i));
      }
      down_bias.push_back(-element(e, 2, o, 0));
    }
    for (Index o = 0; o < kF; ++o) {
      for (Index i = 0; i < kD; ++i) fc1.push_back(element(e, 3, o, i));
      fc1_bias.push_back(-element(e, 3, o, 0));
    }
    const std::string prefix = "experts." + std::to_string(e) + ".";
    writer.add_floats(prefix + "fc1.weight", DType::F32, Shape(kF, kD), fc1.data());
    writer.add_floats(prefix + "fc1.bias", DType::F32, Shape(kF), fc1_bias.data());
    writer.add_floats(prefix + "fc2.weight", DType::F32, Shape(kD, kF), fc2.data());
  }
  writer.add_floats("gate_up", DType::F32, Shape(kExperts, 2 * kF, kD), gate_up.data());
  writer.add_floats("gate_up_bias", DType::F32, Shape(kExperts, 2 * kF), gate_up_bias.data());
  writer.add_floats("down", DType::F32, Shape(kExperts, kD, kF), down.data());
  writer.add_floats("down_bias", DType::F32, Shape(kExperts, kD), down_bias.data());
  writer.save(folder / "model.safetensors");
}

ExpertLayout gated() {
  ExpertLayout layout = moe::io::fused_glu("gate_up", "down", false, Outputs::even, Outputs::odd);
  layout.bias_of(ExpertMatrix::gate) = {"gate_up_bias", Outputs::even};
  layout.bias_of(ExpertMatrix::up) = {"gate_up_bias", Outputs::odd};
  layout.bias_of(ExpertMatrix::down) = {"down_bias"};
  return layout;
}

/// Every parameter of the bank is what write_model() wrote under that part; `biased(part)` else 0.
template <class Bank, class Biased>
void check_parameters(Bank& bank, Index first_part, Biased biased) {
  Index parameters = 0;
  bank.visit_parameters(nullptr, [&](const auto& p) {
    Index e = -1, part = -1;
    for (Index x = 0; x < kExperts; ++x) {
      const char* const names[] = {"gate_proj", "up_proj", "down_proj", "fc1", "fc2"};
      for (Index m = first_part; m < 5; ++m) {
        if (std::string(p.name).rfind("experts." + std::to_string(x) + "." + names[m] + ".", 0) == 0) {
          e = x, part = m;
        }
      }
    }
    INFO(p.name);
    REQUIRE(e >= 0);
    const bool bias = std::string(p.name).find(".bias") != std::string::npos;
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) {
        const float want = !bias ? element(e, part, o, i) : biased(part) ? -element(e, part, o, 0) : 0.0f;
        CHECK(static_cast<float>(p.value(o, i)) == want);
      }
    }
    ++parameters;
  });
  CHECK(parameters == kExperts * 2 * (first_part == 0 ? 3 : 2));
}

}  // namespace

TEST_CASE("experts: a bank gets every weight and bias, expert by expert", "[io]") {
  const test::TemporaryFolder folder;
  write_model(folder.path());
  const Checkpoint checkpoint(folder.path());
  const CheckpointExperts source(checkpoint, gated(), kExperts, kD, kF);
  CHECK(source.is_gated());
  CHECK((source.has_bias(ExpertMatrix::gate) && source.has_bias(ExpertMatrix::down) &&
         !source.has_bias(ExpertMatrix::fc1)));
  static_assert(moe::io::ExpertSource<CheckpointExperts>);

  moe::Glu<moe::Silu> bank({.experts = kExperts, .width = kD, .hidden = kF, .bias = true});
  std::vector<Index> steps;
  steps.reserve(kExperts);
  moe::io::load_experts(bank, source, [&](Index done, Index total) noexcept {
    if (total == kExperts) steps.push_back(done);
  });
  CHECK(steps == std::vector<Index>{1, 2, 3});
  check_parameters(bank, 0, [](Index) { return true; });

  moe::Glu<moe::Silu, double> wide({.experts = kExperts, .width = kD, .hidden = kF, .bias = true});
  wide.initialise(1);
  moe::io::load_experts(wide, source);
  check_parameters(wide, 0, [](Index) { return true; });
}

TEST_CASE("experts: without a gate; a part without bias gets zeros", "[io]") {
  const test::TemporaryFolder folder;
  write_model(folder.path());
  const Checkpoint checkpoint(folder.path());
  ExpertLayout layout = moe::io::per_expert_mlp("experts.{expert}.", "fc1", "fc2");
  layout.bias_of(ExpertMatrix::fc1) = {"experts.{expert}.fc1.bias"};
  const CheckpointExperts source(checkpoint, layout, kExperts, kD, kF);
  moe::Mlp<moe::Relu> bank({.experts = kExperts, .width = kD, .hidden = kF, .bias = true});
  bank.visit_parameters(nullptr, [](const auto& p) {
    for (Index o = 0; o < p.value.rows; ++o) p.value(o, 0) = 77;
  });
  moe::io::load_experts(bank, source);
  check_parameters(bank, 3, [](Index part) { return part == 3; });
}

TEST_CASE("experts: a bank of other extents or another kind is refused", "[io]") {
  const test::TemporaryFolder folder;
  write_model(folder.path());
  const Checkpoint checkpoint(folder.path());
  const CheckpointExperts source(checkpoint, gated(), kExperts, kD, kF);
  const auto reason = [&](auto bank) {
    return test::message_of<moe::config_error>([&] { moe::io::load_experts(bank, source); });
  };
  using Glu = moe::Glu<moe::Silu>;
  using Mlp = moe::Mlp<moe::Relu>;
  CHECK(reason(Glu({.experts = 4, .width = kD, .hidden = kF, .bias = true})) ==
        "moe: experts: expected a bank of 3 experts for this checkpoint, got 4");
  CHECK(reason(Glu({.experts = 3, .width = 6, .hidden = kF, .bias = true})) ==
        "moe: experts: expected a bank of 5 columns of width for this checkpoint, got 6");
  CHECK(reason(Glu({.experts = 3, .width = kD, .hidden = 1, .bias = true})) ==
        "moe: experts: expected a bank of 4 hidden columns for this checkpoint, got 1");
  CHECK(reason(Mlp({.experts = 3, .width = kD, .hidden = kF, .bias = true})) ==
        "moe: experts: expected a bank of gated experts for this checkpoint, got the other kind");
  CHECK(reason(Glu({.experts = 3, .width = kD, .hidden = kF})) ==
        "moe: experts: expected a bank with biases for this checkpoint's gate, got one without");
}

TEST_CASE("experts: layouts and biases that do not fit are refused before anything is read", "[io]") {
  const test::TemporaryFolder folder;
  write_model(folder.path());
  const Checkpoint checkpoint(folder.path());
  const auto make = [&](const ExpertLayout& layout, Index experts) {
    CheckpointExperts(checkpoint, layout, experts, kD, kF);
  };
  ExpertLayout layout = gated();
  layout[ExpertMatrix::up] = {};
  CHECK(test::message_of<moe::config_error>([&] { make(layout, kExperts); }) ==
        "moe: expert layout: expected gate, up and down, or fc1 and fc2, got no up");
  layout = gated();
  layout[ExpertMatrix::fc1].name = "gate_up";
  CHECK(test::message_of<moe::config_error>([&] { make(layout, kExperts); }).find("got also fc1") !=
        std::string::npos);
  layout = gated();
  layout.bias_of(ExpertMatrix::fc2).name = "down_bias";
  CHECK_THROWS_AS(make(layout, kExperts), moe::config_error);
  layout = gated();
  layout.bias_of(ExpertMatrix::gate).outputs = Outputs::all;
  CHECK(test::message_of<moe::format_error>([&] {
          make(layout, kExperts);
        }).find("\"gate_up_bias\": expected shape [3, 4], got [3, 8]") != std::string::npos);
  CHECK_THROWS_AS(make(gated(), 2), moe::format_error);
  CHECK_THROWS_AS(make(gated(), 0), moe::config_error);

  const CheckpointExperts source(checkpoint, gated(), kExperts, kD, kF);
  float to[8];
  CHECK_THROWS_AS(source.read_bias(0, ExpertMatrix::fc1, to), moe::config_error);
  CHECK_THROWS_AS(source.read_bias(3, ExpertMatrix::gate, to), moe::config_error);
  CHECK_THROWS_AS(source.read(3, ExpertMatrix::gate, moe::MatrixView<float>(to, 1, 1)), moe::config_error);
  CHECK_THROWS_AS(source.reader(ExpertMatrix::fc1), moe::config_error);
}

TEST_CASE("experts: 4-bit groups are repacked as they are where the storage and the scales agree", "[io]") {
  constexpr Index kWidth = 64, kHidden = 32;
  const test::TemporaryFolder folder;
  moe::io::SafetensorsWriter writer;
  // Codes -3 .. 3: of a column of these, rounding anew would choose a finer scale and lose bits.
  std::vector<std::uint32_t> words;
  for (std::uint32_t w = 0; w < 2 * kWidth * kHidden / 8; ++w) {
    std::uint32_t word = 0;
    for (std::uint32_t n = 0; n < 8; ++n) word |= (5 + (w * 31 + n * 11 + w * n) % 7) << (4 * n);
    words.push_back(word);
  }
  std::vector<float> scales;
  for (Index g = 0; g < 2 * kWidth * kHidden / 32; ++g) scales.push_back(0.01f * static_cast<float>(g + 1));
  ExpertLayout layout = moe::io::per_expert_glu("{expert}.", "g", "u", "d");
  const auto describe = [&](ExpertMatrix part, DType scale_dtype, Index out, Index in) {
    moe::io::MatrixLayout& matrix = layout[part];
    const std::string base = std::string("{expert}.") + moe::io::part_name(part) + "_";
    matrix = {.name = base + "packed", .encoding = moe::io::Encoding::int4, .scales = base + "scale"};
    for (Index e = 0; e < 2; ++e) {
      const auto at = static_cast<std::size_t>(e * out * in);
      writer.add(moe::io::with_number(matrix.name, "{expert}", e), DType::I32, Shape(out, in / 8),
                 words.data() + at / 8);
      writer.add_floats(moe::io::with_number(matrix.scales, "{expert}", e), scale_dtype, Shape(out, in / 32),
                        scales.data() + at / 32);
    }
  };
  describe(ExpertMatrix::gate, DType::BF16, kHidden, kWidth);
  describe(ExpertMatrix::up, DType::BF16, kHidden, kWidth);
  describe(ExpertMatrix::down, DType::BF16, kWidth, kHidden);
  const ExpertLayout bf16 = layout;
  describe(ExpertMatrix::fc1, DType::F16, kHidden, kWidth);
  describe(ExpertMatrix::fc2, DType::F16, kWidth, kHidden);
  writer.save(folder.path() / "model.safetensors");
  const Checkpoint c(folder.path());

  const auto all_equal = [](const moe::Buffer<float>& a, const moe::Buffer<float>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  };
  const CheckpointExperts source(c, bf16, 2, kWidth, kHidden);
  moe::Glu<moe::Silu, moe::Int4Groups<moe::BFloat16>> bank(
      {.experts = 2, .width = kWidth, .hidden = kHidden});
  moe::io::load_experts(bank, source);
  // Another type of scale: through float, rounded.
  moe::Glu<moe::Silu, moe::Int4Groups<moe::Float16>> other(
      {.experts = 2, .width = kWidth, .hidden = kHidden});
  moe::io::load_experts(other, source);
  for (Index e = 0; e < 2; ++e) {
    moe::Buffer<float> got[3], rounded[3], want[3];
    for (Index m = 0; m < 3; ++m) {
      for (auto* const b : {&got[m], &rounded[m], &want[m]}) b->resize(kWidth * kHidden);
      const bool down = m == 2;
      source.read(e, static_cast<ExpertMatrix>(m),
                  moe::MatrixView<float>(want[m].data(), down ? kWidth : kHidden, down ? kHidden : kWidth));
    }
    const auto unpack = [&](const auto& from, moe::Buffer<float>* to) {
      from.unpack(e, moe::MatrixView<float>(to[0].data(), kHidden, kWidth),
                  moe::MatrixView<float>(to[1].data(), kHidden, kWidth),
                  moe::MatrixView<float>(to[2].data(), kWidth, kHidden));
    };
    unpack(bank, got);
    unpack(other, rounded);
    for (Index m = 0; m < 3; ++m) {
      CHECK(all_equal(got[m], want[m]));
      CHECK_FALSE(all_equal(rounded[m], want[m]));
    }
  }

  for (const ExpertMatrix p : {ExpertMatrix::gate, ExpertMatrix::up, ExpertMatrix::down}) layout[p] = {};
  const CheckpointExperts plain(c, layout, 2, kWidth, kHidden);
  moe::Mlp<moe::Relu, moe::Int4Groups<moe::Float16>> mlp({.experts = 2, .width = kWidth, .hidden = kHidden});
  moe::io::load_experts(mlp, plain);
  moe::Buffer<float> fc1(kWidth * kHidden), fc2(kWidth * kHidden), want(kWidth * kHidden);
  mlp.unpack(1, moe::MatrixView<float>(fc1.data(), kHidden, kWidth),
             moe::MatrixView<float>(fc2.data(), kWidth, kHidden));
  plain.read(1, ExpertMatrix::fc1, moe::MatrixView<float>(want.data(), kHidden, kWidth));
  CHECK(all_equal(fc1, want));
  plain.read(1, ExpertMatrix::fc2, moe::MatrixView<float>(want.data(), kWidth, kHidden));
  CHECK(all_equal(fc2, want));

  CHECK_FALSE(
      moe::io::MatrixReader(c, {.name = "0.gate_scale"}, 0, kHidden, kWidth / 32).groups(0).has_value());
}

TEST_CASE("experts: scales that are not finite are refused when groups are repacked", "[io]") {
  const test::TemporaryFolder folder;
  moe::io::SafetensorsWriter writer;
  const std::vector<std::uint32_t> words(32 * 4, 0x99999999u);
  std::vector<float> scales(32, 1);
  writer.add("p", DType::I32, Shape(1, 32, 4), words.data());
  writer.add_floats("s", DType::BF16, Shape(1, 32, 1), scales.data());
  scales[7] = std::numeric_limits<float>::quiet_NaN();
  writer.add_floats("nan", DType::BF16, Shape(1, 32, 1), scales.data());
  writer.save(folder.path() / "model.safetensors");
  const Checkpoint c(folder.path());
  ExpertLayout layout;
  layout[ExpertMatrix::fc1] = {.name = "p", .encoding = moe::io::Encoding::int4, .scales = "s"};
  layout[ExpertMatrix::fc2] = {.name = "p", .encoding = moe::io::Encoding::int4, .scales = "nan"};
  const CheckpointExperts source(c, layout, 1, 32, 32);
  moe::Mlp<moe::Relu, moe::Int4Groups<>> bank({.experts = 1, .width = 32, .hidden = 32});
  CHECK(test::message_of<moe::numeric_error>([&] { moe::io::load_experts(bank, source); }) ==
        "moe: expert 0 of the checkpoint: moe: fc2: expected finite scales, got another in row 7, group 0");
}

TEST_CASE("experts: a weight that a storage cannot round is named with its expert", "[io]") {
  const test::TemporaryFolder folder;
  moe::io::SafetensorsWriter writer;
  std::vector<float> values(2 * 3 * 3, 1);
  writer.add_floats("good", DType::F32, Shape(2, 3, 3), values.data());
  values[9 + 5] = std::numeric_limits<float>::infinity();
  writer.add_floats("bad", DType::F32, Shape(2, 3, 3), values.data());
  writer.save(folder.path() / "model.safetensors");
  const Checkpoint c(folder.path());
  ExpertLayout layout;
  layout[ExpertMatrix::fc1].name = "good";
  layout[ExpertMatrix::fc2].name = "bad";
  const CheckpointExperts source(c, layout, 2, 3, 3);
  moe::Mlp<moe::Relu, moe::Int4Groups<>> bank({.experts = 2, .width = 3, .hidden = 3});
  Index loaded = 0;
  const std::string what = test::message_of<moe::numeric_error>(
      [&] { moe::io::load_experts(bank, source, [&](Index done, Index) noexcept { loaded = done; }); });
  CHECK(loaded == 1);
  CHECK(what.rfind("moe: expert 1 of the checkpoint: moe: fc2: expected numbers of magnitude", 0) == 0);
  CHECK(what.find("in row 1, column 2") != std::string::npos);
}

TEST_CASE("experts: int8 with one scale a row, or one for all, is repacked as it is", "[io]") {
  constexpr Index kWidth = 40, kHidden = 6;
  const test::TemporaryFolder folder;
  moe::io::SafetensorsWriter writer;
  std::vector<std::int8_t> codes;  // gate and up by turns [2 F, D], down [D, F]; some rows far from 127
  for (Index i = 0; i < 3 * kWidth * kHidden; ++i) {
    codes.push_back(static_cast<std::int8_t>(i / kWidth % 3 == 0 ? i % 37 - 18 : i * 29 % 256 - 128));
  }
  std::vector<float> scales, one = {0.03f};
  for (Index o = 0; o < 2 * kHidden; ++o) scales.push_back(0.01f * static_cast<float>(o + 1));
  writer.add("gate_up", DType::I8, Shape(2 * kHidden, kWidth), codes.data());
  writer.add_floats("gate_up_scale", DType::F32, Shape(2 * kHidden, 1), scales.data());
  writer.add("down", DType::I8, Shape(kWidth, kHidden), codes.data() + 2 * kWidth * kHidden);
  writer.add_floats("down_scale", DType::F32, Shape(1), one.data());
  scales[5] = 1e30f;
  writer.add_floats("large", DType::F32, Shape(2 * kHidden, 1), scales.data());
  writer.save(folder.path() / "model.safetensors");
  const Checkpoint c(folder.path());
  const auto source = [&](const char* first_scales) {
    ExpertLayout layout;
    const auto matrix = [](const char* name, moe::io::Outputs outputs, const char* of, Index rows) {
      moe::io::MatrixLayout m{.name = name, .outputs = outputs, .stacked = true};
      m.encoding = moe::io::Encoding::scaled;
      m.scales = of;
      m.scale_rows = rows;
      return m;
    };
    layout[ExpertMatrix::gate] = matrix("gate_up", moe::io::Outputs::even, first_scales, 1);
    layout[ExpertMatrix::up] = matrix("gate_up", moe::io::Outputs::odd, first_scales, 1);
    layout[ExpertMatrix::down] = matrix("down", moe::io::Outputs::all, "down_scale", 0);
    return CheckpointExperts(c, layout, 1, kWidth, kHidden);
  };
  moe::Glu<moe::Silu, moe::Int8Channels> bank({.experts = 1, .width = kWidth, .hidden = kHidden});
  moe::io::load_experts(bank, source("gate_up_scale"));
  std::vector<float> got[3], want[3];
  for (Index m = 0; m < 3; ++m) {
    for (auto* const v : {&got[m], &want[m]}) v->resize(static_cast<std::size_t>(kWidth * kHidden));
    source("gate_up_scale")
        .read(0, static_cast<ExpertMatrix>(m),
              m == 2 ? moe::MatrixView<float>(want[m].data(), kWidth, kHidden)
                     : moe::MatrixView<float>(want[m].data(), kHidden, kWidth));
  }
  bank.unpack(0, moe::MatrixView<float>(got[0].data(), kHidden, kWidth),
              moe::MatrixView<float>(got[1].data(), kHidden, kWidth),
              moe::MatrixView<float>(got[2].data(), kWidth, kHidden));
  for (Index m = 0; m < 3; ++m) CHECK(got[m] == want[m]);
  CHECK(test::message_of<moe::numeric_error>([&] { moe::io::load_experts(bank, source("large")); }) ==
        "moe: expert 0 of the checkpoint: moe: up: expected scales of magnitude up to 9.9815e+27, got 1e+30 "
        "in "
        "row 2");
}
