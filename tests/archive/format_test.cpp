#include "moe/archive/format.hpp"

#include <cstring>
#include <string>
#include <vector>

#include "moe/archive/reader.hpp"
#include "support/catch.hpp"

namespace {

using moe::Archive;
using moe::Index;

/// Bytes written by hand, independently of ArchiveWriter.
class Bytes {
 public:
  Bytes& text(const std::string& s) {
    for (const char c : s) bytes_.push_back(static_cast<std::byte>(c));
    return *this;
  }
  Bytes& number(std::uint64_t value, int width) {
    for (int i = 0; i < width; ++i) bytes_.push_back(static_cast<std::byte>(value >> (8 * i) & 0xFF));
    return *this;
  }
  Bytes& header(std::uint64_t count, std::uint32_t version = 1, const char* magic = "MOEPARAM") {
    return text(magic).number(version, 4).number(count, 8);
  }
  Bytes& entry(const std::string& name, std::uint32_t type, std::uint64_t rows, std::uint64_t cols,
               std::size_t data_bytes) {
    number(name.size(), 4).text(name).number(type, 4).number(rows, 8).number(cols, 8);
    for (std::size_t i = 0; i < data_bytes; ++i) bytes_.push_back(static_cast<std::byte>(i));
    return *this;
  }
  const std::vector<std::byte>& all() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

/// The message of the format_error, or "" if the bytes were accepted. The bytes end where their allocation
/// ends, so that the address sanitizer sees a read beyond them.
std::string reason(const std::vector<std::byte>& bytes) {
  const std::vector<std::byte> exact(bytes.begin(), bytes.end());
  moe::Buffer<moe::impl::ArchiveEntry> entries;
  try {
    moe::impl::ArchiveScan(exact.data(), static_cast<Index>(exact.size()), entries);
  } catch (const moe::format_error& error) {
    return error.what();
  }
  return "";
}

Bytes two_entries() {
  return Bytes().header(2).entry("gate.weight", 1, 2, 3, 24).entry("bias", 2, 1, 2, 16);
}

}  // namespace

TEST_CASE("archive: bytes that follow the format are accepted", "[weights][smoke]") {
  REQUIRE(reason(two_entries().all()).empty());
  REQUIRE(reason(Bytes().header(0).all()).empty());
  REQUIRE(reason(Bytes().header(1).entry("empty", 1, 5, 0, 0).all()).empty());
  REQUIRE(reason(Bytes().header(1).entry("empty", 1, 0, 5, 0).all()).empty());
  REQUIRE(reason(Bytes().header(1).entry(std::string(255, 'n'), 2, 1, 1, 8).all()).empty());
  const Archive archive = Archive::from_bytes(two_entries().all());
  REQUIRE(archive.entries() == 2);
  REQUIRE(archive.contains("gate.weight"));
  REQUIRE(archive.contains("bias"));
  REQUIRE_FALSE(archive.contains("gate.weigh"));
  REQUIRE_FALSE(archive.contains("gate.weightx"));
}

TEST_CASE("archive: hostile bytes are rejected with entry and reason", "[weights][smoke]") {
  constexpr std::uint64_t kHuge = ~std::uint64_t{0};
  constexpr std::uint64_t kMostIndex = kHuge / 2;
  struct Case {
    Bytes bytes;
    const char* says;
  };
  const Case cases[] = {
      {Bytes(), "at least 20 bytes, got 0"},
      {Bytes().header(0, 1, "MOEPARAN"), "to be MOEPARAM"},
      {Bytes().header(0, 2), "expected version 1, got 2"},
      {Bytes().header(0, 0), "expected version 1, got 0"},
      {Bytes().header(1), "at most 0 entries in 20 bytes, got a claim of 1"},
      {Bytes().header(kHuge), "got a claim of 18446744073709551615"},
      {Bytes().header(kMostIndex).entry("a", 1, 1, 1, 4), "at most 1 entries"},
      {Bytes().header(1).entry("a", 1, 1, 1, 4).text("x"), "expected 49 bytes for 1 entries, got 50"},
      {Bytes().header(0).entry("a", 1, 1, 1, 4), "expected 20 bytes for 0 entries, got 49"},
      {Bytes().header(2).entry("a", 1, 5, 2, 40), "entry 1 (name): expected 4 bytes more, got 0"},
      {Bytes().header(2).entry("a", 1, 1, 1, 4).entry("a", 2, 1, 2, 16), "two entries a"},
      {Bytes().header(3).entry("a.b", 1, 1, 1, 4).entry("a", 1, 1, 1, 4).entry("a.b", 1, 1, 1, 4),
       "two entries a.b"},
      {Bytes().header(1).entry("", 1, 6, 1, 24), "entry 0: expected a name of 1 to 255 bytes, got 0"},
      {Bytes().header(1).entry(std::string(256, 'n'), 1, 1, 1, 4), "got 256"},
      {Bytes().header(1).number(200, 4).text(std::string(40, 'n')), "expected 200 bytes more, got 40"},
      {Bytes().header(1).number(0xFFFFFFFF, 4).text(std::string(40, 'n')), "got 4294967295"},
      {Bytes().header(1).entry("a b", 1, 1, 1, 4), "got byte 32"},
      {Bytes().header(1).entry(std::string("a\0b", 3), 1, 1, 1, 4), "got byte 0"},
      {Bytes().header(1).entry("a\x1b[2J", 1, 1, 1, 4), "got byte 27"},
      {Bytes().header(1).entry("a\xc3\xa9", 1, 1, 1, 4), "got byte 195"},
      {Bytes().header(1).entry("w", 0, 1, 1, 8), "entry 0 w: expected element type 1, 2 or 3, got 0"},
      {Bytes().header(1).entry("w", 4, 1, 1, 8), "element type 1, 2 or 3, got 4"},
      {Bytes().header(1).entry("w", 1, 1, 2, 4), "entry 0 w: expected at most 1 elements"},
      {Bytes().header(1).entry("w", 2, 1, 1, 4), "at most 0 elements"},
      {Bytes().header(1).entry("w", 1, 1, 1, 3), "at most 0 elements"},
      {Bytes().header(1).entry("w", 1, kHuge, 1, 4), "claim of 18446744073709551615 x 1"},
      {Bytes().header(1).entry("w", 1, 1, kHuge, 4), "claim of 1 x 18446744073709551615"},
      {Bytes().header(1).entry("w", 1, 0, kHuge, 4), "claim of 0 x 18446744073709551615"},
      {Bytes().header(1).entry("w", 1, kHuge, 0, 4), "claim of 18446744073709551615 x 0"},
      {Bytes().header(1).entry("w", 1, kMostIndex, kMostIndex, 4), "elements in the bytes left"},
      // Products that wrap to a small number: 2^32 x 2^32 elements, 2^62 x 4 bytes.
      {Bytes().header(1).entry("w", 1, std::uint64_t{1} << 32, std::uint64_t{1} << 32, 4), "elements in the"},
      {Bytes().header(1).entry("w", 1, std::uint64_t{1} << 62, 1, 4), "at most 1 elements"},
      {Bytes().header(1).entry("w", 2, std::uint64_t{1} << 61, 8, 8), "at most 1 elements"},
  };
  for (const Case& c : cases) {
    const std::string what = reason(c.bytes.all());
    INFO("expected: " << c.says << "\n got: " << what);
    CHECK(what.find(c.says) != std::string::npos);
    CHECK(what.rfind("moe: archive: ", 0) == 0);
    CHECK_THROWS_AS(Archive::from_bytes(c.bytes.all()), moe::format_error);
  }
}

TEST_CASE("archive: no beginning of an archive is an archive", "[weights][smoke]") {
  const std::vector<std::byte> whole = two_entries().all();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    INFO(size << " of " << whole.size() << " bytes");
    CHECK_FALSE(reason({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)}).empty());
  }
}

TEST_CASE("archive: whatever byte is changed, the result is a format_error or another archive", "[weights]") {
  const std::vector<std::byte> whole = two_entries().all();
  int accepted = 0;
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (int value = 0; value < 256; ++value) {
      std::vector<std::byte> changed = whole;
      changed[at] = static_cast<std::byte>(value);
      accepted += reason(changed).empty() ? 1 : 0;  // any other exception fails the test
    }
  }
  // Data (40 bytes), name bytes (15, 94 letters each) and no byte of the numbers but at its own value: rows
  // and columns are tied to the data that follows.
  CHECK(accepted >= 40 * 256 + 15 * 94);
  CHECK(accepted < static_cast<int>(whole.size()) * 256 / 2);
}
