#include "moe/io/checkpoint.hpp"

#include <string>
#include <vector>

#include "io/file/temporary_folder.hpp"
#include "moe/io/safetensors/writer.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

using moe::io::Checkpoint;
using moe::io::DType;
using moe::io::Shape;

namespace {

void write(const std::filesystem::path& path, const std::vector<std::string>& names, float value = 1) {
  moe::io::SafetensorsWriter writer;
  for (const std::string& name : names) writer.add_floats(name, DType::F32, Shape(1), &value);
  writer.add_metadata("format", "pt");
  writer.save(path);
}

std::string index_of(const std::string& map) {
  return "{\"metadata\": {\"total_size\": 1.5}, \"weight_map\": {" + map + "}}";
}

float value_of(const moe::io::Tensor& t) {
  float value = 0;
  moe::io::read_vector(t, &value, 1);
  return value;
}

}  // namespace

TEST_CASE("checkpoint: a file, a folder with one file, an index, a folder with an index", "[io][smoke]") {
  const test::TemporaryFolder folder;
  write(folder.path() / "one.safetensors", {"b", "a"});
  write(folder.path() / "two.safetensors", {"c", "a", "extra"}, 2);
  const Checkpoint single(folder.path() / "one.safetensors");
  CHECK(single.size() == 2);
  CHECK(single.files() == 1);
  CHECK(single.metadata() == moe::io::SafetensorsFile::Metadata{{"format", "pt"}});
  CHECK(single.tensors()[0]->name == "a");

  const std::string map =
      "\"b\": \"one.safetensors\", \"a\": \"two.safetensors\", \"c\": \"two.safetensors\"";
  folder.write("model.safetensors.index.json", index_of(map));
  for (const auto& path : {folder.path(), folder.path() / "model.safetensors.index.json"}) {
    const Checkpoint sharded(path);
    CHECK(sharded.files() == 2);
    REQUIRE(sharded.size() == 3);
    CHECK(value_of(sharded.at("b")) == 1);
    CHECK(value_of(sharded.at("a")) == 2);  // where the index says, though the other file has one as well
    CHECK(sharded.find("extra") == nullptr);
    std::string names;
    for (const moe::io::Tensor* const t : sharded.tensors()) names += t->name;
    CHECK(names == "abc");
  }
  write(folder.path() / "model.safetensors", {"whole"});
  CHECK(Checkpoint(folder.path()).find("whole") != nullptr);  // before the index

  Checkpoint first(folder.path() / "one.safetensors");
  const moe::io::Tensor* const a = first.find("a");
  const Checkpoint second = std::move(first);
  CHECK(second.find("a") == a);
  CHECK(value_of(*a) == 1);
}

TEST_CASE("checkpoint: a missing tensor is named with those most like it", "[io][smoke]") {
  const test::TemporaryFolder folder;
  write(folder.path() / "model.safetensors",
        {"model.layers.0.mlp.gate.weight", "model.layers.1.mlp.gate.weight", "model.norm.weight", "lm_head",
         "model.layers.1.mlp.up_proj.weight"});
  const Checkpoint checkpoint(folder.path());
  const std::string what =
      test::message_of<moe::format_error>([&] { checkpoint.at("model.layers.2.mlp.gate.weight"); });
  CHECK(what == "moe: " + moe::io::shown(folder.path()) +
                    ": expected a tensor \"model.layers.2.mlp.gate.weight\", got none; most like it: "
                    "\"model.layers.0.mlp.gate.weight\", \"model.layers.1.mlp.gate.weight\", "
                    "\"model.layers.1.mlp.up_proj.weight\"");
  write(folder.path() / "empty.safetensors", {});
  const Checkpoint empty(folder.path() / "empty.safetensors");
  CHECK(test::message_of<moe::format_error>([&] { empty.at("a"); }).find("it has no tensors") !=
        std::string::npos);
}

