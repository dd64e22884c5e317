// Configs as the releases ship them and as Transformers 5 writes them: the same layer as the golden folder's
// own config. A key that decides the maths is obeyed or refused.
#include <string>
#include <tuple>
#include <vector>

#include "models/fixture.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace {

using test::Edits;
using test::Golden;
using test::Ran;

/// A golden folder's config without some keys, with others renamed, and with some added.
struct KeySet {
  const char* folder;
  std::vector<const char*> gone{};
  Edits renamed{};
  std::string added{};
  Edits changed{};

  moe::io::Config config() const {
    Edits edits = changed;
    for (const char* const key : gone) {
      edits.emplace_back("\"" + std::string(key) + "\":", "\"was_" + std::string(key) + "\":");
    }
    for (const auto& [from, to] : renamed) edits.emplace_back("\"" + from + "\":", "\"" + to + "\":");
    if (!added.empty()) edits.emplace_back("\"torch_dtype\":", added + ", \"torch_dtype\":");
    return test::edited(folder, edits);
  }
};

const std::string kSparse = "\"mlp_layer_types\": [\"dense\", \"sparse\"]";
const std::string kBare = "\"mlp_bias\": false, \"output_router_logits\": false";

/// As Transformers 5.24 writes a model that was built from a bare config.
const KeySet kTransformers[] = {
    {.folder = "afmoe",
     .gone = {"n_group", "num_expert_groups", "num_limited_groups", "route_norm", "score_func",
              "topk_group"}},
    {.folder = "bailing_hybrid",
     .gone = {"score_function", "moe_router_enable_expert_bias", "first_k_dense_replace"},
     .renamed = {{"n_group", "num_expert_group"},
                 {"norm_topk_prob", "moe_renormalize"},
                 {"num_experts_per_tok", "num_experts_per_token"}},
     .added = kSparse},
    {.folder = "deepseek_v2", .gone = {"moe_layer_freq", "scoring_func"}, .added = kBare},
    {.folder = "deepseek_v3", .gone = {"moe_layer_freq", "scoring_func", "topk_method"}, .added = kBare},
    {.folder = "deepseek_v3",
     .gone = {"moe_layer_freq", "scoring_func", "topk_method", "first_k_dense_replace"},
     .added = kSparse,
     .changed = {{"\"deepseek_v3\"", "\"deepseek_v32\""}}},
    {.folder = "glm4_moe",
     .gone = {"first_k_dense_replace"},
     .added = kSparse,
     .changed = {{"\"glm4_moe\"", "\"glm_moe_dsa\""}}},
    {.folder = "deepseek_v4",
     .gone = {"num_hash_layers", "topk_method", "expert_dtype"},
     .added = "\"mlp_layer_types\": [\"hash_moe\", \"moe\"]"},
    {.folder = "deepseek_v4_2",
     .gone = {"num_hash_layers", "topk_method", "expert_dtype"},
     .added = "\"mlp_layer_types\": [\"hash_moe\", \"moe\"]"},
    {.folder = "dots1", .gone = {"scoring_func"}},
    {.folder = "ernie4_5_moe", .gone = {"moe_use_aux_free"}},
    {.folder = "gpt_oss", .added = "\"swiglu_alpha\": 1.702"},
    {.folder = "hunyuan_v1_moe",
     .gone = {"moe_drop_tokens", "moe_intermediate_size", "moe_layer_num_skipped", "norm_topk_prob",
              "num_shared_expert", "use_mixed_mlp_moe"}},
    {.folder = "kimi_linear",
     .gone = {"first_k_dense_replace", "moe_layer_freq", "moe_router_activation_func", "use_grouped_topk"},
     .added = kSparse},
    {.folder = "llama4", .gone = {"interleave_moe_layer_step"}, .added = "\"moe_layers\": [1]"},
    {.folder = "longcat_flash", .gone = {"router_bias", "zero_expert_type"}},
    {.folder = "minimax", .gone = {"shared_intermediate_size"}},
    {.folder = "minimax_m2", .gone = {"scoring_func", "use_routing_bias", "shared_intermediate_size"}},
    {.folder = "nemotron_h",
     .gone = {"hybrid_override_pattern", "num_hidden_layers"},
     .added = "\"layers_block_type\": [\"full_attention\", \"moe\"], \"use_bias\": false"},
    {.folder = "qwen3_moe", .renamed = {{"num_experts", "num_local_experts"}}},
    {.folder = "glm4_moe_lite", .gone = {"first_k_dense_replace"}, .added = kSparse},
    {.folder = "solar_open", .gone = {"first_k_dense_replace"}, .added = "\"n_group\": 1, \"topk_group\": 1"},
    {.folder = "mimo_v2_flash",
     .gone = {"moe_layer_freq", "n_shared_experts", "scoring_func", "topk_method"},
     .added = kSparse,
     .changed = {{"\"routed_scaling_factor\": null", "\"routed_scaling_factor\": 1.0"}}},
    {.folder = "hy_v3",
     .gone = {"first_k_dense_replace", "route_norm", "moe_router_use_sigmoid",
              "moe_router_enable_expert_bias", "expert_hidden_dim"},
     .added = kSparse + ", " + "\"mlp_bias\": false"},
    {.folder = "exaone_moe_2",
     .gone = {"is_moe_layer", "first_last_k_dense_replace", "scoring_func", "topk_method"},
     .added = "\"first_k_dense_replace\": 1, " + kSparse},
    {.folder = "axk1_2",
     .gone = {"first_k_dense_replace", "moe_layer_freq", "scoring_func", "topk_method"},
     .added = kSparse},
    {.folder = "mellum",
     .renamed = {{"num_experts", "num_local_experts"}},
     .added = "\"mlp_layer_types\": [\"sparse\"]"},
    {.folder = "qwen3_omni_moe",
     .gone = {"mlp_only_layers"},
     .renamed = {{"num_experts", "num_local_experts"}}},
    {.folder = "qwen3_omni_moe_2", .renamed = {{"num_experts", "num_local_experts"}}},
    {.folder = "mistral4_2", .gone = {"first_k_dense_replace", "n_group", "topk_group"}},
    {.folder = "cohere2_moe_2",
     .gone = {"first_k_dense_replace"},
     .added = "\"mlp_layer_types\": [\"dense\", \"sparse\"]"},
    {.folder = "minimax_m3",
     .gone = {"moe_layer_freq", "scoring_func", "use_routing_bias", "n_shared_experts"},
     .added = kSparse,
     .changed = {{"\"swigluoai\"", "\"silu\""}}},
    {.folder = "step3p7_2",
     .gone = {"moe_layers_enum", "moe_router_activation", "norm_expert_weight", "use_moe_router_bias"},
     .renamed = {{"moe_num_experts", "n_routed_experts"}, {"moe_top_k", "num_experts_per_tok"}},
     .added = "\"mlp_layer_types\": [\"dense\", \"sparse\", \"sparse\"]"},
    {.folder = "qwen3_vl_moe", .gone = {"norm_topk_prob"}, .renamed = {{"num_experts", "num_local_experts"}}},
};

