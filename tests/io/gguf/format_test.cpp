#include "moe/io/gguf/format.hpp"

#include <string>
#include <vector>

#include "io/gguf/gguf_bytes.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

using test::GgufBytes;
using test::little;

namespace {

std::string reason(const std::string& bytes) {
  const std::vector<std::byte> exact = test::exact_bytes(bytes);
  const std::string name = "f";
  return test::message_of<moe::format_error>([&] { moe::io::impl::GgufScan(exact, name, nullptr); });
}

}  // namespace

TEST_CASE("gguf: hostile files are refused with file, name and reason", "[io][smoke]") {
  const auto value = [](const std::string& key, std::uint32_t type, const std::string& bytes) {
    return GgufBytes().value(key, type, bytes).all();
  };
  const auto tensor = [](std::initializer_list<std::uint64_t> extents, std::uint32_t type,
                         std::uint64_t offset, const std::string& data = std::string(64, 'x')) {
    GgufBytes b;
    b.data(data);
    return b.tensor("t", extents, type, offset).all();
  };
  const auto claims = [](std::uint64_t values, std::uint64_t tensors) {
    GgufBytes b;
    b.extra_values = values, b.extra_tensors = tensors;
    return b.all();
  };
  const auto of_version = [](std::uint32_t version) {
    GgufBytes b;
    b.version = version;
    return b.all();
  };
  constexpr std::uint64_t kHuge = ~std::uint64_t{0}, kMost = kHuge / 2;
  GgufBytes twice, same_key, overlap;
  twice.data(std::string(64, 'x'));
  twice.tensor("t", {1}, 0, 0).tensor("t", {1}, 0, 32);
  same_key.value("k", 0, "x").value("j", 0, "x").value("k", 0, "x");
  overlap.data(std::string(64, 'x'));
  overlap.tensor("s", {9}, 0, 0).tensor("t", {1}, 0, 32);
  struct Case {
    std::string bytes, says;
  };
  const Case cases[] = {
      {"", "expected the first bytes to be GGUF"},
      {"GGU", "expected the first bytes to be GGUF"},
      {"GGUX" + of_version(3).substr(4), "expected the first bytes to be GGUF"},
      {"GGUF", "expected 4 bytes more for the version, got 0"},
      {of_version(1), "expected version 2 or 3, little-endian, got 1"},
      {of_version(0x03000000), "little-endian, got 50331648"},
      {claims(1, 0), "expected at most 0 values in the bytes left, got a claim of 1"},
      {claims(kHuge, 0), "got a claim of 18446744073709551615"},
      {claims(0, kHuge), "expected at most 0 tensors in the bytes left, got a claim of 18446744073709551615"},
      {value("", 0, "x" + std::string(9, 'x')), "expected a key of 1 to 65535 bytes, got 0"},
      {value(std::string(65536, 'k'), 0, "x"), "expected a key of 1 to 65535 bytes, got 65536"},
      {"GGUF" + little(3, 4) + little(0, 8) + little(1, 8) + little(kHuge, 8) + "xxxxxxxxx",
       "65535 bytes, got 18446"},
      {"GGUF" + little(3, 4) + little(0, 8) + little(1, 8) + little(6, 8) + "keyxx",
       "expected 6 bytes more for a key, got 5"},
      {value("k", 13, "x"), "value \"k\": expected a known type, got 13"},
      {value("k\x1b", 13, "x"), "value \"k\\x1B\""},
      {value("key", 12, "1234567"), "expected 8 bytes more for value \"key\", got 7"},
      {value("k", 8, little(kHuge, 8)), "got a claim of 18446744073709551615 bytes with 0 left"},
      {value("k", 8, little(2, 8) + "x"), "got a claim of 2 bytes with 1 left"},
      {value("k", 9, little(9, 4) + little(1, 8) + "x"), "an array of a known type that is no array, got 9"},
      {value("k", 9, little(13, 4) + little(1, 8) + "x"), "no array, got 13"},
      {value("k", 9, little(4, 4) + little(2, 8) + "1234567"),
       "expected at most 1 value \"k\" in the bytes left"},
      {value("k", 9, little(4, 4) + little(kHuge, 8)), "got a claim of 18446744073709551615"},
      {value("k", 9, little(8, 4) + little(2, 8) + little(0, 8) + little(1, 8)), "1 bytes with 0 left"},
      {same_key.all(), "expected different keys, got two of \"k\""},
      {value("general.alignment", 10, little(32, 8)), "\"general.alignment\": expected an u32, got u64"},
      {value("general.alignment", 4, little(0, 4)), "expected a power of two, got 0"},
      {value("general.alignment", 4, little(24, 4)), "expected a power of two, got 24"},
      {tensor({}, 0, 0), "tensor \"t\": expected 1 to 4 extents, got 0"},
      {tensor({1, 1, 1, 1, 1}, 0, 0), "expected 1 to 4 extents, got 5"},
      {tensor({kHuge}, 0, 0), "expected a size that fits 61 bits, got an extent of 18446744073709551615"},
      {tensor({kMost}, 0, 0), "expected a size that fits 61 bits"},
      {tensor({std::uint64_t{1} << 32, std::uint64_t{1} << 32}, 0, 0), "expected a size that fits 61 bits"},
      // Found by fuzzing: no elements, and extents whose product overflows.
      {tensor({0, std::uint64_t{1} << 32, std::uint64_t{1} << 32}, 0, 0),
       "expected a size that fits 61 bits"},
      {tensor({17}, 0, 0), "expected data within the 64 bytes behind the descriptions, got 68 from 0"},
      {tensor({9}, 0, 32), "expected data within the 64 bytes behind the descriptions, got 36 from 32"},
      {tensor({1}, 0, 96), "expected data within the 64 bytes"},
      {tensor({1}, 0, 1), "expected an offset within the file, a multiple of 32, got 1"},
      {tensor({1}, 0, kHuge),
       "expected an offset within the file, a multiple of 32, got 18446744073709551615"},
      {tensor({1}, 0, kMost - 31), "expected an offset within the file"},
      {tensor({16}, 8, 0), "expected rows of whole blocks of 32 for Q8_0, got 16"},
      {tensor({33}, 39, 0), "expected rows of whole blocks of 32 for MXFP4, got 33"},
      {tensor({32}, 12, 0), "expected rows of whole blocks of 256 for Q4_K, got 32"},
      {tensor({1}, 16, 96), "expected data within the 64 bytes"},
      {twice.all(), "expected different tensor names, got two of \"t\""},
      {overlap.all(), "tensor \"t\": expected bytes of its own, got an overlap with \"s\""},
  };
  for (const Case& c : cases) {
    const std::string what = reason(c.bytes);
    INFO("expected: " << c.says << "\n got: " << what);
    CHECK(what.find(c.says) != std::string::npos);
    CHECK(what.rfind("moe: f: ", 0) == 0);
  }
  CHECK(reason(tensor({0}, 0, 0)) == "nothing thrown");
  CHECK(reason(tensor({8}, 0, 32)) == "nothing thrown");
}

TEST_CASE("gguf: no beginning of a file is a file", "[io][smoke]") {
  const std::string whole = test::gguf_sample().all();
  REQUIRE(reason(whole) == "nothing thrown");
  // The last tensor is of a type without a known size, so the file may end where it begins.
  for (std::size_t size = 0; size < whole.size() - 144; ++size) {
    INFO(size << " of " << whole.size() << " bytes");
    CHECK(reason(whole.substr(0, size)).rfind("moe: f: ", 0) == 0);
  }
}

TEST_CASE("gguf: whatever bit is changed, the result is a format_error or another file", "[io]") {
  const std::string whole = test::gguf_sample().all();
  int accepted = 0, refused = 0;
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = whole;
      changed[at] = static_cast<char>(changed[at] ^ (1 << bit));
      const std::string what = reason(changed);
      ++(what == "nothing thrown" ? accepted : refused);
      if (what != "nothing thrown") REQUIRE(what.rfind("moe: f: ", 0) == 0);
    }
  }
  CHECK(accepted >= (68 + 96 + 144) * 8);  // every bit of the data
  CHECK(refused >= 8 * 8);
}
