#include "moe/io/json/json.hpp"

#include "support/catch.hpp"
#include "support/errors.hpp"

using moe::io::Json;
using moe::io::parse_json;

namespace {
std::string reason(const std::string& text, const moe::io::JsonLimits& limits = {}) {
  return test::message_of<moe::format_error>([&] { parse_json(text, "file", limits); });
}
std::string repeat(const std::string& text, int n) {
  std::string out;
  for (int i = 0; i < n; ++i) out += text;
  return out;
}
}  // namespace

TEST_CASE("json: every kind of value, members in order", "[io][smoke]") {
  const Json root = parse_json(
      " {\"z\": [1, -2, 1.5, 1e3, 9223372036854775807, 9223372036854775808, -9223372036854775808], \"a\": "
      "{\"b\": null, \"t\": true, \"f\": false}, \"s\": \"\\u00e9\\n\", \"e\": [], \"o\": {}}\r\n\t ",
      "file");
  REQUIRE(root.is(Json::Kind::object));
  CHECK(root.object()->names == std::vector<std::string>{"z", "a", "s", "e", "o"});
  const Json::Array& z = *root.find("z")->array();
  REQUIRE(z.size() == 7);
  CHECK(*z[0].integer() == 1);
  CHECK(*z[1].integer() == -2);
  CHECK(*z[2].real() == 1.5);
  CHECK(z[3].integer() == nullptr);  // a float by its spelling
  CHECK(*z[3].real() == 1000);
  CHECK(*z[4].integer() == INT64_MAX);
  CHECK(z[5].integer() == nullptr);
  CHECK(*z[5].real() == 0x1p63);
  CHECK(*z[6].integer() == INT64_MIN);
  CHECK(root.find("a")->find("b")->is(Json::Kind::null));
  CHECK(*root.find("a")->find("t")->boolean());
  CHECK_FALSE(*root.find("a")->find("f")->boolean());
  CHECK(*root.find("s")->string() == "\xC3\xA9\n");
  CHECK(root.find("e")->array()->empty());
  CHECK(root.find("o")->object()->names.empty());
  CHECK(root.find("none") == nullptr);
  CHECK(z[0].find("none") == nullptr);
}

TEST_CASE("json: values describe themselves for messages", "[io]") {
  const Json list = parse_json("[8, 8.0, 1.5, 1e300, null, true, \"silu\", [1, 2], {\"a\": 1}]", "file");
  std::vector<std::string> texts;
  for (const Json& v : *list.array()) texts.push_back(v.describe());
  CHECK(texts == std::vector<std::string>{"8", "8.0", "1.5", "1e+300", "null", "true", "\"silu\"",
                                          "a list of 2", "an object of 1 members"});
}

TEST_CASE("json: text that is no JSON is refused with file and place", "[io][smoke]") {
  const std::string not_json[] = {"",
                                  " ",
                                  "{",
                                  "}",
                                  "[1,]",
                                  "{\"a\":}",
                                  "{\"a\"}",
                                  "{1: 2}",
                                  "01",
                                  "+1",
                                  "1.",
                                  "nul",
                                  "[1] 2",
                                  "{} {}",
                                  "\"\t\"",
                                  "\"\\x\"",
                                  "\"\\ud800\"",
                                  "'a'",
                                  "// a\n1",
                                  "NaN",
                                  "Infinity",
                                  "1e999",
                                  "\"a",
                                  "[1 2]",
                                  "\"\xFF\"",
                                  "\"\xC0\x80\"",
                                  "\"\xED\xA0\x80\"",
                                  "\xC3\xA9"};
  for (const std::string& text : not_json) {
    INFO(text);
    CHECK(reason(text).rfind("moe: file: expected JSON, got an error at byte ", 0) == 0);
  }
  CHECK(reason(std::string("{}\0garbage", 10)) == "moe: file: expected JSON, got a byte 0 at 2");
  CHECK(reason("\xEF\xBB\xBF{}") == "moe: file: expected JSON, got a byte-order mark in front of it");
  CHECK(reason("\"\xE0\x80").find("\xE0") == std::string::npos);  // messages stay printable
}

TEST_CASE("json: duplicate keys are refused at any depth", "[io][smoke]") {
  CHECK(reason("{\"a\": 1, \"b\": 2, \"a\": 1}") ==
        "moe: file: expected different keys in an object, got two of \"a\"");
  CHECK(reason("[{\"x\": {\"a\": 1, \"\\u0061\": 2}}]").find("two of \"a\"") != std::string::npos);
  CHECK(reason("[{\"a\": 1}, {\"a\": 1}]") == "nothing thrown");
}

TEST_CASE("json: depth, size and number of values are bounded", "[io][smoke]") {
  moe::io::JsonLimits limits;
  limits.depth = 3;
  CHECK(reason("[[[]]]", limits) == "nothing thrown");
  CHECK(reason("[{\"a\":[]}]", limits) == "nothing thrown");
  CHECK(reason("[[[[]]]]", limits) == "moe: file: expected JSON nested at most 3 deep, got more");
  CHECK(reason(repeat("[", 1000000)).find("nested at most 32 deep") != std::string::npos);
  CHECK(reason(repeat("{\"a\":", 1000000)).find("nested at most 32 deep") != std::string::npos);
  limits.values = 4;
  CHECK(reason("[1, 2, 3]", limits) == "nothing thrown");
  CHECK(reason("[1, 2, 3, 4]", limits) == "moe: file: expected JSON of at most 4 values, got more");
  limits.bytes = 5;
  CHECK(reason("[1, 2]", limits) == "moe: file: expected JSON of at most 5 bytes, got 6");
}

TEST_CASE("json: Python's constants become strings where the reader says so", "[io]") {
  moe::io::JsonLimits limits;
  limits.python_constants = true;
  const Json list =
      parse_json("[NaN, Infinity, -Infinity, \"NaN \\\" Infinity\", \"\\\\\", NaN]", "file", limits);
  std::vector<std::string> texts;
  for (const Json& v : *list.array()) texts.push_back(*v.string());
  CHECK(texts == std::vector<std::string>{"NaN", "Infinity", "-Infinity", "NaN \" Infinity", "\\", "NaN"});
}