/// As releases ship them, where that is another set of keys than the golden folder's.
const KeySet kReleases[] = {
    {.folder = "qwen2_moe", .gone = {"mlp_only_layers"}},  // Qwen1.5-MoE, Qwen2-57B
    {.folder = "longcat_flash", .gone = {"model_type", "hidden_act"}},
    {.folder = "ernie4_5_moe", .gone = {"moe_norm_min", "moe_layer_end_index"}},
    {.folder = "dots1",
     .changed = {{"\"n_group\": 1", "\"n_group\": null"}, {"\"topk_group\": 1", "\"topk_group\": null"}}},
    {.folder = "nemotron_h",  // Nemotron 3 Ultra
     .gone = {"hybrid_override_pattern", "num_hidden_layers"},
     .added = "\"layers_block_type\": [\"attention\", \"moe\"]"},
    {.folder = "deepseek_v1",  // Ling, of Ling's first generation
     .gone = {"scoring_func"},
     .renamed = {{"n_routed_experts", "num_experts"}, {"n_shared_experts", "num_shared_experts"}},
     .added = "\"multi_gate\": false",
     .changed = {{"\"deepseek\"", "\"bailing_moe\""}}},
    {.folder = "dbrx", .gone = {"ffn_act_fn"}},
    {.folder = "cohere2_moe_3", .gone = {"norm_topk_prob"}},  // of sigmoids alone
    {.folder = "step3p7",                                     // Step-3.5
     .gone = {"swiglu_limits", "swiglu_limits_shared"},
     .changed = {{"\"step3p7\"", "\"step3p5\""}, {"\"1,2\"", "[1, 2]"}}},
    {.folder = "step3p7_3",
     .changed = {{"0.0,\n   0.0,\n   0.0,\n   0.0", "null,\n   null,\n   null,\n   0.0"},
                 {"\"1,2\"", "\" 1, 2 \""}}},
    {.folder = "ernie4_5_vl_moe",  // in one flat object
     .gone = {"mlp_layer_types"},
     .added =
         "\"moe_layer_start_index\": [1, 1], \"moe_layer_end_index\": [1, 1], \"moe_layer_interval\": 1, "
         "\"moe_use_aux_free\": true",
     .changed = {{"\"ernie4_5_vl_moe\"", "\"ernie4_5_moe_vl\""},
                 {"\"text_config\": {\n  \"model_type\": \"ernie4_5_vl_moe_text\",", ""},
                 {"\n },\n \"vision_config\"", ",\n \"vision_config\""},
                 {"\"moe_num_experts\": 7", "\"moe_num_experts\": [7, 7]"}}},
    {.folder = "qwen3_moe", .added = "\"shared_expert_intermediate_size\": 0"},  // Qwen3-Coder
};

