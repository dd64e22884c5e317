#include "moe/io/safetensors/reader.hpp"

#include <string>
#include <vector>

#include "io/file/temporary_folder.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

using moe::Index;
using moe::io::DType;
using moe::io::SafetensorsFile;
using moe::io::Shape;

namespace {

/// A file of the format, written by hand.
std::string file_of(const std::string& header, const std::string& data) {
  return test::little(header.size(), 8) + header + data;
}

/// `"name": {...}` with these offsets.
std::string entry(const std::string& name, const std::string& dtype, const std::string& shape, Index begin,
                  Index end) {
  return "\"" + name + "\": {\"dtype\": \"" + dtype + "\", \"shape\": " + shape + ", \"data_offsets\": [" +
         std::to_string(begin) + ", " + std::to_string(end) + "]}";
}

std::string reason(const std::string& bytes) {
  const std::vector<std::byte> exact = test::exact_bytes(bytes);
  return test::message_of<moe::format_error>([&] { SafetensorsFile::from_bytes(exact, "f"); });
}

std::string two_tensors() {
  return file_of("{\"__metadata__\": {\"format\": \"pt\"}, " + entry("b", "F32", "[2]", 4, 12) + ", " +
                     entry("a", "BF16", "[2, 1]", 0, 4) + "}",
                 "ABCDefghIJKL");
}

}  // namespace

TEST_CASE("safetensors: what the format allows is read", "[io][smoke]") {
  const std::vector<std::byte> bytes = test::exact_bytes(two_tensors());
  const SafetensorsFile file = SafetensorsFile::from_bytes(bytes, "f");
  REQUIRE(file.tensors().size() == 2);
  const moe::io::Tensor& a = *file.find("a");
  CHECK(&a == &file.tensors()[0]);  // by name
  CHECK(a.dtype == DType::BF16);
  CHECK(a.shape == Shape(2, 1));
  CHECK(a.bytes == 4);
  CHECK(std::string(reinterpret_cast<const char*>(a.data), 4) == "ABCD");
  CHECK(a.where() == "f: tensor \"a\"");
  const moe::io::Tensor& b = *file.find("b");
  CHECK(std::string(reinterpret_cast<const char*>(b.data), 8) == "efghIJKL");
  CHECK(file.find("c") == nullptr);
  CHECK(file.find("") == nullptr);
  CHECK(file.metadata() == SafetensorsFile::Metadata{{"format", "pt"}});

  CHECK(reason(file_of("{}", "")) == "nothing thrown");
  CHECK(reason(file_of("{}  \n\t\r ", "")) == "nothing thrown");
  CHECK(reason(file_of(" \n{}", "")) == "nothing thrown");
  CHECK(reason(file_of("{\"__metadata__\": {}}", "")) == "nothing thrown");
  CHECK(reason(file_of("{" + entry("scalar", "F32", "[]", 0, 4) + "}", "1234")) == "nothing thrown");
  CHECK(reason(file_of("{" + entry("empty", "F32", "[3, 0]", 0, 0) + "}", "")) == "nothing thrown");
  CHECK(reason(file_of("{" + entry("e0", "F32", "[0]", 0, 0) + "," + entry("x", "U8", "[1]", 0, 1) + "," +
                           entry("e1", "F32", "[0]", 1, 1) + "," + entry("e2", "F32", "[0]", 1, 1) + "}",
                       "1")) == "nothing thrown");
  CHECK(reason(file_of("{" + entry("f4", "F4", "[3, 2]", 0, 3) + "}", "123")) == "nothing thrown");
  CHECK(
      reason(file_of("{\"x\": {\"more\": [{}], \"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [0, 1]}}",
                     "1")) == "nothing thrown");  // unknown fields are ignored, as the reference does
}

