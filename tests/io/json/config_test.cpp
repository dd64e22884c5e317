#include "moe/io/json/config.hpp"

#include "io/file/temporary_folder.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

using moe::Index;
using moe::io::Config;

namespace {
Config sample() {
  return Config::from_text(
      "{\"num_experts\": 8, \"eps\": 1e-6, \"act\": \"silu\", \"norm\": false, \"none\": null, \"float\": "
      "8.0, "
      "\"top\": [2, 4, 6], \"mixed\": [1, \"x\"], \"names\": [\"a\", \"b\"], \"limit\": [0.0, Infinity], "
      "\"text_config\": {\"hidden\": 64, \"ffn\": {\"k\": \"two\"}}}",
      "config.json");
}
template <class Call>
std::string reason(Call&& call) {
  return test::message_of<moe::config_error>(call);
}
}  // namespace

TEST_CASE("config: values that are there", "[io][smoke]") {
  const Config c = sample();
  CHECK(c.required<Index>("num_experts") == 8);
  CHECK(c.required<double>("num_experts") == 8.0);
  CHECK(c.required<double>("eps") == 1e-6);
  CHECK(c.required<std::string>("act") == "silu");
  CHECK_FALSE(c.required<bool>("norm"));
  CHECK(c.required_in("num_experts", 8, 8) == 8);
  CHECK(c.optional<Index>("num_experts").value() == 8);
  CHECK(c.optional<Index>("num_experts", 3) == 8);
  CHECK_FALSE(c.optional<Index>("other").has_value());
  CHECK(c.optional<Index>("other", 3) == 3);
  CHECK(c.optional<Index>("none", 3) == 3);  // null is absent
  CHECK(c.optional<std::string>("other", "gelu") == "gelu");
  CHECK(c.has("act"));
  CHECK_FALSE(c.has("none"));
  CHECK(c.has_section("text_config"));
  CHECK_FALSE(c.has_section("act"));
  CHECK(c.has_list("top"));
  CHECK_FALSE(c.has_list("act"));
}

TEST_CASE("config: one value for all layers or one a layer", "[io][smoke]") {
  const Config c = sample();
  CHECK(c.per_layer<Index>("num_experts", 40) == 8);
  CHECK(c.per_layer<Index>("top", 0) == 2);
  CHECK(c.per_layer<Index>("top", 2) == 6);
  CHECK(reason([&] { c.per_layer<Index>("top", 3); }) ==
        "moe: config.json: top: expected a value for layer 3, got a list of 3");
  CHECK(reason([&] { c.per_layer<Index>("top", -1); }).find("layer -1") != std::string::npos);
  CHECK(reason([&] { c.per_layer<Index>("mixed", 1); }) ==
        "moe: config.json: mixed[1]: expected an integer, got \"x\"");
  const auto top = c.integers("top");
  CHECK(std::vector<Index>(top.begin(), top.end()) == std::vector<Index>{2, 4, 6});
  CHECK(c.strings("names") == std::vector<std::string>{"a", "b"});
  CHECK(reason([&] { c.integers("mixed"); }).find("mixed[1]: expected an integer") != std::string::npos);
  CHECK(reason([&] { c.integers("act"); }) == "moe: config.json: act: expected a list, got \"silu\"");
}

TEST_CASE("config: what is missing or of the wrong type is named, never guessed", "[io][smoke]") {
  const Config c = sample();
  CHECK(reason([&] { c.required<Index>("top_k"); }) ==
        "moe: config.json: top_k: expected this key, got none");
  CHECK(reason([&] { c.required<Index>("none"); }) == "moe: config.json: none: expected this key, got null");
  CHECK(reason([&] { c.required<Index>("act"); }) ==
        "moe: config.json: act: expected an integer, got \"silu\"");
  CHECK(reason([&] { c.required<Index>("float"); }) ==
        "moe: config.json: float: expected an integer, got 8.0");
  CHECK(reason([&] { c.required<Index>("norm"); }) ==
        "moe: config.json: norm: expected an integer, got false");
  CHECK(reason([&] { c.required<bool>("num_experts"); }) ==
        "moe: config.json: num_experts: expected true or false, got 8");
  CHECK(reason([&] { c.required<double>("act"); }).find("expected a number, got \"silu\"") !=
        std::string::npos);
  CHECK(reason([&] { c.required<std::string>("top"); }) ==
        "moe: config.json: top: expected a string, got a list of 3");
  CHECK(reason([&] { c.optional<Index>("act", 3); }).find("act: expected an integer") != std::string::npos);
  CHECK(reason([&] { c.required_in("num_experts", 1, 7); }) ==
        "moe: config.json: num_experts: expected an integer in [1, 7], got 8");
}

