// Layers of GGUF files that the `gguf` package wrote (tests/golden/make_gguf_models.py), against the folders
// that their tensors are from; and what is refused of a file.
#include "moe/models/file/gguf_layer.hpp"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "io/gguf/gguf_bytes.hpp"
#include "models/fixture.hpp"
#include "moe/models/file/load_model.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/same_bits.hpp"

namespace {

using moe::Index;
using test::GgufBytes;
using test::little;
using test::Ran;

std::vector<float> run(const moe::models::AnyLayer& layer) {
  std::vector<float> x;
  for (Index i = 0; i < 5 * layer.width(); ++i) x.push_back(static_cast<float>((i * 37) % 23 - 11) / 7);
  return Ran(layer, moe::ConstMatrixView<float>(x.data(), 5, layer.width())).y;
}

std::string floats(Index n, int seed) {
  std::string out;
  for (Index i = 0; i < n; ++i) {
    const float value = static_cast<float>((i * 29 + seed) % 17 - 8) / 16;
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    out += little(bits, 4);
  }
  return out;
}

constexpr Index kD = 4, kF = 3, kE = 3;

/// Two layers of qwen3moe, the second with experts. `change` may add to it; `set`: keys of other values;
/// `lost`: a tensor that is not there.
GgufBytes qwen(const std::function<void(GgufBytes&)>& change = {}, std::uint64_t experts = kE,
               const std::string& arch = "qwen3moe", std::map<std::string, std::uint64_t> set = {},
               const std::string& lost = "") {
  GgufBytes b;
  b.value("general.architecture", 8, GgufBytes::text(arch));
  for (const auto& [key, value] : std::map<std::string, std::uint64_t>{{"block_count", 2},
                                                                       {"embedding_length", kD},
                                                                       {"expert_count", experts},
                                                                       {"expert_used_count", 2}}) {
    set.try_emplace(key, value);
  }
  for (const auto& [key, value] : set) b.value(arch + "." + key, 4, little(value, 4));
  const auto tensor = [&](const std::string& name, std::initializer_list<std::uint64_t> extents, Index n,
                          int seed) {
    if (name != lost) b.tensor(name, extents, 0, b.data(floats(n, seed)));
  };
  tensor("blk.0.ffn_up.weight", {kD, kF}, kD * kF, 1);
  tensor("blk.1.ffn_norm.weight", {kD}, kD, 1);
  tensor("blk.1.ffn_gate_inp.weight", {kD, kE}, kE * kD, 2);
  tensor("blk.1.ffn_gate_exps.weight", {kD, kF, kE}, kE * kD * kF, 3);
  tensor("blk.1.ffn_up_exps.weight", {kD, kF, kE}, kE * kD * kF, 4);
  tensor("blk.1.ffn_down_exps.weight", {kF, kD, kE}, kE * kD * kF, 5);
  if (change) change(b);
  return b;
}

/// The message of the error of loading the second layer.
template <class Error>
std::string refused(const GgufBytes& bytes, Index layer = 1) {
  const std::vector<std::byte> exact = test::exact_bytes(bytes.all());
  return test::message_of<Error>([&] {
    const auto file = moe::io::GgufFile::from_bytes(exact, "f");
    moe::models::load_layer(file, layer);
  });
}

}  // namespace

TEST_CASE("a layer of a GGUF file has the bits of the folder that its tensors are from", "[models][gguf]") {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(test::golden_root() / "gguf")) {
    const std::string name = entry.path().stem().string();
    CAPTURE(name);
    const std::filesystem::path folder = test::golden_root() / name;
    const Index layer = test::layer_of(moe::io::Checkpoint(folder));
    const auto from_folder = moe::models::load_layer(folder, layer);
    const auto from_file = moe::models::load_layer(entry.path(), layer);
    CHECK(from_file.spec().model.substr(0, 7) == from_folder.spec().model.substr(0, 7));
    CHECK(from_file.experts() == from_folder.experts());
    CHECK(test::same_bits(run(from_file), run(from_folder)));
    ++files;
  }
  CHECK(files == 25);
}

