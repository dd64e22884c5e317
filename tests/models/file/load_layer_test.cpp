// load_layer(): what it finds, what it refuses, and in which words.
#include "moe/models/file/load_layer.hpp"

#include <fstream>
#include <string>

#include "io/file/temporary_folder.hpp"
#include "models/fixture.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

MOE_NAMESPACE_BEGIN
namespace models::impl {
template AnyLayer load_any<float>(const LayerSource*, const LayerSpec&, OptionsRouter<float>,
                                  const LoadProgress&);
}  // namespace models::impl
MOE_NAMESPACE_END

using moe::models::load_layer;
using test::Golden;
using test::Index;
using test::Ran;

namespace {

/// The message of the error of loading `layer` from a copy of a golden folder with one file changed.
template <class Error>
std::string refused(const char* name, Index layer, const std::string& file, const std::string& from,
                    const std::string& to) {
  const Golden golden(name);
  const test::TemporaryFolder copy;
  for (const auto& entry : std::filesystem::directory_iterator(golden.folder)) {
    const moe::io::MappedFile mapped(entry.path());
    std::string text(reinterpret_cast<const char*>(mapped.bytes().data()), mapped.bytes().size());
    if (entry.path().filename() == file) {
      REQUIRE(text.find(from) != std::string::npos);
      text.replace(text.find(from), from.size(), to);
    }
    copy.write(entry.path().filename().string(), text);
  }
  return test::message_of<Error>([&] { load_layer(copy.path(), layer); });
}

}  // namespace

TEST_CASE("a folder as Transformers saves it: shards, an index, both layers", "[models]") {
  const auto folder = test::golden_root() / "save_pretrained_qwen3_moe";
  const moe::io::Checkpoint expected(folder / "expected.safetensors");
  for (Index layer = 0; layer < 2; ++layer) {
    const auto loaded = load_layer(folder, layer);
    CHECK(loaded.spec().model == "qwen3_moe");
    const std::string prefix = "layers." + std::to_string(layer) + ".";
    const auto x = test::floats(expected.at(prefix + "x")), y = test::floats(expected.at(prefix + "y"));
    const auto ids = test::integers(expected.at(prefix + "ids"));
    const Index tokens = expected.at(prefix + "x").shape[0], width = loaded.width();
    const Ran ran(loaded, moe::ConstMatrixView<float>(x.data(), tokens, width));
    for (std::size_t i = 0; i < ids.size(); ++i) {
      CHECK(!moe::is_nan(ran.weight(static_cast<Index>(i) / 2, ids[i])));
    }
    // Sums of 2 x 20 x 32 terms of size 1, 100 roundings each at most.
    for (std::size_t i = 0; i < y.size(); ++i) CHECK(std::abs(ran.y[i] - y[i]) <= 1e-4f);
  }
  CHECK_THROWS_AS(load_layer(folder, 2), moe::config_error);
}

TEST_CASE("progress is told after every expert", "[models]") {
  struct Seen {
    Index calls = 0, last = 0, total = 0;
  } seen;
  moe::models::LoadOptions options;
  options.progress = {&seen, [](void* context, Index done, Index total) noexcept {
                        auto& s = *static_cast<Seen*>(context);
                        ++s.calls;
                        s.last = done;
                        s.total = total;
                      }};
  Golden("mixtral").load(options);
  CHECK((seen.calls == 7 && seen.last == 7 && seen.total == 7));
}

TEST_CASE("what is wrong with a folder is said with file, key or tensor", "[models]") {
  CHECK(refused<moe::config_error>("mixtral", 0, "config.json", "\"mixtral\"", "\"mistral\"")
            .find("\"mistral\"") != std::string::npos);
  CHECK(refused<moe::config_error>("mixtral", 0, "config.json", "\"num_local_experts\"", "\"experts\"")
            .find("num_local_experts") != std::string::npos);
  CHECK(refused<moe::format_error>("mixtral", 0, "config.json", "\"intermediate_size\": 20",
                                   "\"intermediate_size\": 24")
            .find("experts.0.w1.weight") != std::string::npos);
  CHECK(refused<moe::format_error>("mixtral", 0, "model.safetensors", "experts.6.w3", "experts.6.w9")
            .find("experts.6.w3.weight") != std::string::npos);
  CHECK(refused<moe::format_error>("deepseek_v4_2", 0, "model.safetensors", "tid2eid", "tid2xxx")
            .find("tid2eid") != std::string::npos);
  CHECK(test::message_of<moe::file_error>([] { load_layer("no/such/folder", 0); }).find("no/such/folder") !=
        std::string::npos);
}

TEST_CASE("two frames at once are refused", "[models]") {
  moe::models::LayerSpec spec;
  spec.width = 8;
  spec.latent = 4;
  CHECK_NOTHROW(moe::models::impl::load_frame(nullptr, spec));
  spec.output_bias = true;
  CHECK(test::message_of<moe::config_error>([&] { moe::models::impl::load_frame(nullptr, spec); }) ==
        "moe: frame: expected at most one of output bias, input scale and latent projections, got more");
}

TEST_CASE("hash layers need token ids", "[models]") {
  const Golden golden("deepseek_v4_2");
  const auto layer = golden.load();
  auto in = golden.input();
  in.token_id = {};
  CHECK_THROWS_AS(Ran(layer, in), moe::config_error);
}