void check_same_layer(const KeySet& keys) {
  INFO(keys.folder << " without " << (keys.gone.empty() ? "" : keys.gone.front()));
  const Golden golden(keys.folder);
  const moe::io::Config config = keys.config();
  const auto layer = moe::models::load_layer(config, golden.model, golden.layer);
  CHECK(Ran(layer, golden.input()).y == Ran(golden.load(), golden.input()).y);
}

std::string refused(const KeySet& keys) {
  const Golden golden(keys.folder);
  return test::message_of<moe::config_error>([&] { test::describe(keys.config(), golden.layer); });
}

}  // namespace

TEST_CASE("configs as Transformers 5 writes them", "[models]") {
  for (const KeySet& keys : kTransformers) check_same_layer(keys);
}

TEST_CASE("configs as the releases ship them", "[models]") {
  for (const KeySet& keys : kReleases) check_same_layer(keys);
}

TEST_CASE("a key that decides the maths and that the preset does not compute by is refused", "[models]") {
  struct Case {
    const char *folder, *key, *value;
  };
  for (const Case& c : {Case{"gpt_oss", "swiglu_alpha", "1.1"},
                        Case{"gpt_oss_2", "swiglu_alpha", "2.5"},
                        Case{"aria", "mlp_bias", "true"},
                        Case{"deepseek_v2", "mlp_bias", "true"},
                        Case{"deepseek_v3", "mlp_bias", "true"},
                        Case{"deepseek_v4", "mlp_bias", "true"},
                        Case{"nemotron_h_2", "moe_2layer_gate", "true"},
                        Case{"mixtral", "scoring_func", "\"sigmoid\""},
                        Case{"mixtral", "routed_scaling_factor", "2.5"},
                        Case{"mixtral", "norm_topk_prob", "false"},
                        Case{"qwen3_moe", "n_group", "4"},
                        Case{"qwen3_moe", "shared_expert_intermediate_size", "8"},
                        Case{"olmoe", "n_shared_experts", "1"},
                        Case{"jamba", "swiglu_limit", "7.0"},
                        Case{"granitemoe", "shared_intermediate_size", "16"},
                        Case{"minimax_m2", "routed_scaling_factor", "2"},
                        Case{"longcat_flash", "norm_topk_prob", "true"},
                        Case{"glm4_moe", "scoring_func", "\"softmax\""},
                        Case{"glm4_moe", "topk_method", "\"greedy\""},
                        Case{"dots1", "topk_method", "\"greedy\""},
                        Case{"dots1", "moe_latent_size", "16"},
                        Case{"lfm2_moe", "hidden_act", "\"gelu_\""},
                        Case{"grok1", "hidden_act", "\"relu\""},
                        Case{"phimoe", "router_bias", "true"},
                        Case{"jetmoe", "zero_expert_num", "2"},
                        Case{"llama4", "route_scale", "2.5"},
                        Case{"qwen3_5_moe", "norm_topk_prob", "false"},
                        Case{"mixtral", "router_scaling_factor", "2.0"},
                        Case{"qwen3_moe", "moe_router_scaling_factor", "2.0"},
                        Case{"glm4_moe_lite", "scoring_func", "\"softmax\""},
                        Case{"solar_open", "topk_method", "\"greedy\""},
                        Case{"mellum", "expert_selection_fn", "\"sigmoid\""},
                        Case{"mimo_v2_flash", "swiglu_limits", "[0, 7]"},
                        Case{"hy_v3", "norm_topk_prob", "false"},
                        Case{"exaone_moe", "moe_latent_size", "8"},
                        Case{"axk1", "mlp_bias", "true"},
                        Case{"mistral4", "scoring_func", "\"sigmoid\""},
                        Case{"qwen3_omni_moe", "n_shared_experts", "1"},
                        Case{"ernie4_5_moe", "moe_modality", "\"vision\""},
                        Case{"minimax_m3", "norm_topk_prob", "false"},
                        Case{"step3p7", "swiglu_alpha", "1.702"},
                        Case{"cohere2_moe", "routed_scaling_factor", "2.0"}}) {
    const std::string message =
        refused({.folder = c.folder, .added = std::string("\"") + c.key + "\": " + c.value});
    INFO(c.folder << " with " << c.key << ": " << message);
    CHECK(message.find(std::string(c.key) + ": expected ") != std::string::npos);
    CHECK(message.find(", got ") != std::string::npos);
  }
  const auto changed = [](const char* folder, const char* from, const char* to) {
    return refused({.folder = folder, .changed = {{from, to}}});
  };
  CHECK(changed("qwen3_vl_moe", "\"norm_topk_prob\": true", "\"norm_topk_prob\": false")
            .find("norm_topk_prob") != std::string::npos);
  CHECK(changed("minimax_m2", "\"shared_intermediate_size\": 0", "\"shared_intermediate_size\": 8")
            .find("shared_intermediate_size: expected no such key, because the preset minimax_m2 does not "
                  "compute "
                  "by it, got 8") != std::string::npos);
  for (const auto& [folder, from, to, key] :
       {std::tuple("minimax_m3", "\"swiglu_alpha\": 1.702", "\"swiglu_alpha\": 1.1",
                   "swiglu_alpha: expected"),
        std::tuple("minimax_m3", "\"swigluoai\"", "\"gelu\"", "hidden_act: expected"),
        std::tuple("hy_v3", "\"route_norm\": true", "\"route_norm\": false", "route_norm: expected true"),
        std::tuple("hy_v3", "\"moe_router_use_sigmoid\": true", "\"moe_router_use_sigmoid\": false",
                   "moe_router_use_sigmoid: expected true"),
        std::tuple("step3p7", "\"norm_expert_weight\": true", "\"norm_expert_weight\": false",
                   "norm_expert_weight: expected true"),
        std::tuple("step3p7", "\"moe_router_activation\": \"sigmoid\"",
                   "\"moe_router_activation\": \"softmax\"", "moe_router_activation: expected"),
        std::tuple("step3p7_2", "1.5", "-1.5", "swiglu_limits: expected a limit in [0, 1e6] for layer 2"),
        std::tuple("cohere2_moe", "\"average\"", "\"max\"", "shared_expert_combination_strategy: expected"),
        std::tuple("cohere2_moe", "\"expert_selection_fn\": \"sigmoid\"", "\"expert_selection_fn\": \"tanh\"",
                   "expert_selection_fn: expected"),
        std::tuple("ernie4_5_vl_moe", "\"moe_num_experts\": 7", "\"moe_num_experts\": [7, 6]",
                   "moe_num_experts: expected as many experts for text as for vision, got 7 and 6"),
        std::tuple("ernie4_5_vl_moe_2", "\"moe_modality\": \"vision\"", "\"moe_modality\": \"sound\"",
                   "moe_modality: expected"),
        std::tuple("mistral4_2", "\"mistral4\"", "\"ministral3\"", "model_type: expected \"mistral4\"")}) {
    const std::string message = changed(folder, from, to);
    INFO(message);
    CHECK(message.find(key) != std::string::npos);
  }
  CHECK(changed("longcat_flash", "\"router_bias\": false", "\"router_bias\": true").find("router_bias") !=
        std::string::npos);
  CHECK(changed("deepseek_v3", "\"n_shared_experts\"", "\"num_shared_experts\"").find("num_shared_experts") !=
        std::string::npos);
}