TEST_CASE("a GGUF file's layers are listed and loaded, dense ones named", "[models][gguf]") {
  const std::vector<std::byte> bytes = test::exact_bytes(qwen().all());
  const auto file = moe::io::GgufFile::from_bytes(bytes, "f");
  const moe::models::ModelTable table = moe::models::describe(file);
  REQUIRE(table.layers.size() == 2);
  CHECK(table.model == "qwen3_moe");
  CHECK(table.layers[0].dense);
  CHECK(table.layers[1].storage == "F32");
  CHECK(table.layers[1].experts == kE);
  CHECK(table.layers[1].bytes == 4 * (kE * kD + 3 * kE * kD * kF));
  const moe::models::LoadedModel model = moe::models::load_model(file);
  CHECK(model.is_dense(0));
  CHECK(test::same_bits(run(model.at(1)), run(moe::models::load_layer(file, 1))));
}

TEST_CASE("what a GGUF file says and no preset computes is refused by key", "[models][gguf]") {
  using moe::config_error;
  const auto with = [](const std::string& key, std::uint32_t type, const std::string& bytes) {
    return qwen([=](GgufBytes& b) { b.value("qwen3moe." + key, type, bytes); });
  };
  CHECK(refused<config_error>(with("expert_weights_norm", 7, little(0, 1))) ==
        "moe: f: \"qwen3moe.expert_weights_norm\": expected true for this architecture, got false");
  CHECK(refused<config_error>(with("expert_gating_func", 4, little(2, 4))) ==
        "moe: f: \"qwen3moe.expert_gating_func\": expected 1 (softmax) for this architecture, got 2");
  CHECK(refused<config_error>(with("expert_weights_scale", 6, little(0x40000000, 4)))
            .find("\"qwen3moe.expert_weights_scale\": expected 1 for this architecture, got 2") !=
        std::string::npos);
  CHECK(refused<config_error>(with("expert_feed_forward_length", 4, little(9, 4))) ==
        "moe: f: \"qwen3moe.expert_feed_forward_length\": expected 3 for this architecture, got 9");
  CHECK(
      refused<config_error>(qwen({}, kE, "gpt2")).find("\"general.architecture\": expected one of llama, ") !=
      std::string::npos);
  CHECK(refused<moe::models::no_layer_error>(qwen(), 2) ==
        "moe: layer: expected a value in [0, 1] (\"qwen3moe.block_count\"), got 2");
  CHECK(refused<moe::models::dense_layer_error>(qwen(), 0) ==
        "moe: f: expected a layer with experts, got layer 0, which is dense");
}

TEST_CASE("values of a GGUF file that are out of range are reported by their keys there", "[models][gguf]") {
  using moe::config_error;
  struct Case {
    const char* key;
    std::uint64_t value;
    const char* range;
  };
  for (const Case& c :
       {Case{"block_count", 0, "[1, 1048576], got 0"}, Case{"embedding_length", 0, "[1, 1048576], got 0"},
        Case{"embedding_length", 0x7FFFFFFF, "[1, 1048576], got 2147483647"},
        Case{"expert_count", 0, "[1, 1048576], got 0"}, Case{"expert_used_count", 0, "[1, 3], got 0"},
        Case{"expert_used_count", 4, "[1, 3], got 4"},
        Case{"expert_group_count", 0x7FFFFFFF, "[0, 1048576], got 2147483647"},
        Case{"expert_shared_count", 5000, "[0, 1024], got 5000"},
        Case{"leading_dense_block_count", 0x7FFFFFFF, "[0, 1048576], got 2147483647"}}) {
    const std::string message = refused<config_error>(qwen({}, kE, "qwen3moe", {{c.key, c.value}}));
    INFO(c.key << ": " << message);
    CHECK(message == "moe: f: \"qwen3moe." + std::string(c.key) + "\": expected an integer in " + c.range);
  }
}

TEST_CASE("a matrix of the experts that is missing, or too many, is named", "[models][gguf]") {
  using moe::format_error;
  CHECK(refused<format_error>(qwen({}, kE, "qwen3moe", {}, "blk.1.ffn_gate_exps.weight")) ==
        "moe: f: expected a tensor \"blk.1.ffn_gate_exps.weight\", got none");
  CHECK(refused<format_error>(qwen({}, kE, "qwen3moe", {}, "blk.1.ffn_down_exps.weight")) ==
        "moe: f: expected a tensor \"blk.1.ffn_down_exps.weight\", got none");
  CHECK(refused<format_error>(
            qwen([](GgufBytes& b) { b.tensor("blk.1.exp_probs_b.bias", {kE}, 0, b.data(floats(kE, 6))); }, kE,
                 "nemotron_h_moe")) ==
        "moe: f: tensor \"blk.1.ffn_gate_exps.weight\": expected no such tensor, because the experts of the "
        "preset nemotron_3 have no gate");
}

