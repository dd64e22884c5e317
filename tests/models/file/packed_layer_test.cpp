// save_packed() and load_packed(): a layer of every storage gives the same bits again, other files are
// refused.
#include "moe/models/file/packed_layer.hpp"

#include <cstring>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "io/file/temporary_folder.hpp"
#include "models/fixture.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

using moe::models::AnyLayer;
using moe::models::load_packed;
using moe::models::save_packed;
using moe::models::StorageKind;
using test::Golden;
using test::Index;
using test::Ran;

namespace {

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::vector<double> state_of(AnyLayer& layer) {
  std::vector<double> all;
  layer.visit_state(
      [&](const char*, const double* values, Index n) { all.insert(all.end(), values, values + n); });
  return all;
}

/// A packed file's tensors and metadata, some of them changed, as another file.
struct Edited {
  test::TemporaryFolder folder;
  std::filesystem::path original = folder.path() / "original.safetensors", path = folder.path() / "edited";
  std::string format, layer, config;
  std::vector<moe::io::Tensor> tensors;
  moe::io::SafetensorsFile file;

  explicit Edited(const Golden& golden, StorageKind storage) : file(saved(golden, storage)) {
    format = file.metadata().at(0).second;
    layer = file.metadata().at(1).second;
    config = file.metadata().at(2).second;
    tensors.assign(file.tensors().begin(), file.tensors().end());
  }
  moe::io::Tensor& at(const std::string& name) {
    for (moe::io::Tensor& t : tensors) {
      if (t.name == name) return t;
    }
    throw std::logic_error("no tensor " + name);
  }
  template <class Error>
  std::string refused() const {
    moe::io::SafetensorsWriter writer;
    if (!format.empty()) writer.add_metadata("format", format);
    if (!layer.empty()) writer.add_metadata("layer", layer);
    if (!config.empty()) writer.add_metadata("config", config);
    for (const moe::io::Tensor& t : tensors) writer.add(t.name, t.dtype, t.shape, t.data);
    writer.save(path);
    const std::string message = test::message_of<Error>([&] { static_cast<void>(load_packed(path)); });
    CHECK(message.find("moe: " + moe::io::shown(path) + ": ") == 0);
    return message;
  }

 private:
  moe::io::SafetensorsFile saved(const Golden& golden, StorageKind storage) const {
    AnyLayer layer_of_golden = golden.load({.storage = storage});
    save_packed(golden.folder, layer_of_golden, original);
    return moe::io::SafetensorsFile(original);
  }
};

}  // namespace

TEST_CASE("a packed layer of every storage gives the same bits again", "[models]") {
  // State, biases, a latent space, identity experts, constant experts, capacity, a shared gate, a bias of the
  // sum, experts without a gate, a table of token ids.
  for (const char* const name : {"deepseek_v3", "gpt_oss", "kimi_k3", "longcat_flash", "moepp",
                                 "switch_transformers", "qwen2_moe", "jetmoe", "nemotron_h", "deepseek_v4"}) {
    const Golden golden(name);
    for (const StorageKind storage : {StorageKind::float32, StorageKind::bfloat16, StorageKind::int8,
                                      StorageKind::int4, StorageKind::int8_channels}) {
      INFO(name << " as storage " << static_cast<int>(storage));
      AnyLayer layer = golden.load({.storage = storage});
      layer.visit_parameters([](const moe::Parameter<float>& p) { p.value(0, 0) += 0.125f; });  // trained
      layer.visit_state([](const char*, double* values, Index) { values[0] += 1e-12; });        // no float
      const test::TemporaryFolder to;
      save_packed(golden.folder, layer, to.path() / "layer");
      AnyLayer again = load_packed(to.path() / "layer");
      CHECK(again.spec().model == layer.spec().model);
      CHECK(again.spec().layer == golden.layer);
      CHECK(again.bytes() == layer.bytes());
      CHECK(state_of(again) == state_of(layer));
      const Ran want(layer, golden.input()), got(again, golden.input());
      CHECK(same_bits(want.y, got.y));
      CHECK(want.y != std::vector<float>(want.y.size()));
      AnyLayer plain = golden.load({.storage = storage});
      CHECK_FALSE(same_bits(want.y, Ran(plain, golden.input()).y));  // the change is in the file
    }
  }
}