TEST_CASE("values that say the same as the absence of a key are not refused", "[models]") {
  check_same_layer({.folder = "mixtral",
                    .added = "\"n_shared_experts\": 0, \"routed_scaling_factor\": 1.0, \"mlp_bias\": false, "
                             "\"n_group\": 1, \"scoring_func\": null, \"moe_latent_size\": null, "
                             "\"router_logit_softcapping\": 0.0"});
  check_same_layer({.folder = "hunyuan_v1_moe", .added = "\"n_group\": 8, \"group_limited_greedy\": false"});
}

TEST_CASE("dense layers say that they are dense", "[models]") {
  const auto dense = [](const std::string& message) {
    INFO(message);
    CHECK(message.find("which is dense") != std::string::npos);
  };
  dense(refused({.folder = "gemma4",
                 .changed = {{"\"enable_moe_block\": true", "\"enable_moe_block\": false"},
                             {"\"num_experts\": 7", "\"num_experts\": null"}}}));
  dense(refused(
      {.folder = "granitemoehybrid", .changed = {{"\"num_local_experts\": 6", "\"num_local_experts\": 0"}}}));
  dense(refused({.folder = "deepseek_v3", .added = "\"mlp_layer_types\": [\"sparse\", \"dense\"]"}));
  dense(refused({.folder = "nemotron_h", .added = "\"layers_block_type\": [\"moe\", \"mamba\"]"}));
  const std::string swapped = "\"mlp_layer_types\": [\"sparse\", \"dense\", \"dense\"]";
  for (const char* const folder : {"axk1", "cohere2_moe_2", "exaone_moe", "glm4v_moe", "hy_v3", "minimax_m3",
                                   "mimo_v2_flash", "step3p7"}) {
    INFO(folder);
    dense(refused({.folder = folder, .added = swapped}));
  }
  for (const auto& [folder, from, to] :
       {std::tuple("mimo_v2_flash", "\"moe_layer_freq\": [\n  0,\n  1", "\"moe_layer_freq\": [\n  1,\n  0"),
        std::tuple("minimax_m3", "\"moe_layer_freq\": [\n   0,\n   1", "\"moe_layer_freq\": [\n   1,\n   0"),
        std::tuple("exaone_moe", "false,\n  true", "true,\n  false"),
        std::tuple("step3p7", "\"1,2\"", "\"1,12\""),
        std::tuple("mellum_2", "\"dense\",\n  \"sparse\"", "\"sparse\",\n  \"dense\""),
        std::tuple("ernie4_5_vl_moe", "\"dense\",\n   \"sparse\"", "\"sparse\",\n   \"dense\"")}) {
    INFO(folder);
    dense(refused({.folder = folder, .changed = {{from, to}}}));
  }
}