TEST_CASE("counts of a GGUF file that its tensors contradict are refused", "[models][gguf]") {
  using moe::config_error;
  const auto with = [](const std::string& key, std::uint64_t value) {
    return qwen([=](GgufBytes& b) { b.value("qwen3moe." + key, 4, little(value, 4)); });
  };
  CHECK(refused<config_error>(qwen({}, 5)) ==
        "moe: f: \"qwen3moe.expert_count\": expected 3 for this architecture, got 5");
  CHECK(refused<config_error>(with("expert_shared_count", 1)).find("expert_shared_count") !=
        std::string::npos);
  CHECK(refused<config_error>(with("expert_shared_feed_forward_length", 9))
            .find("expert_shared_feed_forward_length\": expected 0") != std::string::npos);
  CHECK(refused<config_error>(with("leading_dense_block_count", 2)).find("leading_dense_block_count") !=
        std::string::npos);
  CHECK(refused<moe::format_error>(with("expert_group_count", 3)).find("expert_group_used_count") !=
        std::string::npos);
}

TEST_CASE("a block that lost its router, or all its tensors, is not dense", "[models][gguf]") {
  GgufBytes b;
  b.value("general.architecture", 8, GgufBytes::text("qwen3moe"));
  b.value("qwen3moe.block_count", 4, little(2, 4)).value("qwen3moe.embedding_length", 4, little(kD, 4));
  b.value("qwen3moe.expert_count", 4, little(kE, 4)).value("qwen3moe.expert_used_count", 4, little(1, 4));
  b.tensor("blk.0.ffn_up_exps.weight", {kD, kF, kE}, 0, b.data(floats(kE * kD * kF, 4)));
  CHECK(refused<moe::format_error>(b, 0) ==
        "moe: f: expected a tensor \"blk.0.ffn_gate_inp.weight\", got none");
  CHECK(refused<moe::format_error>(b, 1) ==
        "moe: f: expected tensors \"blk.1.*\", as the number of blocks says, got none");
}

TEST_CASE("tensors of a GGUF file that go with neither metadata nor preset are refused", "[models][gguf]") {
  using moe::format_error;
  const auto with = [](const std::string& name, std::initializer_list<std::uint64_t> extents, Index numbers) {
    return qwen([&](GgufBytes& b) { b.tensor("blk.1." + name, extents, 0, b.data(floats(numbers, 6))); });
  };
  CHECK(refused<format_error>(with("ffn_up_shexp.weight", {kD, kF}, kD * kF)) ==
        "moe: f: tensor \"blk.1.ffn_up_shexp.weight\": expected no such tensor, because the preset qwen3_moe "
        "does "
        "not read it");
  CHECK(refused<format_error>(with("exp_probs_b.bias", {kE}, kE))
            .find("\"blk.1.exp_probs_b.bias\": expected no such tensor") != std::string::npos);
  CHECK(refused<format_error>(with("ffn_up.weight", {kD, kF}, kD * kF))
            .find("\"blk.1.ffn_up.weight\": expected no such tensor") != std::string::npos);
  CHECK(refused<format_error>(with("ffn_gate_exps.bias", {kF, kE}, kF * kE)) ==
        "moe: f: tensor \"blk.1.ffn_gate_exps.weight\": expected no bias beside it for the preset qwen3_moe, "
        "got one");

  const auto spoiled = [] {
    GgufBytes b;
    b.value("general.architecture", 8, GgufBytes::text("qwen3moe"));
    b.value("qwen3moe.block_count", 4, little(1, 4)).value("qwen3moe.embedding_length", 4, little(kD, 4));
    b.value("qwen3moe.expert_count", 4, little(1, 4)).value("qwen3moe.expert_used_count", 4, little(1, 4));
    b.tensor("blk.0.ffn_gate_inp.weight", {kD, 1}, 0, b.data(floats(kD - 1, 2) + little(0x7FC00000, 4)));
    b.tensor("blk.0.ffn_gate_exps.weight", {kD, kF, 1}, 0, b.data(floats(kD * kF, 3)));
    b.tensor("blk.0.ffn_up_exps.weight", {kD, kF, 1}, 0, b.data(floats(kD * kF, 4)));
    b.tensor("blk.0.ffn_down_exps.weight", {kF, kD, 1}, 0, b.data(floats(kD * kF, 5)));
    return b;
  };
  CHECK(refused<moe::numeric_error>(spoiled(), 0) ==
        "moe: f: tensor \"blk.0.ffn_gate_inp.weight\": expected finite numbers, got nan at 3");
}

