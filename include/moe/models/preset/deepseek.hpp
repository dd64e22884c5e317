// Presets of the DeepSeek lineage: scores of all experts, chosen within groups or with a bias that the
// weights do not see, normalised, scaled; shared experts beside them.
#pragma once

#include <string>
#include <utility>

#include "moe/models/preset/softmax.hpp"
#include "moe/models/preset/spec.hpp"
#include "moe/router/selection/group_limited.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN
namespace models {
namespace impl {

/// How a descendant calls what DeepSeek-V3 has.
struct SigmoidKeys {
  SpecKeys basic{.experts = "n_routed_experts"};
  const char* dense_layers = "first_k_dense_replace";
  const char* normalise = "norm_topk_prob";     // null: always
  const char* scale = "routed_scaling_factor";  // null: none
  const char* groups = "n_group";               // null: none
  const char* kept_groups = "topk_group";
  const char* shared = "n_shared_experts";  // how many of width F; null: none
  double eps = 1e-20;                       // added to the sum
};

/// Layers from `dense_layers` on, every moe_layer_freq-th where the config has that key.
inline void require_after_dense(const io::Config& config, Index layer, const char* dense_layers) {
  if (layer < config.required<Index>(dense_layers) ||
      layer % config.optional<Index>("moe_layer_freq", 1) != 0) {
    fail_dense(config, layer);
  }
}

inline void grouped(LayerSpec& spec, const io::Config& config, const char* groups, const char* kept,
                    GroupScore score) {
  const Index all = config.required_in(groups, 1, INT32_MAX), best = config.required_in(kept, 1, INT32_MAX);
  if (all != best)
    spec.router.selection = GroupLimitedSelection({.groups = all, .kept = best, .score = score});
}

/// Sigmoid scores, chosen with a selection bias.
inline LayerSpec sigmoid_like(const char* model, const io::Config& config, Index layer,
                              const SigmoidKeys& keys) {
  LayerSpec spec = basic_spec(model, config, layer, keys.basic);
  if (keys.dense_layers != nullptr) require_after_dense(config, layer, keys.dense_layers);
  spec.router.score = SigmoidScore{};
  select_with_bias(spec);
  if (keys.groups != nullptr) grouped(spec, config, keys.groups, keys.kept_groups, GroupScore::top_two_sum);
  if (keys.normalise == nullptr || config.required<bool>(keys.normalise)) {
    shares(spec, keys.eps > 0 ? Normalise::sum_plus_eps : Normalise::sum, keys.eps);
  }
  if (keys.scale != nullptr)
    change_weights(spec, [&](GatherWeighting::Options& weights) {
      weights.scale = config.required<double>(keys.scale);
    });
  if (keys.shared != nullptr) {
    spec.shared_hidden = spec.hidden * config.optional<Index>(keys.shared, 0);  // null in some configs: none
    spec.shared_layouts = {projections("shared_experts.")};
  }
  qwen_names(spec);
  spec.tensors.push_back({"e_score_correction_bias", "gate.e_score_correction_bias"});
  return spec;
}

}  // namespace impl

inline LayerSpec describe_deepseek_v1(const io::Config& config, Index layer) {
  LayerSpec spec = basic_spec("deepseek_v1", config, layer, {.experts = "n_routed_experts"});
  impl::require_after_dense(config, layer, "first_k_dense_replace");
  require_text(config, "scoring_func", {"softmax"});
  if (config.required<bool>("norm_topk_prob")) impl::shares(spec, Normalise::sum_plus_eps, 1e-20, true);
  impl::qwen_names(spec);
  spec.shared_hidden = spec.hidden * config.optional<Index>("n_shared_experts", 0);
  spec.shared_layouts = {projections("shared_experts.")};
  return spec;
}

/// Normalised weights are not scaled, as in the vendor's code (no release normalises).
inline LayerSpec describe_deepseek_v2(const io::Config& config, Index layer) {
  LayerSpec spec = describe_deepseek_v1(config, layer);
  spec.model = "deepseek_v2";
  require_text(config, "topk_method", {"greedy", "group_limited_greedy"});
  if (config.required<std::string>("topk_method") != "greedy") {
    impl::grouped(spec, config, "n_group", "topk_group", GroupScore::highest);
  }
  change_weights(spec, [&](GatherWeighting::Options& weights) {
    weights.scale = config.required<double>("routed_scaling_factor");
  });
  change_weights(spec, [&](GatherWeighting::Options& weights) { weights.scale_normalised = false; });
  return spec;
}

inline LayerSpec describe_deepseek_v3(const io::Config& config, Index layer) {
  require_text(config, "scoring_func", {"sigmoid"});
  require_text(config, "topk_method", {"noaux_tc"});
  return impl::sigmoid_like("deepseek_v3", config, layer, {});
}

/// K2 and K2-Thinking, Moonlight; K2.5 with its text_config.
inline LayerSpec describe_kimi_k2(const io::Config& config, Index layer) {
  LayerSpec spec = describe_deepseek_v3(text_config(config), layer);
  spec.model = "kimi_k2";
  return spec;
}

namespace impl {

inline LayerSpec kimi_linear_like(const char* model, const io::Config& config, Index layer,
                                  const char* activation) {
  require_text(config, "moe_router_activation_func", {"sigmoid"});
  const bool grouped = config.required<bool>("use_grouped_topk");
  LayerSpec spec = sigmoid_like(model, config, layer,
                                {.basic = {.k = "num_experts_per_token", .activation = activation},
                                 .normalise = "moe_renormalize",
                                 .groups = grouped ? "num_expert_group" : nullptr,
                                 .shared = "num_shared_experts"});
  spec.prefixes = {"model.layers.{layer}.block_sparse_moe.",
                   "language_model.model.layers.{layer}.block_sparse_moe."};
  spec.expert_layouts = {numbered("experts.{expert}.")};
  return spec;
}

}  // namespace impl

inline LayerSpec describe_kimi_linear(const io::Config& config, Index layer) {
  return impl::kimi_linear_like("kimi_linear", config, layer, "hidden_act");
}

/// Kimi-Linear's router; experts in a latent space, with a norm of their sum; SiTU gates.
inline LayerSpec describe_kimi_k3(const io::Config& config, Index layer) {
  const io::Config text = text_config(config);
  require_text(text, "hidden_act", {"situ"});
  LayerSpec spec = impl::kimi_linear_like("kimi_k3", text, layer, nullptr);
  spec.gate = {.kind = AnyGate::Kind::situ,
               .limit = text.required<double>("activation_situ_linear_beta"),
               .beta = text.required<double>("activation_situ_beta")};
  spec.latent = text.required_in("routed_expert_hidden_size", 1, INT32_MAX);
  spec.latent_norm = {.enabled = text.required<bool>("latent_moe_use_norm"),
                      .eps = text.required<double>("rms_norm_eps")};
  spec.tensors.push_back({"latent_in.weight", "routed_expert_down_proj.weight"});
  spec.tensors.push_back({"latent_out.weight", "routed_expert_up_proj.weight"});
  if (spec.latent_norm.enabled) spec.tensors.push_back({"latent_norm.weight", "routed_expert_norm.weight"});
  return spec;
}

/// GLM-4.5, 4.6, 4.7 and GLM-5's block.
inline LayerSpec describe_glm_4_5(const io::Config& config, Index layer) {
  return impl::sigmoid_like("glm_4_5", config, layer, {});
}

inline LayerSpec describe_dots_llm1(const io::Config& config, Index layer) {
  return impl::sigmoid_like("dots_llm1", config, layer, {});
}

/// The bias stands beside the gate; no eps, no scale.
inline LayerSpec describe_minimax_m2(const io::Config& config, Index layer) {
  require_text(config, "scoring_func", {"sigmoid"});
  LayerSpec spec =
      impl::sigmoid_like("minimax_m2", config, layer,
                         {.basic = {.experts = "num_local_experts", .hidden = "intermediate_size"},
                          .dense_layers = nullptr,
                          .normalise = nullptr,
                          .scale = nullptr,
                          .groups = nullptr,
                          .shared = nullptr,
                          .eps = 0});
  impl::mixtral_names(spec);
  select_with_bias(spec, config.required<bool>("use_routing_bias"));
  if (selects_with_bias(spec)) spec.tensors.push_back({"e_score_correction_bias", "e_score_correction_bias"});
  return spec;
}

/// Ling, Ring (Bailing V2 and its hybrids), LLaDA2.
inline LayerSpec describe_bailing_v2(const io::Config& config, Index layer) {
  require_text(config, "score_function", {"sigmoid"});
  LayerSpec spec =
      impl::sigmoid_like("bailing_v2", config, layer, {.basic = {}, .shared = "num_shared_experts"});
  change_weights(spec, [&](GatherWeighting::Options& weights) { weights.only_if_many = true; });
  select_with_bias(spec, config.required<bool>("moe_router_enable_expert_bias"));
  spec.tensors = {{"gate.weight", "gate.weight"}};
  if (selects_with_bias(spec)) spec.tensors.push_back({"e_score_correction_bias", "gate.expert_bias"});
  if (config.has("moe_shared_expert_intermediate_size")) {
    spec.shared_hidden = config.required<Index>("moe_shared_expert_intermediate_size") *
                         config.required<Index>("num_shared_experts");
  }
  return spec;
}

/// Arcee Trinity.
inline LayerSpec describe_afmoe(const io::Config& config, Index layer) {
  require_text(config, "score_func", {"sigmoid"});
  LayerSpec spec = impl::sigmoid_like("afmoe", config, layer,
                                      {.basic = {},
                                       .dense_layers = "num_dense_layers",
                                       .normalise = "route_norm",
                                       .scale = "route_scale",
                                       .shared = "num_shared_experts"});
  spec.tensors = {{"gate.weight", "router.gate.weight"}, {"e_score_correction_bias", "expert_bias"}};
  return spec;
}

/// The sum plus 1e-6.
inline LayerSpec describe_lfm2_moe(const io::Config& config, Index layer) {
  require_layer(config, layer, "num_hidden_layers");
  impl::require_after_dense(config, layer, "num_dense_layers");
  LayerSpec spec;
  spec.model = "lfm2_moe";
  spec.layer = layer;
  spec.width = config.required_in("hidden_size", 1, INT32_MAX);
  spec.experts = config.required_in("num_experts", 1, INT32_MAX / 2);
  spec.hidden = config.required_in("moe_intermediate_size", 1, INT32_MAX);
  spec.gate.act = {ActivationKind::silu};  // the architecture's; no key
  spec.router = {.width = spec.width,
                 .outputs = spec.experts,
                 .k = config.required<Index>("num_experts_per_tok"),
                 .score = SigmoidScore{}};
  select_with_bias(spec, config.required<bool>("use_expert_bias"));
  if (config.required<bool>("norm_topk_prob")) impl::shares(spec, Normalise::sum_plus_eps, 1e-6);
  change_weights(spec, [&](GatherWeighting::Options& weights) {
    weights.scale = config.required<double>("routed_scaling_factor");
  });
  impl::qwen_names(spec, "feed_forward.");
  spec.expert_layouts = {numbered("experts.{expert}.")};
  if (selects_with_bias(spec)) spec.tensors.push_back({"e_score_correction_bias", "expert_bias"});
  return spec;
}

/// Nemotron 3, plain and latent: experts without a gate, ReLU squared.
inline LayerSpec describe_nemotron_3(const io::Config& config, Index layer) {
  require_layer(config, layer, "num_hidden_layers");
  if (config.has_list("layers_block_type")) {
    const std::string kind = config.per_layer<std::string>("layers_block_type", layer);
    if (kind != "moe") fail_dense(config, layer);
  } else {
    const std::string pattern = config.required<std::string>("hybrid_override_pattern");
    if (static_cast<Index>(pattern.size()) <= layer || pattern[static_cast<std::size_t>(layer)] != 'E') {
      fail_dense(config, layer);
    }
  }
  LayerSpec spec = impl::sigmoid_like(
      "nemotron_3", config, layer,
      {.basic = {.experts = "n_routed_experts", .activation = "mlp_hidden_act"}, .dense_layers = nullptr});
  require_flag(config, "mlp_bias", false, false);
  spec.gated = false;
  spec.activation = spec.gate.act;
  if (spec.shared_hidden > 0) {
    spec.shared_hidden = config.required_in("moe_shared_expert_intermediate_size", 1, INT32_MAX) *
                         config.required<Index>("n_shared_experts");
  }
  spec.prefixes = {"backbone.layers.{layer}.mixer.", "model.layers.{layer}.mixer."};
  spec.expert_layouts = {io::per_expert_mlp("experts.{expert}.", "up_proj", "down_proj")};
  spec.shared_layouts = {io::per_expert_mlp("shared_experts.", "up_proj", "down_proj")};
  spec.latent = config.optional<Index>("moe_latent_size", 0);  // null: the plain form
  if (spec.latent > 0) {
    spec.tensors.push_back({"latent_in.weight", "fc1_latent_proj.weight"});
    spec.tensors.push_back({"latent_out.weight", "fc2_latent_proj.weight"});
  }
  return spec;
}

/// softmax over real and identity experts, never normalised.
inline LayerSpec describe_longcat_flash(const io::Config& config, Index layer) {
  LayerSpec spec = basic_spec("longcat_flash", config, layer,
                              {.experts = "n_routed_experts",
                               .k = "moe_topk",
                               .hidden = "expert_ffn_hidden_size",
                               .layers = "num_layers"});
  require_text(config, "zero_expert_type", {"identity"});
  spec.copy_experts = config.required_in("zero_expert_num", 0, INT32_MAX / 2);
  spec.router.outputs = spec.outputs();
  select_with_bias(spec);
  change_weights(spec, [&](GatherWeighting::Options& weights) {
    weights.scale = config.required<double>("routed_scaling_factor");
  });
  impl::qwen_names(spec);
  spec.tensors = {{"gate.weight", "router.classifier.weight"},
                  {"e_score_correction_bias", "router.e_score_correction_bias"}};
  return spec;
}

/// sqrt(softplus) scores; the first num_hash_layers layers choose by token id; clamped gates.
inline LayerSpec describe_deepseek_v4(const io::Config& config, Index layer) {
  require_text(config, "scoring_func", {"sqrtsoftplus"});
  LayerSpec spec =
      impl::sigmoid_like("deepseek_v4", config, layer, {.dense_layers = nullptr, .groups = nullptr});
  spec.router.score = SqrtSoftplusScore{};
  spec.gate = {
      .kind = AnyGate::Kind::clamped, .act = spec.gate.act, .limit = config.required<double>("swiglu_limit")};
  spec.prefixes = {"layers.{layer}.ffn.", "model.layers.{layer}.ffn."};
  spec.tensors = {{"gate.weight", "gate.weight"}};
  spec.expert_layouts = {numbered("experts.{expert}.")};
  spec.shared_layouts = {numbered("shared_experts.")};
  spec.hash_table = layer < config.required<Index>("num_hash_layers");
  select_with_bias(spec, !spec.hash_table);
  if (spec.hash_table) {
    spec.hash_tensor = "gate.tid2eid";
  } else {
    spec.tensors.push_back({"e_score_correction_bias", "gate.bias"});
  }
  return spec;
}

}  // namespace models
MOE_NAMESPACE_END
