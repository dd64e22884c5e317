#include "moe/models/preset/spec.hpp"

#include <string>

#include "support/catch.hpp"
#include "support/errors.hpp"

namespace {

using moe::models::SpecKeys;

moe::io::Config config(const std::string& text) {
  return moe::io::Config::from_text(text, "config.json");
}

const std::string kWhole =
    R"("hidden_size": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": [16, 24],)"
    R"("hidden_act": "silu", "num_hidden_layers": 2)";

}  // namespace

TEST_CASE("basic options come from the config, lists by layer", "[models]") {
  const auto spec = moe::models::basic_spec("m", config("{" + kWhole + "}"), 1, {});
  CHECK((spec.width == 8 && spec.experts == 4 && spec.hidden == 24));
  CHECK((spec.router.width == 8 && spec.router.outputs == 4 && spec.router.k == 2));
  CHECK(spec.gate.act.kind == moe::ActivationKind::silu);
  CHECK(spec.expert_width() == 8);
  CHECK(spec.outputs() == 4);
}

TEST_CASE("a missing key is an error that names it", "[models]") {
  for (const std::string key : {"hidden_size", "num_experts", "num_experts_per_tok", "moe_intermediate_size",
                                "hidden_act", "num_hidden_layers"}) {
    std::string text = "{" + kWhole + "}";
    text.replace(text.find('"' + key + '"'), key.size() + 2, "\"other\"");
    const std::string message = test::message_of<moe::config_error>(
        [&] { moe::models::basic_spec("m", config(text), 0, SpecKeys{}); });
    INFO(message);
    CHECK(message.find("config.json: " + key + ": expected this key") != std::string::npos);
  }
}

TEST_CASE("the number of experts may have the name that Transformers saves", "[models]") {
  std::string text = "{" + kWhole + "}";
  text.replace(text.find("num_experts\""), 11, "num_local_experts");
  CHECK(moe::models::basic_spec("m", config(text), 0, {}).experts == 4);
}

TEST_CASE("activations by name", "[models]") {
  using Kind = moe::ActivationKind;
  const auto named = [](const std::string& name) {
    return moe::models::activation_named(config("{\"act\": \"" + name + "\"}"), "act").kind;
  };
  CHECK(named("silu") == Kind::silu);
  CHECK(named("gelu") == Kind::gelu_erf);
  CHECK(named("gelu_pytorch_tanh") == Kind::gelu_tanh);
  CHECK(named("relu2") == Kind::relu_squared);
  CHECK_THROWS_AS(named("mish"), moe::config_error);
}

TEST_CASE("layers outside of the model, texts and flags that are not the preset's", "[models]") {
  const auto c = config(R"({"n": 3, "kind": "a", "flag": true})");
  for (const moe::Index bad : {-1, 3, 61}) {
    CHECK_THROWS_AS(moe::models::require_layer(c, bad, "n"), moe::config_error);
  }
  moe::models::require_layer(c, 2, "n");
  moe::models::require_text(c, "kind", {"b", "a"});
  CHECK_THROWS_AS(moe::models::require_text(c, "kind", {"b"}), moe::config_error);
  moe::models::require_flag(c, "flag", true, false);
  moe::models::require_flag(c, "absent", false, false);
  CHECK_THROWS_AS(moe::models::require_flag(c, "flag", false, false), moe::config_error);
  CHECK_THROWS_AS(moe::models::fail_dense(c, 1), moe::config_error);
  CHECK(moe::models::text_config(config(R"({"text_config": {"a": 1}})")).has("a"));
  CHECK(moe::models::text_config(c).has("kind"));
}
