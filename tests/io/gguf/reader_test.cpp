#include "moe/io/gguf/reader.hpp"

#include <string>
#include <vector>

#include "io/gguf/gguf_bytes.hpp"
#include "moe/io/gguf/decode.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

using moe::Index;
using moe::io::GgufFile;
using moe::io::Shape;
using test::GgufBytes;
using test::little;

TEST_CASE("gguf: values and tensors of versions 2 and 3", "[io][smoke]") {
  for (const std::uint32_t version : {2u, 3u}) {
    GgufBytes written = test::gguf_sample();
    written.version = version;
    const std::vector<std::byte> bytes = test::exact_bytes(written.all());
    const GgufFile file = GgufFile::from_bytes(bytes, "f");
    CHECK(file.required<Index>("a.u8") == 200);
    CHECK(file.required<Index>("a.i8") == -56);
    CHECK(file.required<Index>("a.u16") == 60000);
    CHECK(file.required<Index>("a.i16") == -5536);
    CHECK(file.required<Index>("a.u32") == 4000000000);
    CHECK(file.required<Index>("a.i32") == -294967296);
    CHECK(file.required<Index>("a.i64") == -1);
    CHECK(file.required<double>("a.f32") == 1.5);
    CHECK(file.required<double>("a.f64") == 1.5);
    CHECK(file.required<bool>("a.bool"));
    CHECK(file.required<std::string>("a.string") == "llama");
    CHECK(file.optional<Index>("a.u8").value() == 200);
    CHECK_FALSE(file.optional<Index>("a").has_value());
    CHECK(file.has("a.list"));
    CHECK_FALSE(file.has("a.lis"));
    const auto refused = [&](auto call) { return test::message_of<moe::format_error>(call); };
    CHECK(refused([&] { file.required<Index>("b"); }) == "moe: f: expected a value \"b\", got none");
    CHECK(refused([&] { file.required<Index>("a.u64"); }).find("expected an integer of 63 bits") !=
          std::string::npos);
    CHECK(refused([&] { file.required<Index>("a.f32"); }) ==
          "moe: f: value \"a.f32\": expected an integer, got a value of type f32");
    CHECK(refused([&] { file.required<double>("a.u8"); }).find("expected a float") != std::string::npos);
    CHECK(refused([&] { file.required<bool>("a.u8"); }).find("expected a bool") != std::string::npos);
    CHECK(refused([&] { file.required<std::string>("a.words"); }).find("of type array") != std::string::npos);

    REQUIRE(file.tensors().size() == 3);
    const moe::io::GgufTensor& k = file.at("k");
    CHECK(k.shape == Shape(2, 3, 4));  // row-major
    CHECK(k.bytes == 96);
    CHECK(static_cast<char>(k.data[0]) == 'k');
    CHECK(static_cast<char>(k.data[95]) == 'k');
    CHECK(file.at("q").bytes == 68);
    CHECK(file.at("other").data == nullptr);  // a type that cannot be decoded
    CHECK(file.find("none") == nullptr);
    CHECK(refused([&] { file.at("none"); }) == "moe: f: expected a tensor \"none\", got none");
  }
}

TEST_CASE("gguf: an alignment of the file's own", "[io]") {
  GgufBytes b;
  b.value("general.alignment", 4, little(8, 4));
  b.tensor("a", {2}, 0, 0).tensor("b", {2}, 0, 8);
  std::string bytes = b.all();
  bytes.append((8 - bytes.size() % 8) % 8, '\0');
  const std::vector<std::byte> exact = test::exact_bytes(bytes + "AAAAAAAABBBBBBBB");
  const GgufFile file = GgufFile::from_bytes(exact, "f");
  CHECK(static_cast<char>(file.at("a").data[0]) == 'A');
  CHECK(static_cast<char>(file.at("b").data[7]) == 'B');
}

TEST_CASE("gguf: files", "[io]") {
  const test::TemporaryFolder folder;
  GgufFile file(folder.write("m.gguf", test::gguf_sample().all()));
  const moe::io::GgufTensor* const k = file.find("k");
  const GgufFile moved = std::move(file);
  CHECK(moved.find("k") == k);
  CHECK(static_cast<char>(k->data[0]) == 'k');
  CHECK(moved.name() == moe::io::shown(folder.path() / "m.gguf"));
  CHECK_THROWS_AS(GgufFile(folder.path() / "none"), moe::file_error);
  CHECK_THROWS_AS(GgufFile(folder.write("empty", "")), moe::format_error);
}

namespace {

/// Part `number` (from 0) of `count`, with tensors of one number each.
std::string part(Index number, Index count, const std::vector<std::string>& names, Index all) {
  GgufBytes b;
  b.value("split.no", 2, little(static_cast<std::uint64_t>(number), 2));
  b.value("split.count", 2, little(static_cast<std::uint64_t>(count), 2));
  b.value("split.tensors.count", 5, little(static_cast<std::uint64_t>(all), 4));
  for (const std::string& name : names) {
    b.tensor(name, {1}, 0, b.data(little(0x40000000 + (static_cast<std::uint64_t>(number) << 16), 4)));
  }
  return b.all();
}

}  // namespace

TEST_CASE("gguf: a split file is all of its parts", "[io]") {
  const test::TemporaryFolder folder;
  const auto first = folder.write("m-00001-of-00003.gguf", part(0, 3, {}, 3));
  const auto second = folder.write("m-00002-of-00003.gguf", part(1, 3, {"c", "a"}, 3));
  const auto third = folder.write("m-00003-of-00003.gguf", part(2, 3, {"b"}, 3));
  for (const auto& path : {first, second, third}) {
    GgufFile opened(path);
    const GgufFile file = std::move(opened);
    REQUIRE(file.tensors().size() == 3);
    CHECK(file.tensors()[0].name == "a");
    CHECK(file.at("b").where() == moe::io::shown(third) + ": tensor \"b\"");
    float value = 0;
    moe::io::decode_ggml_row(file.at("b").type, file.at("b").data, 0, 1, &value);
    CHECK(value == 2.03125f);
  }
  const auto format = [&](const std::filesystem::path& path) {
    return test::message_of<moe::format_error>([&] { GgufFile file(path); });
  };
  CHECK(format(folder.write("renamed.gguf", part(1, 3, {"a"}, 3)))
            .find("expected a name that ends in -00001-of-00003.gguf, because it is a part of 3, got "
                  "\"renamed.gguf\"") != std::string::npos);
  CHECK(format(folder.write("n-00001-of-00002.gguf", part(1, 2, {"a"}, 1))).find("expected part 1 of 2") !=
        std::string::npos);
  folder.write("m-00003-of-00003.gguf", part(2, 3, {"a"}, 3));
  CHECK(format(first).find("expected it in one part, got it in") != std::string::npos);
  folder.write("m-00003-of-00003.gguf", part(2, 3, {}, 3));
  CHECK(format(first).find("expected 3 tensors in all parts together, got 2") != std::string::npos);
  std::filesystem::remove(second);
  CHECK(test::message_of<moe::file_error>([&] { GgufFile file(first); }).find("m-00002-of-00003.gguf") !=
        std::string::npos);
  const std::vector<std::byte> bytes = test::exact_bytes(part(0, 3, {}, 3));
  CHECK(
      test::message_of<moe::format_error>([&] { GgufFile::from_bytes(bytes, "f"); }) ==
      "moe: f: expected a whole file, got a part of 3; open it by its path, with the other parts beside it");
}
