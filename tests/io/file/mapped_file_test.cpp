#include "moe/io/file/mapped_file.hpp"

#include <cstring>
#include <utility>

#include "io/file/temporary_folder.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

using moe::io::MappedFile;

namespace {
std::string text_of(const MappedFile& file) {
  return std::string(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
}
}  // namespace

TEST_CASE("mapped file: its bytes, also after moves and after their pages were released", "[io]") {
  const test::TemporaryFolder folder;
  std::string content(100000, 'x');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i % 251);
  MappedFile file(folder.write("a", content));
  CHECK(text_of(file) == content);
  CHECK(file.path() == folder.path() / "a");
  const std::byte* const data = file.bytes().data();
  file.release(data + 5000, 50000);
  file.release(data, 0);
  file.release(data, 100001);  // not of this map: nothing happens
  CHECK(text_of(file) == content);

  MappedFile moved(std::move(file));
  CHECK(text_of(moved) == content);
  CHECK(moved.bytes().data() == data);
  MappedFile other(folder.write("b", "short"));
  other = std::move(moved);
  CHECK(text_of(other) == content);
}

TEST_CASE("mapped file: an empty file has no bytes", "[io]") {
  const test::TemporaryFolder folder;
  CHECK(MappedFile(folder.write("empty", "")).bytes().empty());
}

TEST_CASE("mapped file: errors name the file and the reason", "[io]") {
  const test::TemporaryFolder folder;
  const std::string none = (folder.path() / "none").string();
  CHECK(test::message_of<moe::file_error>([&] { MappedFile file(none); }) ==
        "moe: " + moe::io::shown(none) +
            ": expected a regular file that can be read, got: No such file or directory");
  const std::string what = test::message_of<moe::file_error>([&] { MappedFile file(folder.path()); });
  CHECK(what.find("Is a directory") != std::string::npos);
  CHECK(what.find(moe::io::shown(folder.path())) != std::string::npos);
}
