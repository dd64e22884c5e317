// load_model() and describe(): whole models from their folders.
#include "moe/models/file/load_model.hpp"

#include <sstream>
#include <string>
#include <vector>

#include "io/file/temporary_folder.hpp"
#include "models/fixture.hpp"
#include "moe/io/safetensors/writer.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/same_bits.hpp"

namespace {

using moe::Index;
using test::Ran;

/// qwen3_moe's golden block in a model of four layers, of which every second one has experts: as the layers
/// with these numbers.
void write_model(const test::TemporaryFolder& folder, const std::vector<Index>& layers) {
  const auto root = test::golden_root() / "qwen3_moe";
  const moe::io::MappedFile config(root / "config.json");
  std::string text(reinterpret_cast<const char*>(config.bytes().data()), config.bytes().size());
  const auto change = [&](const std::string& from, const std::string& to) {
    REQUIRE(text.find(from) != std::string::npos);
    text.replace(text.find(from), from.size(), to);
  };
  change("\"decoder_sparse_step\": 1", "\"decoder_sparse_step\": 2");
  change("\"num_hidden_layers\": 1", "\"num_hidden_layers\": 4");
  folder.write("config.json", text);
  const moe::io::Checkpoint model(root);
  moe::io::SafetensorsWriter writer;
  const std::string own = "layers." + std::to_string(test::layer_of(model)) + ".";
  std::vector<std::vector<float>> values;
  for (const Index layer : layers) {
    for (const moe::io::Tensor* const t : model.tensors()) {
      std::string name = t->name;
      name.replace(name.find(own), own.size(), "layers." + std::to_string(layer) + ".");
      values.push_back(test::floats(*t));
      writer.add_floats(name, t->dtype, t->shape, values.back().data());
    }
  }
  writer.save(folder.path() / "model.safetensors");
}

std::vector<float> run(const moe::models::AnyLayer& layer) {
  std::vector<float> x;
  for (Index i = 0; i < 5 * layer.width(); ++i) x.push_back(static_cast<float>((i * 37) % 23 - 11) / 7);
  return Ran(layer, moe::ConstMatrixView<float>(x.data(), 5, layer.width())).y;
}

}  // namespace

TEST_CASE("a model is its layers, loaded one by one", "[models]") {
  const auto folder = test::golden_root() / "save_pretrained_qwen3_moe";
  std::vector<Index> done, total;
  struct Told {
    std::vector<Index>&done, &total;
  } told{done, total};
  moe::models::LoadOptions options;
  options.progress = {&told, [](void* to, Index d, Index t) noexcept {
                        static_cast<Told*>(to)->done.push_back(d);
                        static_cast<Told*>(to)->total.push_back(t);
                      }};
  const moe::models::LoadedModel model = moe::models::load_model(folder, options);
  REQUIRE(model.layers() == 2);
  Index experts = 0;
  for (Index l = 0; l < 2; ++l) {
    CHECK(!model.is_dense(l));
    CHECK(test::same_bits(run(model.at(l)), run(moe::models::load_layer(folder, l))));
    experts += model.at(l).experts();
  }
  CHECK(!test::same_bits(run(model.at(0)), run(model.at(1))));
  REQUIRE(static_cast<Index>(done.size()) == experts);
  for (Index i = 0; i < experts; ++i) {
    CHECK(done[static_cast<std::size_t>(i)] == i + 1);
    CHECK(total[static_cast<std::size_t>(i)] == experts);
  }
}

TEST_CASE("dense layers of a model are named and not loaded", "[models]") {
  const test::TemporaryFolder folder;
  write_model(folder, {1, 3});
  const moe::models::LoadedModel model = moe::models::load_model(folder.path());
  REQUIRE(model.layers() == 4);
  for (Index l = 0; l < model.layers(); ++l) CHECK(model.is_dense(l) == (l % 2 == 0));
  CHECK(test::same_bits(run(model.at(1)), run(model.at(3))));
  CHECK(test::message_of<moe::config_error>([&] { model.at(2); }) ==
        "moe: layer: expected one with experts, got 2, which is dense");
  CHECK_THROWS_AS(model.is_dense(model.layers()), moe::config_error);
  CHECK_THROWS_AS(model.at(-1), moe::config_error);

  const moe::models::ModelTable table = moe::models::describe(folder.path());
  CHECK(table.model == "qwen3_moe");
  REQUIRE(static_cast<Index>(table.layers.size()) == model.layers());
  CHECK(table.layers[0].dense);
  const moe::models::LayerRow& row = table.layers[3];
  const moe::models::LayerSpec& spec = model.at(3).spec();
  CHECK(row.layer == 3);
  CHECK(row.experts == spec.experts);
  CHECK(row.k == spec.router.k);
  CHECK(row.hidden == spec.hidden);
  CHECK(row.width == spec.width);
  CHECK(row.storage == "BF16");
  CHECK(row.router == "softmax top_k");
  // E experts of 3 D F numbers and a router of E D, of 2 bytes
  CHECK(row.bytes == 2 * spec.experts * spec.width * (3 * spec.hidden + 1));
  std::ostringstream text;
  text << table;
  CHECK(text.str().find("0           dense\n") != std::string::npos);
  CHECK(text.str().find("BF16  softmax top_k\n") != std::string::npos);
}

TEST_CASE("what is missing of a model is named before anything is loaded", "[models]") {
  const test::TemporaryFolder folder;
  write_model(folder, {1});
  int told = 0;
  moe::models::LoadOptions options;
  options.progress = {&told, [](void* to, Index, Index) noexcept { ++*static_cast<int*>(to); }};
  const std::string message =
      test::message_of<moe::format_error>([&] { moe::models::load_model(folder.path(), options); });
  CHECK(message.find("layers.3.") != std::string::npos);
  CHECK(told == 0);
}

TEST_CASE("every golden model says how many layers it has, and which are dense", "[models]") {
  for (const std::string& name : test::golden_folders()) {
    CAPTURE(name);
    const auto root = test::golden_root() / name;
    if (!std::filesystem::exists(root / "config.json")) continue;
    const moe::io::Config config = moe::io::Config::from_file(root / "config.json");
    // Two drop tokens in a way that no preset computes, three do not say how many layers there are.
    if (name == "nllb_moe_2" || name == "nllb_moe_3" || name.starts_with("swin_moe")) {
      CHECK_THROWS_AS(moe::models::describe_layers(config), moe::config_error);
      continue;
    }
    const Index here = test::layer_of(moe::io::Checkpoint(root));
    const auto layers = moe::models::describe_layers(config);
    REQUIRE(static_cast<Index>(layers.size()) > here);
    if (here >= 0) CHECK(layers[static_cast<std::size_t>(here)].has_value());
  }
}
