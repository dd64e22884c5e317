#include "moe/models/preset/registry.hpp"

#include <set>
#include <string>

#include "support/catch.hpp"
#include "support/errors.hpp"

using moe::models::find_preset;

TEST_CASE("every preset has a name and model types of its own", "[models]") {
  std::set<std::string> names, types;
  for (const moe::models::Preset* const preset : moe::models::kPresets) {
    INFO(preset->name);
    CHECK(names.insert(preset->name).second);
    REQUIRE(preset->model_types[0] != nullptr);
    for (const char* const type : preset->model_types) {
      if (type == nullptr) continue;
      CHECK(types.insert(type).second);
      CHECK(find_preset(type) == preset);
    }
    CHECK(preset->describe != nullptr);
  }
  CHECK(names.size() == 55);
  CHECK(find_preset("llama") == nullptr);
  CHECK(find_preset("") == nullptr);
}

TEST_CASE("a model without a preset is refused by name", "[models]") {
  const auto refused = [](const char* text) {
    return test::message_of<moe::config_error>(
        [&] { moe::models::preset_of(moe::io::Config::from_text(text, "config.json")); });
  };
  const std::string message = refused(R"({"model_type": "bert"})");
  CHECK(message.find("\"bert\"") != std::string::npos);
  for (const moe::models::Preset* const preset : moe::models::kPresets) {  // the whole list, and nothing cut
    for (const char* const type : preset->model_types) {
      if (type != nullptr) CHECK(message.find(type) != std::string::npos);
    }
  }
  CHECK(message.ends_with("), got \"bert\""));
  CHECK(refused("{}").find("model_type: expected this key") != std::string::npos);
  CHECK(refused(R"({"architectures": ["MixtralForCausalLM"]})").find("model_type: expected this key") !=
        std::string::npos);
  CHECK(moe::models::preset_of(
            moe::io::Config::from_text(R"({"architectures": ["LongcatFlashForCausalLM"]})", "config.json"))
            .name == std::string("longcat_flash"));
}
