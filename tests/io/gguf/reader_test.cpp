#include "moe/io/gguf/reader.hpp"

#include <string>
#include <vector>

#include "io/gguf/gguf_bytes.hpp"
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