TEST_CASE("config: sections", "[io][smoke]") {
  const Config text = sample().section("text_config");  // outlives the config it came from
  CHECK(text.required<Index>("hidden") == 64);
  CHECK_FALSE(text.has("num_experts"));
  CHECK(reason([&] { text.section("ffn").required<Index>("k"); }) ==
        "moe: config.json: text_config.ffn.k: expected an integer, got \"two\"");
  CHECK(reason([&] { text.section("other"); }) ==
        "moe: config.json: text_config.other: expected this key, got none");
  CHECK(reason([&] { text.section("hidden"); }) ==
        "moe: config.json: text_config.hidden: expected an object, got 64");
}

TEST_CASE("config: files", "[io]") {
  const test::TemporaryFolder folder;
  const auto path = folder.write("config.json", "{\"k\": 2}");
  CHECK(Config::from_file(path).required<Index>("k") == 2);
  CHECK_THROWS_AS(Config::from_file(folder.path() / "none"), moe::file_error);
  CHECK_THROWS_AS(Config::from_file(folder.write("bad", "{\"k\": 2")), moe::format_error);
  CHECK(test::message_of<moe::format_error>([] { Config::from_text("[1]", "c"); }) ==
        "moe: c: expected an object, got a list of 1");
  CHECK_THROWS_AS(Config::from_text("{\"k\": 2, \"k\": 3}", "c"), moe::format_error);
}

TEST_CASE("config: numbers in a range", "[io]") {
  const Config c = Config::from_text(R"({"n": 7, "x": 0.5, "list": [1, 9]})", "f");
  CHECK(c.required_in("n", 1, 7) == 7);
  CHECK_THROWS_AS(c.required_in("n", 8, 9), moe::config_error);
  CHECK(c.optional_in("n", 3, 1, 7) == 7);
  CHECK(c.optional_in("none", 3, 1, 7) == 3);
  CHECK_THROWS_AS(c.optional_in("n", 3, 1, 6), moe::config_error);
  CHECK(c.per_layer_in("list", 1, 1, 9) == 9);
  CHECK_THROWS_AS(c.per_layer_in("list", 1, 1, 8), moe::config_error);
  CHECK(c.number_in("x", 0, 1) == 0.5);
  CHECK(c.number_in("none", 0.25, 0, 1) == 0.25);
  CHECK(test::message_of<moe::config_error>([&] { c.number_in("x", 1, 2); }) ==
        "moe: f: x: expected a number in [1, 2], got 0.5");
  CHECK_THROWS_AS(c.number_in("x", 0.25, 1, 2), moe::config_error);
}

TEST_CASE("config: a watched one knows what it was asked for", "[io]") {
  const Config plain = Config::from_text(R"({"a": 1, "b": null, "c": {"a": 2, "d": 3}, "e": 4})", "f");
  CHECK(plain.asked("a"));  // nobody watches
  const Config c = plain.watched();
  CHECK((!c.asked("a") && !c.asked("b") && !c.asked("c") && c.asked("none")));
  CHECK(!c.has("b"));
  CHECK(c.required<moe::Index>("a") == 1);
  const Config section = c.section("c");
  CHECK((c.asked("a") && c.asked("b") && c.asked("c") && !c.asked("e")));
  CHECK((!section.asked("a") && !section.asked("d")));
  CHECK(section.optional<moe::Index>("d", 0) == 3);
  CHECK((c.section("c").asked("d") && !section.asked("a")));
  CHECK(!plain.watched().asked("a"));
}
