// What the presets of moe/models/preset/other.hpp read from a config; that they compute the right thing:
// golden_test.cpp.
#include "moe/models/preset/other.hpp"

#include "models/fixture.hpp"
#include "support/catch.hpp"

using test::describe;
using test::edited;

namespace {

void check_refused(const char* folder, const std::string& from, const std::string& to, moe::Index layer) {
  INFO(folder << " with " << to);
  CHECK_THROWS_AS(describe(edited(folder, from, to), layer), moe::config_error);
}

}  // namespace

TEST_CASE("Llama 4's layers with experts: every n-th, or a list", "[models]") {
  check_refused("llama4", "\"hidden_size\"", "\"hidden_size\"", 0);
  const char* const step = "\"interleave_moe_layer_step\": 2";
  CHECK(describe(edited("llama4", step, "\"interleave_moe_layer_step\": 1"), 0).experts == 7);
  CHECK(describe(edited("llama4", step, "\"moe_layers\": [0]"), 0).experts == 7);
  check_refused("llama4", step, "\"moe_layers\": [0]", 1);
  CHECK(describe(edited("llama4", step, step), 1).router.place == moe::WeightPlace::input);
}

TEST_CASE("Gemma 4 norms the router's rows and scales by expert", "[models]") {
  const auto spec = describe(edited("gemma4", "\"top_k_experts\"", "\"top_k_experts\""), 0);
  CHECK((spec.router.norm.enabled && spec.router.norm.eps == 1e-6 && spec.router.per_expert_scale));
  CHECK(std::abs(spec.router.norm.factor * spec.router.norm.factor * 32 - 1) < 1e-15);
  check_refused("gemma4", "\"enable_moe_block\": true", "\"enable_moe_block\": false", 0);
}

TEST_CASE("Switch and NLLB", "[models]") {
  CHECK(describe(edited("switch_transformers", "\"d_model\"", "\"d_model\""), 1)
            .capacity.get_if<moe::FixedCapacity>()
            ->options()
            .tokens_per_expert == 2);
  check_refused("switch_transformers", "\"d_model\"", "\"d_model\"", 0);
  check_refused("switch_transformers", "\"is_gated_act\": false", "\"is_gated_act\": true", 1);
  CHECK(describe(edited("nllb_moe", "\"d_model\"", "\"d_model\""), 1)
            .router.weighting.get_if<moe::GatherWeighting>()
            ->options()
            .scale == 0.8);
  check_refused("nllb_moe", "\"d_model\"", "\"d_model\"", 0);
  check_refused("nllb_moe", "\"second_expert_policy\": \"all\"", "\"second_expert_policy\": \"random\"", 1);
  check_refused("nllb_moe", "\"moe_eval_capacity_token_fraction\": 1.0",
                "\"moe_eval_capacity_token_fraction\": 0.5", 1);
}

TEST_CASE("Swin-MoE and MoE++", "[models]") {
  const auto swin = describe(edited("swin_moe_2", "\"hidden_size\"", "\"hidden_size\""), 1);
  CHECK((swin.hidden == 12 && !swin.gated));
  CHECK(swin.capacity.get_if<moe::FixedCapacity>()->options().factor == 0.5);
  check_refused("swin_moe", "\"use_bpr\": false", "\"use_bpr\": true", 1);
  const auto plus = describe(edited("moepp", "\"hidden_size\"", "\"hidden_size\""), 1);
  CHECK(
      (plus.experts == 4 && plus.constant_experts == 2 && plus.copy_experts == 1 && plus.zero_experts == 1));
  CHECK(plus.input_scale == 2);
  CHECK(plus.router.weighting.get_if<moe::LeadingWeighting>()->options().leading == 7);
  CHECK(std::get<moe::TwoLayerScorerOptions>(plus.router.scorer).hidden == 64);
  check_refused("moepp", "\"moe_use_mixtral_gating\": false", "\"moe_use_mixtral_gating\": true", 1);
}
