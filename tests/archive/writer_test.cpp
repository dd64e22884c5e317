#include "moe/archive/writer.hpp"

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "moe/archive/reader.hpp"
#include "support/catch.hpp"

namespace {

using moe::Archive;
using moe::ArchiveWriter;
using moe::ConstMatrixView;
using moe::Index;

std::string text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// A new folder, gone afterwards.
struct Folder {
  std::filesystem::path path = std::filesystem::temp_directory_path() /
                               ("moe_archive_writer_test" + std::to_string(std::random_device()()));
  Folder() { std::filesystem::create_directory(path); }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string file(const char* name) const { return (path / name).string(); }
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      all.push_back(entry.path().filename().string());
    }
    return all;
  }
};

std::string content(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

TEST_CASE("archive writer: the bytes are those of the documented format", "[weights][smoke]") {
  const float f[] = {1.0f, -2.0f, 9.0f, 0.5f, -0.0f, 9.0f};  // 2 x 2, rows 3 apart
  const double d[] = {1.0};
  ArchiveWriter writer;
  writer.add_matrix("w", ConstMatrixView<float>(f, 2, 2, 3));
  writer.add_matrix("bias", ConstMatrixView<double>(d, 1, 1));
  const std::string expected(
      "MOEPARAM\x01\0\0\0\x02\0\0\0\0\0\0\0"
      "\x01\0\0\0w\x01\0\0\0\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0"
      "\0\0\x80\x3f\0\0\0\xc0\0\0\0\x3f\0\0\0\x80"
      "\x04\0\0\0bias\x02\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0"
      "\0\0\0\0\0\0\xf0\x3f",
      20 + 25 + 16 + 28 + 8);
  CHECK(text(writer.bytes()) == expected);
}

TEST_CASE("archive writer: an empty archive is an archive", "[weights]") {
  CHECK(Archive::from_bytes(ArchiveWriter().bytes()).entries() == 0);
}

TEST_CASE("archive writer: names that the format does not hold are refused", "[weights]") {
  const float f[] = {1.0f};
  const ConstMatrixView<float> m(f, 1, 1);
  ArchiveWriter writer;
  for (const std::string& name : {std::string(), std::string("a b"), std::string("a\n"),
                                  std::string("\xc3\xa9"), std::string(256, 'n')}) {
    INFO(name);
    CHECK_THROWS_AS(writer.add_matrix(name.c_str(), m), moe::config_error);
  }
  writer.add_matrix(std::string(255, 'n').c_str(), m);
  CHECK(Archive::from_bytes(writer.bytes()).entries() == 1);  // the refused ones left nothing behind
  writer.add_matrix(std::string(255, 'n').c_str(), m);
  CHECK_THROWS_AS(writer.bytes(), moe::format_error);
}

TEST_CASE("archive writer: a file is replaced whole or not at all", "[weights]") {
  const Folder folder;
  const float f[] = {1.0f, 2.0f};
  ArchiveWriter writer;
  writer.add_matrix("w", ConstMatrixView<float>(f, 1, 2));
  const std::string path = folder.file("model.moe");
  writer.save(path.c_str());
  CHECK(content(path) == text(writer.bytes()));
  CHECK(folder.names() == std::vector<std::string>{"model.moe"});

  ArchiveWriter other;
  other.add_matrix("v", ConstMatrixView<float>(f, 2, 1));
  other.save(path.c_str());
  CHECK(content(path) == text(other.bytes()));
  CHECK(folder.names() == std::vector<std::string>{"model.moe"});

  SECTION("a bad archive does not touch it") {
    other.add_matrix("v", ConstMatrixView<float>(f, 2, 1));
    CHECK_THROWS_AS(other.save(path.c_str()), moe::format_error);
    CHECK(Archive::from_file(path.c_str()).contains("v"));
    CHECK(folder.names().size() == 1);
  }
  SECTION("a temporary file of somebody else stays") {
    std::ofstream(path + ".part0") << "theirs";
    writer.save(path.c_str());
    CHECK(content(path) == text(writer.bytes()));
    CHECK(content(path + ".part0") == "theirs");
    CHECK(folder.names().size() == 2);
  }
  SECTION("a path that cannot be replaced leaves no temporary file") {
    const std::string directory = folder.file("directory");
    std::filesystem::create_directory(directory);
    std::ofstream(directory + "/inside") << "kept";
    CHECK_THROWS_AS(writer.save(directory.c_str()), moe::file_error);
    CHECK(content(directory + "/inside") == "kept");
    CHECK(folder.names().size() == 2);
  }
  SECTION("a folder that does not exist") {
    CHECK_THROWS_AS(writer.save(folder.file("missing/model.moe").c_str()), moe::file_error);
    CHECK(folder.names().size() == 1);
  }
}
