#include "moe/models/preset/maths_keys.hpp"

#include <set>
#include <string>

#include "support/catch.hpp"
#include "support/errors.hpp"

namespace {

moe::io::Config config(const std::string& text) {
  return moe::io::Config::from_text(text, "config.json").watched();
}
std::string refused(const moe::io::Config& c) {
  return test::message_of<moe::config_error>([&] { moe::models::require_maths_keys_asked(c, "m"); });
}

}  // namespace

TEST_CASE("keys that decide the maths are named once", "[models]") {
  std::set<std::string> names;
  for (const auto& key : moe::models::kMathsKeys) CHECK(names.insert(key.name).second);
}

TEST_CASE("a key that a preset was asked for may have any value", "[models]") {
  const auto c = config(R"({"norm_topk_prob": true, "n_group": 4, "other": 3})");
  CHECK(refused(c) ==
        "moe: config.json: n_group: expected no such key, because the preset m does not compute by it, got "
        "4; if "
        "the model's own code ignores it, take it out of the config");
  CHECK(c.required<moe::Index>("n_group") == 4);
  CHECK(refused(c).find("norm_topk_prob") != std::string::npos);
  moe::models::pass_over(c, {"norm_topk_prob"});
  moe::models::require_maths_keys_asked(c, "m");
}

TEST_CASE("neutral values, by key", "[models]") {
  for (const char* const text : {R"({"mlp_bias": false})", R"({"n_group": 1})", R"({"n_group": null})",
                                 R"({"routed_scaling_factor": 1.0})", R"({"n_shared_experts": 0})",
                                 R"({"n_shared_experts": false})", R"({"scoring_func": null})", "{}"}) {
    INFO(text);
    moe::models::require_maths_keys_asked(config(text), "m");
  }
  for (const char* const text :
       {R"({"mlp_bias": true})", R"({"mlp_bias": "false"})", R"({"n_group": 0})", R"({"n_group": [1]})",
        R"({"routed_scaling_factor": 1.5})", R"({"n_shared_experts": 1})", R"({"scoring_func": "softmax"})",
        R"({"text_config": {"swiglu_alpha": 1.702}})"}) {
    INFO(text);
    CHECK(!refused(config(text)).empty());
  }
  moe::models::require_maths_keys_asked(  // the language model's are those that count
      config(R"({"mlp_bias": true, "text_config": {"mlp_bias": false}})"), "m");
}