namespace {

/// Blocks of Q4_K or Q6_K whose numbers are about normal, of deviation 1 / 20 or so.
std::string k_quant_blocks(Index blocks, bool four, std::uint32_t seed) {
  std::string out;
  for (Index b = 0; b < blocks; ++b) {
    std::string block;
    for (int i = 0; i < (four ? 144 : 210); ++i) {
      block += static_cast<char>((seed = seed * 1664525 + 1013904223) >> 24);
    }
    if (four) {
      block.replace(0, 4, little(0x0C00, 2) + little(0x1780, 2));  // 2^-12, and 7.5 of it for the offsets
    } else {
      block.replace(208, 2, little(0x0200, 2));
    }
    out += block;
  }
  return out;
}

/// The norm of the difference of layer 0 in `storage` from the same in float, relative to it.
double distance_in(moe::models::StorageKind storage, bool first_four, bool second_four) {
  constexpr Index kSuper = 256, kExperts = 3;
  GgufBytes b;
  b.value("general.architecture", 8, GgufBytes::text("qwen3moe"));
  b.value("qwen3moe.block_count", 4, little(1, 4));
  b.value("qwen3moe.embedding_length", 4, little(kSuper, 4));
  b.value("qwen3moe.expert_count", 4, little(kExperts, 4));
  b.value("qwen3moe.expert_used_count", 4, little(2, 4));
  b.tensor("blk.0.ffn_gate_inp.weight", {kSuper, kExperts}, 0, b.data(floats(kExperts * kSuper, 2)));
  std::uint32_t seed = 0;
  for (const char* const name : {"gate", "up", "down"}) {
    const bool four = ++seed == 3 ? second_four : first_four;
    b.tensor("blk.0.ffn_" + std::string(name) + "_exps.weight", {kSuper, kSuper, kExperts}, four ? 12 : 14,
             b.data(k_quant_blocks(kSuper * kExperts, four, seed)));
  }
  const std::vector<std::byte> exact = test::exact_bytes(b.all());
  const auto file = moe::io::GgufFile::from_bytes(exact, "f");
  const std::vector<float> want = run(moe::models::load_layer(file, 0)),
                           got = run(moe::models::load_layer(file, 0, {.storage = storage}));
  double off = 0, size = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const auto y = static_cast<double>(want[i]), d = static_cast<double>(got[i]) - y;
    off += d * d, size += y * y;
  }
  return std::sqrt(off / size);
}

}  // namespace

TEST_CASE("a layer of K-quants in their own storage differs by the rounding of its rows alone",
          "[models][gguf]") {
  using moe::models::StorageKind;
  // 8-bit codes of 32 numbers have steps of 1 / 127 of the largest; 4-bit ones of weights some 1 / 15 of
  // their range.
  CHECK(distance_in(StorageKind::q4_k, true, true) < 0.02);
  CHECK(distance_in(StorageKind::q6_k, false, false) < 0.02);
  CHECK(distance_in(StorageKind::int4, true, true) > 0.05);
  CHECK(distance_in(StorageKind::q4_k, false, false) > 0.05);
  // Files of both: one matrix of three is rounded, finely in the larger storage.
  const double as_four = distance_in(StorageKind::q4_k, true, false);
  CHECK(as_four > 0.03);
  CHECK(as_four < distance_in(StorageKind::q4_k, false, false));
  CHECK(distance_in(StorageKind::q6_k, true, false) < 0.04);
}