TEST_CASE("numbers of a config are checked before anything is made of them", "[models]") {
  struct Case {
    const char *folder, *from, *to, *key;
  };
  for (const Case& c :
       {Case{"deepseek_v3", "\"moe_layer_freq\": 1", "\"moe_layer_freq\": 0", "moe_layer_freq"},
        Case{"deepseek_v3", "\"moe_layer_freq\": 1", "\"moe_layer_freq\": -1", "moe_layer_freq"},
        Case{"mixtral", "\"hidden_size\": 32", "\"hidden_size\": 67108864", "hidden_size"},
        Case{"mixtral", "\"num_local_experts\": 7", "\"num_local_experts\": 4611686018427387904",
             "num_local_experts"},
        Case{"mixtral", "\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 0", "num_experts_per_tok"},
        Case{"mixtral", "\"num_hidden_layers\": 1", "\"num_hidden_layers\": 9223372036854775807",
             "num_hidden_layers"},
        Case{"deepseek_v3", "\"n_shared_experts\": 1", "\"n_shared_experts\": 9223372036854775807",
             "n_shared_experts"},
        Case{"deepseek_v3", "\"n_group\": 4", "\"n_group\": 0", "n_group"},
        Case{"nemotron_h_2", "\"moe_latent_size\": 12", "\"moe_latent_size\": -12", "moe_latent_size"},
        Case{"longcat_flash", "\"zero_expert_num\": 3", "\"zero_expert_num\": 1073741824", "zero_expert_num"},
        Case{"swin_moe", "\"cosine_router_dim\": 10", "\"cosine_router_dim\": 0", "cosine_router_dim"},
        Case{"swin_moe", "\"mlp_ratio\": 0.8333333333333334", "\"mlp_ratio\": 1e300", "mlp_ratio"},
        Case{"gpt_oss", "\"swiglu_limit\": 7.0", "\"swiglu_limit\": -7.0", "swiglu_limit"},
        Case{"minimax_m3", "\"shared_intermediate_size\": 28", "\"shared_intermediate_size\": 0",
             "shared_intermediate_size"},
        Case{"minimax_m3", "\"n_shared_experts\": 1", "\"n_shared_experts\": 2", "n_shared_experts"},
        Case{"step3p7", "\"share_expert_dim\": 28", "\"share_expert_dim\": 1048577", "share_expert_dim"},
        Case{"step3p7", "\"moe_top_k\": 2", "\"moe_top_k\": 0", "moe_top_k"},
        Case{"ernie4_5_vl_moe", "\"moe_num_experts\": 7", "\"moe_num_experts\": 0", "moe_num_experts"},
        Case{"cohere2_moe", "\"num_shared_experts\": 2", "\"num_shared_experts\": -1", "num_shared_experts"},
        Case{"qwen3_moe", "\"decoder_sparse_step\": 1", "\"decoder_sparse_step\": 0",
             "decoder_sparse_step"}}) {
    const std::string message = refused({.folder = c.folder, .changed = {{c.from, c.to}}});
    INFO(c.to << ": " << message);
    CHECK(message.find(c.key) != std::string::npos);
    CHECK(message.find(" in [") != std::string::npos);
  }
}