TEST_CASE("a file that is no packed layer is refused with what is wrong", "[models]") {
  using Change = std::function<void(Edited&)>;
  const Golden golden("deepseek_v3");
  const std::string down = "experts.down.int8_groups_bfloat16";
  const std::pair<std::string, Change> cases[] = {
      {": expected a packed layer (metadata \"format\": \"moe packed layer 1\"), got \"pt\"",
       [](Edited& f) { f.format = "pt"; }},
      {"\"moe packed layer 1\"), got none", [](Edited& f) { f.format.clear(); }},
      {": expected metadata \"config\", got none", [](Edited& f) { f.config.clear(); }},
      {": expected metadata \"layer\" to be a number, got \"1x\"", [](Edited& f) { f.layer = "1x"; }},
      {": config: expected JSON", [](Edited& f) { f.config = "{"; }},
      {": expected a tensor \"gate.weight\", got none", [](Edited& f) { f.at("gate.weight").name = "gate"; }},
      {"tensor \"gate.weight\": expected dtype F32, got I32",
       [](Edited& f) { f.at("gate.weight").dtype = moe::io::DType::I32; }},
      {"tensor \"gate.weight\": expected shape ",
       [](Edited& f) { f.at("gate.weight").shape = moe::io::Shape(f.at("gate.weight").bytes / 4); }},
      {"tensor \"" + down + "\": expected shape [",
       [&](Edited& f) { f.at(down).shape = moe::io::Shape(f.at(down).bytes / 2, 2); }},
      {"tensor \"extra\": expected a part of layer 1 of deepseek_v3, got a tensor that it does not have",
       [](Edited& f) { f.tensors.emplace_back(f.tensors.front()).name = "extra"; }},
      // A config for which a loader would allocate more than the file can fill.
      {": expected at least ",
       [](Edited& f) { f.config.insert(f.config.find("moe_intermediate_size") + 24, "9999"); }},
  };
  for (const auto& [why, change] : cases) {
    Edited file(golden, StorageKind::int8);
    change(file);
    const std::string message = file.refused<moe::format_error>();
    INFO(message);
    CHECK(message.find(why) != std::string::npos);
  }
}

TEST_CASE("a packed layer of an unknown model or with a router that is not finite is refused", "[models]") {
  const Golden golden("deepseek_v3");
  Edited unknown(golden, StorageKind::int4);
  unknown.config = "{}";
  CHECK(unknown.refused<moe::config_error>().find(": config: model_type: expected this key, got none") !=
        std::string::npos);

  Edited infinite(golden, StorageKind::int4);
  moe::io::Tensor& gate = infinite.at("gate.weight");
  std::vector<float> values = test::floats(gate);
  values[1] = std::numeric_limits<float>::infinity();
  gate.data = reinterpret_cast<const std::byte*>(values.data());
  CHECK(infinite.refused<moe::numeric_error>().find(
            "\"gate.weight\": expected finite numbers, got inf at 1") != std::string::npos);

  Edited nan(golden, StorageKind::int4);
  moe::io::Tensor& bias = nan.at("e_score_correction_bias");
  const std::vector<double> state(static_cast<std::size_t>(bias.bytes / 8),
                                  std::numeric_limits<double>::quiet_NaN());
  bias.data = reinterpret_cast<const std::byte*>(state.data());
  CHECK(nan.refused<moe::numeric_error>().find(": expected finite numbers, got nan at 0") !=
        std::string::npos);
}

TEST_CASE("a layer is packed with its own model's config, and a folder is no packed file", "[models]") {
  const Golden golden("mixtral"), other("qwen3_moe");
  const test::TemporaryFolder to;
  AnyLayer layer = golden.load();
  CHECK(test::message_of<moe::config_error>([&] { save_packed(other.folder, layer, to.path() / "layer"); }) ==
        "moe: " + moe::io::shown(other.folder) + ": expected the folder of a mixtral, got qwen3_moe");
  CHECK(to.files() == 0);
  CHECK_THROWS_AS(load_packed(golden.folder), moe::file_error);
  CHECK_THROWS_AS(load_packed(to.path() / "none"), moe::file_error);
  CHECK_THROWS_AS(load_packed(golden.folder / "model.safetensors"), moe::format_error);
}