TEST_CASE("safetensors: hostile files are refused with file, tensor and reason", "[io][smoke]") {
  const auto of = [](const std::string& entries, const std::string& data = "12345678") {
    return file_of("{" + entries + "}", data);
  };
  const auto with = [&](const std::string& fields) { return of("\"x\": {" + fields + "}"); };
  const std::string huge = "9223372036854775807", beyond = "18446744073709551615";
  struct Case {
    std::string bytes, says;
  };
  const Case cases[] = {
      {"", "f: expected at least 8 bytes, got 0"},
      {"1234567", "f: expected at least 8 bytes, got 7"},
      {test::little(100'000'001, 8), "header of at most 100000000 bytes, got a claim of 100000001"},
      {test::little(~std::uint64_t{0}, 8) + "{}", "got a claim of 18446744073709551615"},
      {test::little(~std::uint64_t{7}, 8) + "{}", "got a claim of 18446744073709551608"},
      {test::little(3, 8) + "{}", "expected a header of 3 bytes, got a file of 10"},
      {test::little(100'000'000, 8) + "{}", "expected a header of 100000000 bytes, got a file of 10"},
      {file_of("", ""), "expected JSON, got an error at byte"},
      {file_of("{\"\xFF\": 1}", ""), "expected JSON, got an error at byte"},
      {file_of("{\"\xED\xA0\x80\": 1}", ""), "expected JSON, got an error at byte"},  // a surrogate in UTF-8
      {file_of("{\"\\ud800\": 1}", ""), "expected JSON, got an error at byte"},
      {file_of("{} x", ""), "expected JSON, got an error at byte"},
      {file_of(std::string("{}\0x", 4), ""), "got a byte 0 at 2"},
      {file_of("\xEF\xBB\xBF{}", ""), "byte-order mark"},
      {file_of("{", ""), "expected JSON"},
      {file_of("[]", ""), "expected the header to be a JSON object, got a list of 0"},
      {file_of("7", ""), "expected the header to be a JSON object, got 7"},
      {file_of(std::string(50000, '['), ""), "nested at most 8 deep"},
      {file_of("{\"x\": {\"y\": [[[[[[[1]]]]]]]}}", ""), "nested at most 8 deep"},
      {file_of("{\"__metadata__\": []}", ""), "expected \"__metadata__\" to be an object, got a list of 0"},
      {file_of("{\"__metadata__\": {\"a\": 1}}", ""),
       "expected strings in \"__metadata__\", got 1 for \"a\""},
      {file_of("{\"__metadata__\": {\"a\": null}}", ""), "expected strings in"},
      {file_of("{\"__metadata__\": {}, \"__metadata__\": {}}", ""), "two of \"__metadata__\""},
      {of(entry("x", "U8", "[8]", 0, 8) + "," + entry("x", "U8", "[8]", 0, 8)), "two of \"x\""},
      {with("\"dtype\": \"U8\", \"dtype\": \"U8\", \"shape\": [8], \"data_offsets\": [0, 8]"),
       "two of \"dtype\""},
      {of("\"x\\u0000y\": {\"dtype\": \"U8\", \"shape\": [8], \"data_offsets\": [0, 8]}"),
       "f: tensor \"x\\x00y\": expected a name without character 0"},
      {of("\"x\": 3"), "f: tensor \"x\": expected an object, got 3"},
      {of("\"x\": null"), "f: tensor \"x\": expected an object, got null"},
      {with("\"shape\": [8], \"data_offsets\": [0, 8]"),
       "f: tensor \"x\": expected a field \"dtype\", got none"},
      {with("\"dtype\": \"U8\", \"data_offsets\": [0, 8]"), "expected a field \"shape\", got none"},
      {with("\"dtype\": \"U8\", \"shape\": [8]"), "expected a field \"data_offsets\", got none"},
      {with("\"dtype\": 8, \"shape\": [8], \"data_offsets\": [0, 8]"),
       "f: tensor \"x\": expected the name of a dtype, got 8"},
      {of(entry("x", "F12", "[8]", 0, 4)), "expected a file of"},
      {of(entry("x", "U8", "8", 0, 8)), "expected a list of extents as shape, got 8"},
      {of(entry("x", "U8", "[-8]", 0, 8)), "expected non-negative integers of 63 bits in shape, got -8"},
      {of(entry("x", "U8", "[8.0]", 0, 8)), "in shape, got 8.0"},
      {of(entry("x", "U8", "[8e0]", 0, 8)), "in shape, got 8.0"},
      {of(entry("x", "U8", "[\"8\"]", 0, 8)), "in shape, got \"8\""},
      {of(entry("x", "U8", "[true]", 0, 8)), "in shape, got true"},
      {of(entry("x", "U8", "[9223372036854775808]", 0, 8)), "in shape, got 9.22337e+18"},
      {of(entry("x", "U8", "[1,1,1,1,1,1,1,1,8]", 0, 8)),
       "expected a shape of at most 8 extents, got a list of 9"},
      {with("\"dtype\": \"U8\", \"shape\": [8], \"data_offsets\": [0]"),
       "expected data_offsets [begin, end]"},
      {with("\"dtype\": \"U8\", \"shape\": [8], \"data_offsets\": [0, 8, 8]"), "got a list of 3"},
      {with("\"dtype\": \"U8\", \"shape\": [8], \"data_offsets\": 8"), "data_offsets [begin, end], got 8"},
      {with("\"dtype\": \"U8\", \"shape\": [8], \"data_offsets\": [-1, 7]"),
       "63 bits in data_offsets, got -1"},
      {with("\"dtype\": \"U8\", \"shape\": [8], \"data_offsets\": [0, 8.5]"), "in data_offsets, got 8.5"},
      {with("\"dtype\": \"U8\", \"shape\": [8], \"data_offsets\": [0, " + beyond + "]"),
       "in data_offsets, got 1.8"},
      {with("\"dtype\": \"U8\", \"shape\": [8], \"data_offsets\": [0, " + huge + "]"),
       "expected data within the 8 bytes behind the header, got data_offsets up to " + huge},
      {of(entry("x", "U8", "[8]", 8, 0)), "expected data_offsets that ascend, got 8, 0"},
      {of(entry("x", "U8", "[9]", 0, 9)), "expected data within the 8 bytes behind the header"},
      {of(entry("x", "U8", "[9]", 0, 8)), "f: tensor \"x\": expected 9 bytes for U8 of shape [9], got 8"},
      {of(entry("x", "F32", "[8]", 0, 8)), "expected 32 bytes for F32 of shape [8], got 8"},
      {of(entry("x", "F32", "[]", 0, 8)), "expected 4 bytes for F32 of shape [], got 8"},
      {of(entry("x", "U8", "[0]", 0, 8)), "expected 0 bytes for U8 of shape [0], got 8"},
      {of(entry("x", "F4", "[3]", 0, 2)), "expected whole bytes, got 12 bits of F4"},
      {of(entry("x", "F6_E2M3", "[2]", 0, 2)), "expected whole bytes, got 12 bits of F6_E2M3"},
      // Products that wrap to the right number: 2^61 x 8 bytes, 2^60 x 2^4 x 8, 2^63 bits.
      {of(entry("x", "F64", "[2305843009213693953]", 0, 8)), "expected a size that fits 63 bits"},
      {of(entry("x", "U8", "[1152921504606846977, 16]", 0, 16), std::string(16, 'x')), "fits 63 bits"},
      {of(entry("x", "U8", "[4294967296, 4294967296]", 0, 0), ""), "fits 63 bits"},
      {of(entry("x", "U8", "[" + huge + "]", 0, 8)), "fits 63 bits"},
      // Holes, overlaps, aliases, a late start, a byte too many or too few.
      {of(entry("x", "U8", "[7]", 1, 8)),
       "f: tensor \"x\": expected data from byte 0 on, got a hole: it begins at 1"},
      {of(entry("x", "U8", "[3]", 0, 3) + "," + entry("y", "U8", "[4]", 4, 8)),
       "f: tensor \"y\": expected data from byte 3 on, got a hole: it begins at 4"},
      {of(entry("x", "U8", "[5]", 0, 5) + "," + entry("y", "U8", "[4]", 4, 8)),
       "f: tensor \"y\": expected data from byte 5 on, got an overlap: it begins at 4"},
      {of(entry("x", "U8", "[8]", 0, 8) + "," + entry("y", "I8", "[8]", 0, 8)),
       "got an overlap: it begins at 0"},
      {of(entry("x", "U8", "[8]", 0, 8) + "," + entry("y", "I8", "[0]", 4, 4)),
       "got an overlap: it begins at 4"},
      {of(entry("x", "U8", "[7]", 0, 7)), " bytes for its header, got "},
      {of(""), " bytes for its header, got "},
      {of(entry("x", "U8", "[8]", 0, 8), "1234567"), "within the 7 bytes behind the header"},
  };
  for (const Case& c : cases) {
    const std::string what = reason(c.bytes);
    INFO("expected: " << c.says << "\n got: " << what);
    CHECK(what.find(c.says) != std::string::npos);
    CHECK(what.rfind("moe: f: ", 0) == 0);
  }
}

