#include "moe/io/file/text.hpp"

#include "support/catch.hpp"

using moe::io::in_quotes;

TEST_CASE("io text: what a file says is shown without its control characters", "[io]") {
  CHECK(in_quotes("gate.weight") == "\"gate.weight\"");
  CHECK(in_quotes("a\x1b[2Jb\n") == "\"a\\x1B[2Jb\\x0A\"");
  CHECK(in_quotes(std::string_view("a\0b", 3)) == "\"a\\x00b\"");
  CHECK(in_quotes("\xC3\xA9") == "\"\\xC3\\xA9\"");
  CHECK(in_quotes("\"\\") == "\"\\x22\\x5C\"");
  CHECK(in_quotes("abcdef", 6) == "\"abcdef\"");
  CHECK(in_quotes("abcdefg", 6) == "\"abcdef...\"");
}

TEST_CASE("io text: of a long path the end is shown", "[io]") {
  CHECK(moe::io::shown("folder/model.safetensors") == "folder/model.safetensors");
  const std::string path = std::string(400, 'p') + "/model.safetensors";
  const std::string text = moe::io::shown(path);
  CHECK(text.size() == 163);
  CHECK(text.substr(0, 4) == "...p");
  CHECK(text.substr(text.size() - 18) == "/model.safetensors");
}

TEST_CASE("io text: numbers in name templates", "[io]") {
  CHECK(moe::io::with_number("experts.{expert}.w1", "{expert}", 12) == "experts.12.w1");
  CHECK(moe::io::with_number("{layer}.{layer}", "{layer}", 7) == "7.7");
  CHECK(moe::io::with_number("gate", "{layer}", 7) == "gate");
}
