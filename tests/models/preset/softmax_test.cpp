// What the presets of moe/models/preset/softmax.hpp read from a config; that they compute the right thing:
// golden_test.cpp.
#include "moe/models/preset/softmax.hpp"

#include "models/fixture.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/catch.hpp"

namespace {

using test::describe;
using test::edited;

/// Layers without experts are refused.
void check_dense(const moe::io::Config& config, moe::Index layer) {
  CHECK_THROWS_AS(describe(config, layer), moe::config_error);
}

}  // namespace

TEST_CASE("layers without experts are refused, as each model counts them", "[models]") {
  check_dense(edited("qwen2_moe", "\"decoder_sparse_step\": 1", "\"decoder_sparse_step\": 2"), 0);
  check_dense(edited("qwen3_moe", "\"mlp_only_layers\": []", "\"mlp_only_layers\": [0]"), 0);
  check_dense(edited("qwen3_moe_2", "\"num_hidden_layers\"", "\"num_hidden_layers\""), 7);
  check_dense(edited("jamba", "\"hidden_size\"", "\"hidden_size\""), 0);
  check_dense(edited("arctic", "\"hidden_size\"", "\"hidden_size\""), 0);
  check_dense(edited("nomic_v2", "\"n_embd\"", "\"n_embd\""), 0);
  check_dense(edited("ernie4_5_moe", "\"hidden_size\"", "\"hidden_size\""), 0);
  check_dense(edited("ernie4_5_moe", "\"moe_layer_end_index\": 2", "\"moe_layer_end_index\": 1"), 2);
  CHECK(describe(edited("ernie4_5_moe", "\"moe_layer_end_index\": 2", "\"moe_layer_end_index\": -1"), 2)
            .experts == 7);
}

TEST_CASE("normalisation follows the config where the model has it there", "[models]") {
  using moe::Normalise;
  const auto rule = [](const char* folder, const char* from, const char* to) {
    const test::Golden golden(folder);
    return weights_of(describe(edited(folder, from, to), golden.layer));
  };
  CHECK(rule("qwen3_moe", "\"norm_topk_prob\": true", "\"norm_topk_prob\": true").normalise ==
        Normalise::sum);
  CHECK(rule("qwen3_moe", "\"norm_topk_prob\": true", "\"norm_topk_prob\": false").normalise ==
        Normalise::none);
  const char* const key = "\"moe_normalize_expert_weights\": 1.0";
  CHECK(rule("dbrx", key, key).normalise == Normalise::p_norm);
  CHECK(rule("dbrx", key, "\"moe_normalize_expert_weights\": 2").p == 2);
  CHECK(rule("dbrx", key, "\"moe_normalize_expert_weights\": null").normalise == Normalise::none);
}

TEST_CASE("what a preset does not compute is refused", "[models]") {
  CHECK_THROWS_AS(describe(edited("phimoe", "\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 3"), 0),
                  moe::config_error);
  CHECK_THROWS_AS(
      describe(edited("minimax", "\"shared_intermediate_size\": 0", "\"shared_intermediate_size\": 8"), 0),
      moe::config_error);
  CHECK_THROWS_AS(describe(edited("ernie4_5_moe", "\"use_bias\": false", "\"use_bias\": true"), 2),
                  moe::config_error);
  CHECK_THROWS_AS(describe(edited("mixtral", "\"hidden_act\": \"silu\"", "\"hidden_act\": \"mish\""), 0),
                  moe::config_error);
}

TEST_CASE("lists by layer and optional parts", "[models]") {
  CHECK(describe(edited("hunyuan_v1_moe", "\"hidden_size\"", "\"hidden_size\""), 1).router.k == 2);
  CHECK(describe(edited("hunyuan_v1_moe", "\"use_mixed_mlp_moe\": true", "\"use_mixed_mlp_moe\": false"), 1)
            .shared_hidden == 0);
  CHECK(describe(edited("grok1_2", "\"hidden_size\"", "\"hidden_size\""), 0)
            .router.map.get_if<moe::SoftCap>()
            ->cap() == 5);
  CHECK(describe(edited("grok1", "\"hidden_size\"", "\"hidden_size\""), 0).router.map.is_identity());
}

TEST_CASE("ERNIE-VL's experts of text and of pictures", "[models]") {
  const auto text = describe(edited("ernie4_5_vl_moe", "\"moe_k\"", "\"moe_k\""), 1),
             pictures = describe(edited("ernie4_5_vl_moe_2", "\"moe_k\"", "\"moe_k\""), 1);
  CHECK((text.hidden == 20 && text.experts == 7 && text.shared_hidden == 40));
  CHECK((pictures.hidden == 12 && pictures.experts == 6 && pictures.shared_hidden == 0));
  CHECK((text.tensors.front().theirs == "gate.weight" && text.expert_layouts.front().matrix[0].first == 0));
  CHECK((pictures.tensors.front().theirs == "gate.weight_1" &&
         pictures.expert_layouts.front().matrix[0].first == 6));
}

TEST_CASE("Command A+'s mean of routed and shared experts", "[models]") {
  const auto of = [](const char* folder) {
    return describe(edited(folder, "\"num_experts\"", "\"num_experts\""), test::Golden(folder).layer);
  };
  const auto mean = of("cohere2_moe"), sum = of("cohere2_moe_2"), softmax = of("cohere2_moe_3");
  CHECK(mean.router.weighting.get_if<moe::SigmoidWeighting>()->options() ==
        moe::SigmoidWeighting::Options{.shares = true, .scale = 0.5});
  CHECK(sum.router.weighting.get_if<moe::SigmoidWeighting>()->options() == moe::SigmoidWeighting::Options{});
  CHECK(softmax.router.weighting.get_if<moe::SoftmaxWeighting>()->options().scale == 0.5);
  CHECK((mean.shared_scale == 0.5 && sum.shared_scale == 1 && softmax.shared_scale == 0.5));
  const auto alone =
      describe(edited("cohere2_moe_3", "\"num_shared_experts\": 1", "\"num_shared_experts\": 0"), 0);
  CHECK((alone.shared_hidden == 0 &&
         alone.router.weighting.get_if<moe::SoftmaxWeighting>()->options().scale == 1));
}