TEST_CASE("shapes are compared before anything of the config's sizes is allocated", "[models]") {
  const auto shape = [](const char* folder, const char* from, const char* to) {
    const Golden golden(folder);
    const moe::io::Config config = test::edited(folder, from, to);
    return test::message_of<moe::format_error>(
        [&] { moe::models::load_layer(config, golden.model, golden.layer); });
  };
  CHECK(shape("mixtral", "\"hidden_size\": 32", "\"hidden_size\": 1048576")
            .find("w1.weight\": expected shape [20, 1048576]") != std::string::npos);
  CHECK(shape("longcat_flash", "\"zero_expert_num\": 3", "\"zero_expert_num\": 1048575")
            .find("classifier.weight\": expected shape [1048582, 32]") != std::string::npos);
  CHECK(shape("swin_moe", "\"cosine_router_dim\": 10", "\"cosine_router_dim\": 1048576")
            .find("cosine_projector.weight\": expected shape [1048576, 24]") != std::string::npos);
  CHECK(shape("deepseek_v3", "\"n_shared_experts\": 1", "\"n_shared_experts\": 1024")
            .find("shared_experts.gate_proj.weight\": expected shape [16384, 32]") != std::string::npos);
  CHECK(shape("nemotron_h_2", "\"moe_latent_size\": 12", "\"moe_latent_size\": 1048576")
            .find("up_proj.weight\": expected shape [12, 1048576]") != std::string::npos);
}