TEST_CASE("safetensors: no beginning of a file is a file, nor a file with more behind it", "[io][smoke]") {
  const std::string whole = two_tensors();
  REQUIRE(reason(whole) == "nothing thrown");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    INFO(size << " of " << whole.size() << " bytes");
    CHECK(reason(whole.substr(0, size)).rfind("moe: f: ", 0) == 0);
  }
  CHECK(reason(whole + "x").find("for its header, got") != std::string::npos);
}

TEST_CASE("safetensors: whatever byte is changed, the result is a format_error or another file", "[io]") {
  const std::string whole = two_tensors();
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
  CHECK(accepted >= 12 * 8);  // every bit of the data
  CHECK(refused >= 8 * 8);    // nearly every one of the length, and more of the header
}

TEST_CASE("safetensors: a file on disk, named in messages, and moved", "[io]") {
  const test::TemporaryFolder folder;
  const auto path = folder.write("model.safetensors", two_tensors());
  SafetensorsFile file(path);
  const moe::io::Tensor* const b = file.find("b");
  REQUIRE(b != nullptr);
  const SafetensorsFile moved = std::move(file);
  CHECK(moved.find("b") == b);
  CHECK(b->where() == moe::io::shown(path) + ": tensor \"b\"");
  CHECK(std::string(reinterpret_cast<const char*>(b->data), 8) == "efghIJKL");
  CHECK(b->file != nullptr);
  CHECK(test::message_of<moe::format_error>([&] { SafetensorsFile bad(folder.write("bad", "123")); }) ==
        "moe: " + moe::io::shown(folder.path() / "bad") + ": expected at least 8 bytes, got 3");
  CHECK_THROWS_AS(SafetensorsFile(folder.write("empty", "")), moe::format_error);
  CHECK_THROWS_AS(SafetensorsFile(folder.path() / "none"), moe::file_error);
}