TEST_CASE("checkpoint: a hostile or broken index is refused with file, tensor and reason", "[io][smoke]") {
  const test::TemporaryFolder folder;
  write(folder.path() / "one.safetensors", {"a"});
  std::filesystem::create_directory(folder.path() / "sub");
  write(folder.path() / "sub" / "two.safetensors", {"a"});
  folder.write("broken.safetensors", "12345678");
  const std::string outside = (folder.path() / "one.safetensors").string();
  struct Case {
    std::string index, says;
  };
  const std::string plain = "tensor \"a\": expected the name of a file in the same folder, got ";
  const Case cases[] = {
      {"", "expected JSON"},
      {"[]", "expected an object \"weight_map\", got none"},
      {"{}", "expected an object \"weight_map\", got none"},
      {"{\"weight_map\": 3}", "expected an object \"weight_map\", got 3"},
      {index_of("\"a\": 3"), plain + "3"},
      {index_of("\"a\": null"), plain + "null"},
      {index_of("\"a\": \"\""), plain + "\"\""},
      {index_of("\"a\": \".\""), plain + "\".\""},
      {index_of("\"a\": \"..\""), plain + "\"..\""},
      {index_of("\"a\": \"../one.safetensors\""), plain + "\"../one.safetensors\""},
      {index_of("\"a\": \"sub/two.safetensors\""), plain + "\"sub/two.safetensors\""},
      {index_of("\"a\": \"sub\\\\two.safetensors\""), plain},
      {index_of("\"a\": \"C:two.safetensors\""), plain},
      {index_of("\"a\": \"" + outside + "\""), plain},
      {index_of("\"a\": \"one.safetensors\\u0000.txt\""), plain},
      {index_of("\"a\": \"one.safetensors\\n\""), plain},
      {index_of("\"a\": \"" + std::string(300, 'n') + "\""), plain},
      {index_of("\"a\": \"one.safetensors\", \"a\": \"one.safetensors\""), "two of \"a\""},
      {index_of("\"b\": \"one.safetensors\""),
       "tensor \"b\": expected it in \"one.safetensors\", got a file without it"},
      {index_of("\"a\": \"broken.safetensors\""), "broken.safetensors: expected a header"},
      {"{\"weight_map\": " + std::string(100, '[') + "}", "nested at most"},
  };
  for (const Case& c : cases) {
    folder.write("model.safetensors.index.json", c.index);
    const std::string what = test::message_of<moe::format_error>([&] { Checkpoint bad(folder.path()); });
    INFO("expected: " << c.says << "\n got: " << what);
    CHECK(what.find(c.says) != std::string::npos);
    CHECK(what.find("safetensors") != std::string::npos);
  }
  folder.write("model.safetensors.index.json", index_of("\"a\": \"none.safetensors\""));
  CHECK(test::message_of<moe::file_error>([&] { Checkpoint bad(folder.path()); }).find("none.safetensors") !=
        std::string::npos);
  folder.write("model.safetensors.index.json", index_of("\"a\": \"sub\""));  // a folder
  CHECK_THROWS_AS(Checkpoint(folder.path()), moe::file_error);
}

TEST_CASE("checkpoint: a folder without a model says what it looked for", "[io]") {
  const test::TemporaryFolder folder;
  CHECK(test::message_of<moe::file_error>([&] { Checkpoint none(folder.path()); }) ==
        "moe: " + moe::io::shown(folder.path()) +
            ": expected model.safetensors, model.safetensors.index.json or shards "
            "model-00001-of-0000N.safetensors in this folder, got none of them");
  CHECK_THROWS_AS(Checkpoint(folder.path() / "none"), moe::file_error);
}

TEST_CASE("checkpoint: shards without an index", "[io]") {
  const test::TemporaryFolder folder;
  write(folder.path() / "model-00001-of-00002.safetensors", {"b"});
  const auto missing = test::message_of<moe::file_error>([&] { Checkpoint c(folder.path()); });
  CHECK(missing.find("expected all shards of \"model-00001-of-00002.safetensors\", got no "
                     "\"model-00002-of-00002.safetensors\"") != std::string::npos);
  write(folder.path() / "model-00002-of-00002.safetensors", {"a"}, 2);
  folder.write("model-00001-of-00002.gguf", "another kind of file");
  const Checkpoint both(folder.path());
  REQUIRE(both.size() == 2);
  CHECK((both.tensors()[0]->name == "a" && value_of(both.at("a")) == 2 && value_of(both.at("b")) == 1));
  write(folder.path() / "other-00001-of-00001.safetensors", {"c"});
  CHECK(test::message_of<moe::file_error>([&] {
          Checkpoint c(folder.path());
        }).find("got \"model-00001-of-00002.safetensors\" and \"other-00001-of-00001.safetensors\"") !=
        std::string::npos);
  std::filesystem::remove(folder.path() / "other-00001-of-00001.safetensors");
  write(folder.path() / "model-00002-of-00002.safetensors", {"a", "b"}, 2);
  CHECK(test::message_of<moe::format_error>([&] {
          Checkpoint c(folder.path());
        }).find("tensor \"b\": expected it in one shard") != std::string::npos);
}

TEST_CASE("checkpoint: names under a prefix; a file that is open", "[io]") {
  const test::TemporaryFolder folder;
  write(folder.path() / "model.safetensors", {"a.b", "a.", "a", "b", "a.c", "ab"});
  const Checkpoint checkpoint(moe::io::SafetensorsFile(folder.path() / "model.safetensors"));
  std::string names;
  for (const moe::io::Tensor* const t : checkpoint.under("a.")) names += t->name + " ";
  CHECK(names == "a. a.b a.c ");
  CHECK(checkpoint.under("c").empty());
  CHECK(checkpoint.under("").size() == 6);
}

TEST_CASE("checkpoint: a tensor of a dtype that is not known is there and cannot be read", "[io]") {
  const test::TemporaryFolder folder;
  const std::string header =
      "{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
      "\"x\":{\"dtype\":\"F12\",\"shape\":[2],\"data_offsets\":[4,7]}}";
  folder.write("model.safetensors",
               test::little(header.size(), 8) + header + test::little(0x40400000, 4) + "abc");
  const Checkpoint checkpoint(folder.path());
  CHECK(value_of(checkpoint.at("w")) == 3);
  CHECK((checkpoint.at("x").dtype == DType::other && checkpoint.at("x").bytes == 3));
  CHECK(test::message_of<moe::format_error>([&] {
          value_of(checkpoint.at("x"));
        }).find("expected F32, F16, BF16 or F64, numbers by themselves, got \"F12\"") != std::string::npos);
  moe::io::SafetensorsWriter writer;
  CHECK_THROWS_AS(writer.add("x", DType::other, Shape(2), "ab"), moe::config_error);
}
