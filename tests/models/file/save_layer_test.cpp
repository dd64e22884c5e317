// save_parameters(): what was trained comes back bit for bit, what was not is the input's bytes.
#include "moe/models/file/save_layer.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "io/file/temporary_folder.hpp"
#include "models/fixture.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

using moe::models::AnyLayer;
using moe::models::save_parameters;
using test::Golden;
using test::Index;
using Names = std::vector<std::string>;

namespace {

using Values = std::vector<std::pair<std::string, std::vector<float>>>;

/// Parameters by name, row by row.
Values values_of(AnyLayer& layer) {
  Values all;
  layer.visit_parameters([&](const moe::Parameter<float>& p) {
    std::vector<float> v(static_cast<std::size_t>(p.value.size()));
    p.value.copy_to(moe::MatrixView<float>(v.data(), p.value.rows, p.value.cols));
    all.emplace_back(p.name, v);
  });
  return all;
}

bool same_bytes(const moe::io::Tensor& a, const moe::io::Tensor& b) {
  return a.dtype == b.dtype && a.shape == b.shape && a.bytes == b.bytes &&
         std::memcmp(a.data, b.data, static_cast<std::size_t>(a.bytes)) == 0;
}

/// One step of gradient descent on sum(y * dy).
void train(const Golden& golden, AnyLayer& layer, moe::models::Trained what) {
  std::vector<float> y(golden.y.size());
  moe::LayerOutput<float> out(moe::MatrixView<float>(y.data(), golden.tokens, golden.width));
  moe::Workspace workspace;
  auto tape = layer.make_tape();
  auto gradients = layer.make_gradients();
  layer.forward_train(golden.input(), out, tape, workspace);
  AnyLayer::Backward back{.dy = moe::ConstMatrixView<float>(golden.dy.data(), golden.tokens, golden.width)};
  back.gradients = &gradients;
  back.trained = what;
  layer.backward(tape, back, workspace);
  layer.visit_storage(gradients, [](const char*, float* w, float* g, Index n) {
    for (Index i = 0; i < n; ++i) w[i] -= 0.5f * g[i];
  });
}

/// Saved into a folder of its own with the golden's config, and what that folder's tensors are.
struct Saved {
  test::TemporaryFolder folder;
  Names changed;

  Saved(const Golden& golden, AnyLayer& layer) {
    std::filesystem::copy(golden.folder / "config.json", folder.path() / "config.json");
    changed = save_parameters(golden.folder, golden.layer, layer, folder.path() / "model.safetensors");
  }
  moe::io::Checkpoint checkpoint() const { return moe::io::Checkpoint(folder.path()); }
};

/// How many of the input's tensors the saved file holds with the same bytes.
Index unchanged(const Golden& golden, const Saved& saved) {
  const auto file = saved.checkpoint();
  Index n = 0;
  for (const moe::io::Tensor* const t : golden.model.tensors()) n += same_bytes(*t, file.at(t->name)) ? 1 : 0;
  return n;
}

}  // namespace

TEST_CASE("a trained router is saved under its name, everything else as it was", "[models]") {
  for (const auto& [name, tensor] : {std::pair("mixtral", "model.layers.0.block_sparse_moe.gate.weight"),
                                     std::pair("deepseek_v3", "model.layers.1.mlp.gate.weight")}) {
    CAPTURE(name);
    const Golden golden(name);
    AnyLayer layer = golden.load();
    const Values before = values_of(layer);
    train(golden, layer, {.experts = false, .shared = false, .frame = false});
    const Values trained = values_of(layer);
    REQUIRE(trained.front().first == "gate.weight");
    CHECK(trained.front().second != before.front().second);

    const Saved saved(golden, layer);
    CHECK(saved.changed == Names{tensor});
    CHECK(unchanged(golden, saved) == golden.model.size() - 1);
    CHECK(saved.checkpoint().size() == golden.model.size());
    CHECK(test::floats(saved.checkpoint().at(tensor)) == trained.front().second);
    AnyLayer loaded = moe::models::load_layer(saved.folder.path(), golden.layer);
    CHECK(values_of(loaded) == trained);
  }
}

TEST_CASE("what lies turned, as a row of another tensor, or behind other experts is saved there",
          "[models]") {
  const Golden golden("ernie4_5_vl_moe_2");  // the experts of pictures
  AnyLayer layer = golden.load();
  train(golden, layer, {});
  layer.visit_state([](const char*, double* values, Index n) {
    for (Index i = 0; i < n; ++i) values[i] += static_cast<double>(i);
  });
  const Saved saved(golden, layer);
  const std::string block = "model.layers.1.mlp.";
  const auto changed = [&](const std::string& tail) {
    return std::find(saved.changed.begin(), saved.changed.end(), block + tail) != saved.changed.end();
  };
  CHECK((changed("gate.weight_1") && changed("moe_statics.e_score_correction_bias")));
  CHECK(!changed("gate.weight"));
  for (const std::string& name : saved.changed) {  // experts 6 to 11 are theirs
    const std::size_t at = name.find("experts.");
    if (at != std::string::npos) CHECK(std::atoi(name.c_str() + at + 8) >= 6);
  }
  AnyLayer loaded = moe::models::load_layer(saved.folder.path(), golden.layer);
  CHECK(values_of(loaded) == values_of(layer));
  const auto before = test::floats(golden.model.at(block + "moe_statics.e_score_correction_bias")),
             after = test::floats(saved.checkpoint().at(block + "moe_statics.e_score_correction_bias"));
  CHECK(std::equal(before.begin(), before.begin() + 6, after.begin()));
  CHECK(after[7] == before[7] + 1);
}

TEST_CASE("trained experts are saved where each matrix has a tensor", "[models]") {
  for (const char* const name : {"mixtral", "deepseek_v3", "qwen2_moe", "switch_transformers"}) {
    CAPTURE(name);
    const Golden golden(name);
    AnyLayer layer = golden.load();
    train(golden, layer, {});
    const Saved saved(golden, layer);
    CHECK(saved.changed.size() > 2);
    CHECK(unchanged(golden, saved) == golden.model.size() - static_cast<Index>(saved.changed.size()));
    AnyLayer loaded = moe::models::load_layer(saved.folder.path(), golden.layer);
    CHECK(values_of(loaded) == values_of(layer));
  }
  for (const char* const name : {"qwen3_vl_moe", "dbrx", "deepseek_v3_3", "gpt_oss_2"}) {
    CAPTURE(name);
    const Golden golden(name);
    AnyLayer layer = golden.load();
    train(golden, layer, {.router = false});
    const std::string message = test::message_of<moe::config_error>([&] { Saved(golden, layer); });
    CHECK(message.find("parameter experts.") != std::string::npos);
  }
}

TEST_CASE("experts in another storage stay as the file has them", "[models]") {
  const Golden golden("qwen3_moe");
  AnyLayer layer = golden.load({.storage = moe::models::StorageKind::int8});
  train(golden, layer, {});
  const Saved saved(golden, layer);
  CHECK(saved.changed == Names{"model.layers.0.mlp.gate.weight"});
  CHECK(unchanged(golden, saved) == golden.model.size() - 1);
}

TEST_CASE("a moved correction bias is saved", "[models]") {
  const Golden golden("deepseek_v3");
  AnyLayer layer = golden.load();
  std::vector<float> moved;
  layer.visit_state([&](const char*, double* values, Index n) {
    for (Index i = 0; i < n; ++i) moved.push_back(static_cast<float>(values[i] += 0.25));
  });
  const Saved saved(golden, layer);
  const std::string name = "model.layers.1.mlp.gate.e_score_correction_bias";
  CHECK(saved.changed == Names{name});
  CHECK(test::floats(saved.checkpoint().at(name)) == moved);
}

TEST_CASE("an untrained layer of every golden folder is saved byte for byte", "[models]") {
  Index folders = 0;
  for (const std::string& name : test::golden_folders()) {
    if (name == "nllb_moe_2" || name == "nllb_moe_3") continue;  // refused, see docs/models.md
    CAPTURE(name);
    const Golden golden(name);
    AnyLayer layer = golden.load();
    const Saved saved(golden, layer);
    CHECK(saved.changed.empty());
    const auto file = saved.checkpoint();
    CHECK(file.metadata() == moe::io::SafetensorsFile::Metadata{{"format", "pt"}});
    for (const moe::io::Tensor* const t : file.tensors()) CHECK(same_bytes(*t, golden.model.at(t->name)));
    AnyLayer loaded = moe::models::load_layer(saved.folder.path(), golden.layer);
    CHECK(values_of(loaded) == values_of(layer));
    ++folders;
  }
  CHECK(folders > 80);
}

TEST_CASE("of a model in shards only the layer's block is saved", "[models]") {
  const auto folder = test::golden_root() / "save_pretrained_qwen3_moe";
  const test::TemporaryFolder to;
  AnyLayer layer = moe::models::load_layer(folder, 1);
  CHECK(save_parameters(folder, 1, layer, to.path() / "out.safetensors").empty());
  const moe::io::Checkpoint saved(to.path() / "out.safetensors");
  CHECK(saved.size() == 6 * 3 + 1);
  for (const moe::io::Tensor* const t : saved.tensors()) CHECK(t->name.find("layers.1.mlp.") == 6);
  CHECK(test::message_of<moe::config_error>([&] {
          save_parameters(folder, 0, layer, to.path() / "other.safetensors");
        }) == "moe: layer: expected layer 0 of qwen3_moe, got layer 1 of qwen3_moe");
  CHECK(to.files() == 1);
}
