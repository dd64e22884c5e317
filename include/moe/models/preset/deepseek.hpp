// Presets of the DeepSeek lineage: scores of all experts, chosen within groups or with a bias that the
// weights do not see, normalised, scaled; shared experts beside them.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
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
  const char* dense_layers = "first_k_dense_replace";  // null: checked by the preset
  Index dense_otherwise = -1;                          // without that key; -1: it must be there
  std::string normalise = "norm_topk_prob";            // empty: always
  const char* scale = "routed_scaling_factor";         // null: none
  bool scale_may_miss = false;              // the model's own code has 1 where the config has none or null
  std::string groups = "n_group";           // empty: none
  bool one_group = false;                   // the model's own code has one where the config says none
  std::string shared = "n_shared_experts";  // how many of width F; empty: none
  double eps = 1e-20;                       // added to the sum
};

/// Layers that "mlp_layer_types" calls sparse, where Transformers 5 has written that list, or another list by
/// layer; else those from `dense_layers` on, every moe_layer_freq-th where the config has that key.
inline void require_after_dense(const io::Config& config, Index layer, const char* dense_layers,
                                Index otherwise = -1) {
  bool dense = false;
  if (config.has_list("mlp_layer_types")) {
    dense = config.per_layer<std::string>("mlp_layer_types", layer) != "sparse";
  } else if (config.has_list("moe_layer_freq")) {
    dense = config.per_layer<Index>("moe_layer_freq", layer) == 0;
  } else if (config.has_list("is_moe_layer")) {
    dense = !config.per_layer<bool>("is_moe_layer", layer);
  } else if (dense_layers != nullptr) {
    const bool missing = otherwise >= 0 && !config.has(dense_layers);
    dense = layer < (missing ? otherwise : config.required<Index>(dense_layers)) ||
            layer % config.optional_in("moe_layer_freq", 1, 1, kMostLayers) != 0;
  }
  if (dense) fail_dense(config, layer);
}

/// topk_group of `groups` groups; of all of them, or of one, no choice at all.
inline void grouped(LayerSpec& spec, const io::Config& config, const std::string& groups, GroupScore score,
                    bool one_by_default = false) {
  const bool none = one_by_default && !config.has(groups) && !config.has("topk_group");
  const Index all = none ? 1 : config.required_in(groups, 1, kMostExperts);
  const Index best = none ? 1 : config.required_in("topk_group", 1, kMostExperts);
  if (all != best)
    spec.router.selection = GroupLimitedSelection({.groups = all, .kept = best, .score = score});
}

/// Sigmoid scores, chosen with a selection bias.
inline LayerSpec sigmoid_like(const char* model, const io::Config& config, Index layer,
                              const SigmoidKeys& keys) {
  LayerSpec spec = basic_spec(model, config, layer, keys.basic);
  if (keys.dense_layers != nullptr) {
    require_after_dense(config, layer, keys.dense_layers, keys.dense_otherwise);
  }
  spec.router.score = SigmoidScore{};
  select_with_bias(spec);
  if (!keys.groups.empty()) grouped(spec, config, keys.groups, GroupScore::top_two_sum, keys.one_group);
  if (keys.normalise.empty() || config.required<bool>(keys.normalise)) {
    shares(spec, keys.eps > 0 ? Normalise::sum_plus_eps : Normalise::sum, keys.eps);
  }
  if (keys.scale != nullptr)
    change_weights(spec, [&](GatherWeighting::Options& weights) {
      weights.scale =
          keys.scale_may_miss ? config.optional<double>(keys.scale, 1) : config.required<double>(keys.scale);
    });
  if (!keys.shared.empty()) {
    spec.shared_hidden = shared_width(config, keys.shared, spec.hidden);  // null in some configs: none
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
  require_text(config, "scoring_func", {"softmax"}, true);
  if (config.required<bool>("norm_topk_prob")) impl::shares(spec, Normalise::sum_plus_eps, 1e-20, true);
  impl::qwen_names(spec);
  spec.shared_hidden = shared_width(config, "n_shared_experts", spec.hidden);
  spec.shared_layouts = {projections("shared_experts.")};
  return spec;
}

/// Normalised weights are not scaled, as in the vendor's code (no release normalises).
inline LayerSpec describe_deepseek_v2(const io::Config& config, Index layer) {
  LayerSpec spec = describe_deepseek_v1(config, layer);
  spec.model = "deepseek_v2";
  require_text(config, "topk_method", {"greedy", "group_limited_greedy"});
  if (config.required<std::string>("topk_method") != "greedy") {
    impl::grouped(spec, config, "n_group", GroupScore::highest);
  } else {
    pass_over(config, {"n_group", "topk_group"});
  }
  change_weights(spec, [&](GatherWeighting::Options& weights) {
    weights.scale = config.required<double>("routed_scaling_factor");
    weights.scale_normalised = false;
  });
  return spec;
}

inline LayerSpec describe_deepseek_v3(const io::Config& config, Index layer) {
  require_text(config, "scoring_func", {"sigmoid"}, true);
  require_text(config, "topk_method", {"noaux_tc"}, true);
  return impl::sigmoid_like("deepseek_v3", config, layer, {});
}

/// K2 and K2-Thinking, Moonlight; K2.5 with its text_config.
inline LayerSpec describe_kimi_k2(const io::Config& config, Index layer) {
  LayerSpec spec = describe_deepseek_v3(text_config(config), layer);
  spec.model = "kimi_k2";
  return spec;
}

/// Mistral Small 4, also within Mistral3's config: softmax, groups by two best, no bias.
inline LayerSpec describe_mistral_4(const io::Config& config, Index layer) {
  const io::Config text = text_config(config);
  require_text(text, "model_type", {"mistral4"});
  LayerSpec spec = basic_spec("mistral_4", text, layer, {.experts = "n_routed_experts"});
  impl::require_after_dense(text, layer, "first_k_dense_replace", 0);
  impl::grouped(spec, text, "n_group", GroupScore::top_two_sum, true);
  if (text.required<bool>("norm_topk_prob")) impl::shares(spec, Normalise::sum_plus_eps, 1e-20);
  change_weights(spec, [&](GatherWeighting::Options& weights) {
    weights.scale = text.required<double>("routed_scaling_factor");
  });
  impl::qwen_names(spec);
  spec.shared_hidden = shared_width(text, "n_shared_experts", spec.hidden);
  spec.shared_layouts = {projections("shared_experts.")};
  return spec;
}

namespace impl {

inline LayerSpec kimi_linear_like(const char* model, const io::Config& config, Index layer,
                                  const char* activation) {
  require_text(config, "moe_router_activation_func", {"sigmoid"}, true);
  require_text(config, "topk_method", {"noaux_tc"}, true);
  const bool grouped = config.optional<bool>("use_grouped_topk", true);
  pass_over(config, {"num_expert_group", "topk_group"});  // of use_grouped_topk alone
  LayerSpec spec = sigmoid_like(model, config, layer,
                                {.basic = {.k = "num_experts_per_token", .activation = activation},
                                 .normalise = "moe_renormalize",
                                 .groups = grouped ? "num_expert_group" : "",
                                 .one_group = true,
                                 .shared = "num_shared_experts"});
  spec.prefixes = {"model.layers.{layer}.block_sparse_moe.",
                   "language_model.model.layers.{layer}.block_sparse_moe.", "model.layers.{layer}.mlp."};
  spec.expert_layouts = {numbered("experts.{expert}."), fused()};
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
               .limit = text.number_in("activation_situ_linear_beta", 1e-6, 1e6),
               .beta = text.number_in("activation_situ_beta", 1e-6, 1e6)};
  spec.latent = text.required_in("routed_expert_hidden_size", 1, kMostWidth);
  spec.latent_norm = {.enabled = text.required<bool>("latent_moe_use_norm"),
                      .eps = text.number_in("rms_norm_eps", 0, 1)};
  spec.tensors.push_back({"latent_in.weight", "routed_expert_down_proj.weight"});
  spec.tensors.push_back({"latent_out.weight", "routed_expert_up_proj.weight"});
  if (spec.latent_norm.enabled) spec.tensors.push_back({"latent_norm.weight", "routed_expert_norm.weight"});
  return spec;
}

/// GLM-4.5, 4.5V, 4.6, 4.7, 4.7-Flash and GLM-5's block.
inline LayerSpec describe_glm_4_5(const io::Config& config, Index layer) {
  const io::Config text = text_config(config);
  require_text(text, "scoring_func", {"sigmoid"}, true);
  require_text(text, "topk_method", {"noaux_tc"}, true);
  return impl::sigmoid_like("glm_4_5", text, layer, {.one_group = true});
}

/// Every layer, unless the config says otherwise.
inline LayerSpec describe_solar_open(const io::Config& config, Index layer) {
  require_text(config, "scoring_func", {"sigmoid"}, true);
  require_text(config, "topk_method", {"noaux_tc"}, true);
  return impl::sigmoid_like("solar_open", config, layer, {.dense_otherwise = 0, .one_group = true});
}

/// No shared experts; the scale is null in the release.
inline LayerSpec describe_mimo_v2_flash(const io::Config& config, Index layer) {
  require_text(config, "scoring_func", {"sigmoid"}, true);
  require_text(config, "topk_method", {"noaux_tc"}, true);
  return impl::sigmoid_like("mimo_v2_flash", config, layer, {.scale_may_miss = true, .one_group = true});
}

/// The bias beside the gate, whatever its name; always normalised.
inline LayerSpec describe_hy_v3(const io::Config& config, Index layer) {
  for (const char* const key : {"route_norm", "moe_router_use_sigmoid", "moe_router_enable_expert_bias"}) {
    require_flag(config, key, true, true);
  }
  LayerSpec spec = impl::sigmoid_like("hy_v3", config, layer,
                                      {.basic = {},
                                       .normalise = "",
                                       .scale = "router_scaling_factor",
                                       .groups = "",
                                       .shared = "num_shared_experts"});
  spec.tensors = {{"gate.weight", "router.gate.weight"},
                  {"gate.weight", "gate.weight"},
                  {"e_score_correction_bias", "expert_bias"},
                  {"e_score_correction_bias", "e_score_correction_bias"}};
  spec.shared_layouts = {projections("shared_mlp."), projections("shared_experts.")};
  return spec;
}

/// K-EXAONE.
inline LayerSpec describe_exaone_moe(const io::Config& config, Index layer) {
  require_text(config, "scoring_func", {"sigmoid"}, true);
  require_text(config, "topk_method", {"noaux_tc"}, true);
  LayerSpec spec = impl::sigmoid_like("exaone_moe", config, layer,
                                      {.basic = {}, .one_group = true, .shared = "num_shared_experts"});
  spec.tensors.push_back({"e_score_correction_bias", "e_score_correction_bias"});
  return spec;
}

/// A.X K1: DeepSeek-V3's block. The norm of its sum, post_mlp_layernorm, is outside.
inline LayerSpec describe_ax_k1(const io::Config& config, Index layer) {
  LayerSpec spec = describe_deepseek_v3(config, layer);
  spec.model = "ax_k1";
  spec.left_out = {"post_mlp_layernorm."};
  return spec;
}

/// Its release calls the scoring by the name of the choice, and has n_group null.
inline LayerSpec describe_dots_llm1(const io::Config& config, Index layer) {
  require_text(config, "scoring_func", {"sigmoid", "noaux_tc"}, true);
  require_text(config, "topk_method", {"noaux_tc"}, true);
  return impl::sigmoid_like("dots_llm1", config, layer, {.one_group = true});
}

/// The bias stands beside the gate; no eps, no scale.
inline LayerSpec describe_minimax_m2(const io::Config& config, Index layer) {
  require_text(config, "scoring_func", {"sigmoid"}, true);
  require_flag(config, "norm_topk_prob", true, true);
  LayerSpec spec =
      impl::sigmoid_like("minimax_m2", config, layer,
                         {.basic = {.experts = "num_local_experts", .hidden = "intermediate_size"},
                          .dense_layers = nullptr,
                          .normalise = "",
                          .scale = nullptr,
                          .groups = "",
                          .shared = "",
                          .eps = 0});
  impl::mixtral_names(spec);
  select_with_bias(spec, config.optional<bool>("use_routing_bias", true));
  if (selects_with_bias(spec)) spec.tensors.push_back({"e_score_correction_bias", "e_score_correction_bias"});
  return spec;
}

/// M2's router, scaled; a shared expert; gpt-oss's gates in both.
inline LayerSpec describe_minimax_m3(const io::Config& config, Index layer) {
  const io::Config text = text_config(config);
  require_text(text, "scoring_func", {"sigmoid"}, true);
  require_text(text, "hidden_act", {"swigluoai", "silu"}, true);  // the second as Transformers writes it
  LayerSpec spec = impl::sigmoid_like(
      "minimax_m3", text, layer,
      {.basic = {.experts = "num_local_experts", .hidden = "intermediate_size", .activation = nullptr},
       .dense_layers = nullptr,
       .normalise = "",
       .groups = "",
       .shared = "",
       .eps = 0});
  impl::require_after_dense(text, layer, nullptr);
  spec.gate = impl::clamped_quick_gelu(text);
  require_range("n_shared_experts of MiniMax-M3", text.optional<Index>("n_shared_experts", 1), 1, 1);
  spec.shared_hidden = text.required_in("shared_intermediate_size", 1, kMostWidth);
  spec.shared_layouts = {
      projections("shared_experts."),
      io::fused_glu("shared_experts.gate_up_proj.weight", "shared_experts.down_proj.weight", false)};
  spec.prefixes = {"language_model.model.layers.{layer}.block_sparse_moe.",
                   "model.layers.{layer}.block_sparse_moe.", "model.language_model.layers.{layer}.mlp.",
                   "model.layers.{layer}.mlp."};
  spec.tensors = {{"gate.weight", "gate.weight"}};
  spec.expert_layouts = {numbered("experts.{expert}."), fused()};
  select_with_bias(spec, text.optional<bool>("use_routing_bias", true));
  if (selects_with_bias(spec)) {
    spec.tensors.push_back({"e_score_correction_bias", "e_score_correction_bias"});
    spec.tensors.push_back({"e_score_correction_bias", "gate.e_score_correction_bias"});
  }
  return spec;
}

namespace impl {

/// A limit by layer; absent, null or 0: none, which is 0.
inline double limit_of_layer(const io::Config& config, const char* key, Index layer) {
  if (!config.has(key)) return 0;
  const io::Json::Array* const list = config.json().find(key)->array();
  const auto at = static_cast<std::size_t>(layer);
  if (list != nullptr && at < list->size() && (*list)[at].is(io::Json::Kind::null)) return 0;
  const double limit = config.per_layer<double>(key, layer);
  if (!(limit >= 0 && limit <= 1e6)) {
    fail<config_error>(config.where(key).c_str(), ": expected a limit in [0, 1e6] for layer ", layer,
                       ", got ", limit);
  }
  return limit;
}

inline AnyGate bounded_silu(double limit) {
  const AnyActivation silu{ActivationKind::silu};
  if (limit == 0) return {.act = silu};
  return {.kind = AnyGate::Kind::bounded, .act = silu, .limit = limit};
}

/// Step's layers with experts: a list, or their numbers as a text or a list.
inline void require_step_moe(const io::Config& config, Index layer) {
  if (config.has_list("mlp_layer_types")) return require_after_dense(config, layer, nullptr);
  bool moe = false;
  if (config.has_list("moe_layers_enum")) {
    for (const Index l : config.integers("moe_layers_enum")) moe = moe || l == layer;
  } else {
    const std::string own = std::to_string(layer);
    std::string_view rest = "";
    const std::string all = config.required<std::string>("moe_layers_enum");
    for (rest = all; !rest.empty();) {
      const std::size_t comma = (std::min)(rest.find(','), rest.size());
      std::string_view one = rest.substr(0, comma);
      while (one.starts_with(' ')) one.remove_prefix(1);
      while (one.ends_with(' ')) one.remove_suffix(1);
      moe = moe || one == own;
      rest.remove_prefix((std::min)(comma + 1, rest.size()));
    }
  }
  if (!moe) fail_dense(config, layer);
}

}  // namespace impl

/// Step-3.5 and 3.7: M2's router, scaled; a shared expert; in some layers what comes out of Silu is bounded.
inline LayerSpec describe_step_3(const io::Config& config, Index layer) {
  const io::Config text = text_config(config);
  require_text(text, "moe_router_activation", {"sigmoid"}, true);
  require_text(text, "hidden_act", {"silu"}, true);
  for (const char* const key : {"norm_expert_weight", "use_moe_router_bias"}) {
    require_flag(text, key, true, true);
  }
  const std::string experts = first_key(text, {"moe_num_experts", "n_routed_experts"});
  const std::string k = first_key(text, {"moe_top_k", "num_experts_per_tok"});
  LayerSpec spec =
      impl::sigmoid_like("step_3", text, layer,
                         {.basic = {.experts = experts.c_str(), .k = k.c_str(), .activation = nullptr},
                          .dense_layers = nullptr,
                          .normalise = "",
                          .scale = "moe_router_scaling_factor",
                          .groups = "",
                          .shared = "",
                          .eps = 0});
  impl::require_step_moe(text, layer);
  spec.gate = impl::bounded_silu(impl::limit_of_layer(text, "swiglu_limits", layer));
  spec.shared_act = impl::bounded_silu(impl::limit_of_layer(text, "swiglu_limits_shared", layer));
  spec.shared_hidden =
      text.required_in(first_key(text, {"share_expert_dim", "share_expert_dims"}), 1, kMostWidth);
  // The shared expert stands beside the block, so the prefix is the layer's.
  spec.prefixes = {"model.layers.{layer}.", "model.language_model.layers.{layer}."};
  spec.block = {"moe.", "share_expert.", "mlp."};
  spec.tensors = {{"gate.weight", "moe.gate.weight"},
                  {"gate.weight", "mlp.gate.weight"},
                  {"e_score_correction_bias", "moe.router_bias"},
                  {"e_score_correction_bias", "mlp.gate.e_score_correction_bias"}};
  spec.expert_layouts = {projections("moe."),  // [E, F, D] and [E, D, F]
                         io::fused_glu("mlp.experts.gate_up_proj", "mlp.experts.down_proj", false)};
  spec.shared_layouts = {projections("share_expert."), projections("mlp.shared_experts.")};
  return spec;
}

namespace impl {

/// The first generation of Ling: softmax, no groups, no bias, no scale.
inline LayerSpec bailing_v1(const io::Config& config, Index layer) {
  LayerSpec spec = basic_spec("bailing_v2", config, layer, {});
  require_after_dense(config, layer, "first_k_dense_replace");
  if (config.required<bool>("norm_topk_prob")) shares(spec, Normalise::sum_plus_eps, 1e-20, true);
  qwen_names(spec);
  spec.shared_hidden = shared_width(config, "num_shared_experts", spec.hidden);
  spec.shared_layouts = {projections("shared_experts.")};
  return spec;
}

}  // namespace impl

/// Ling, Ring (Bailing V2 and its hybrids, which Transformers 5 saves under Kimi-Linear's keys), LLaDA2; a
/// bailing_moe without a score_function is of the first generation.
inline LayerSpec describe_bailing_v2(const io::Config& config, Index layer) {
  const std::string type = config.optional<std::string>("model_type", "");
  if (type == "bailing_moe" && !config.has("score_function")) return impl::bailing_v1(config, layer);
  const bool hybrid = type == "bailing_hybrid";
  require_text(config, "score_function", {"sigmoid"}, hybrid);
  const std::string k = first_key(config, {"num_experts_per_tok", "num_experts_per_token"});
  LayerSpec spec =
      impl::sigmoid_like("bailing_v2", config, layer,
                         {.basic = {.k = k.c_str()},
                          .normalise = first_key(config, {"norm_topk_prob", "moe_renormalize"}),
                          .groups = first_key(config, {"n_group", "num_expert_group"}),
                          .shared = first_key(config, {"num_shared_experts", "n_shared_experts"})});
  change_weights(spec, [&](GatherWeighting::Options& weights) { weights.only_if_many = true; });
  select_with_bias(spec, hybrid ? config.optional<bool>("moe_router_enable_expert_bias", true)
                                : config.required<bool>("moe_router_enable_expert_bias"));
  spec.tensors = {{"gate.weight", "gate.weight"}};
  if (selects_with_bias(spec)) {
    spec.tensors.push_back({"e_score_correction_bias", "gate.expert_bias"});
    spec.tensors.push_back({"e_score_correction_bias", "gate.e_score_correction_bias"});
  }
  if (config.has("moe_shared_expert_intermediate_size")) {
    const Index width = config.required_in("moe_shared_expert_intermediate_size", 0, kMostWidth);
    if (spec.shared_hidden > 0) spec.shared_hidden = spec.shared_hidden / spec.hidden * width;
  }
  return spec;
}

/// Arcee Trinity.
inline LayerSpec describe_afmoe(const io::Config& config, Index layer) {
  require_text(config, "score_func", {"sigmoid"}, true);
  LayerSpec spec = impl::sigmoid_like("afmoe", config, layer,
                                      {.basic = {},
                                       .dense_layers = "num_dense_layers",
                                       .normalise = config.has("route_norm") ? "route_norm" : "",
                                       .scale = "route_scale",
                                       .one_group = true,
                                       .shared = "num_shared_experts"});
  spec.tensors = {{"gate.weight", "router.gate.weight"}, {"e_score_correction_bias", "expert_bias"}};
  return spec;
}

/// The sum plus 1e-6.
inline LayerSpec describe_lfm2_moe(const io::Config& config, Index layer) {
  LayerSpec spec = basic_spec("lfm2_moe", config, layer, {.silu_by_default = true});
  impl::require_after_dense(config, layer, "num_dense_layers");
  spec.router.score = SigmoidScore{};
  select_with_bias(spec, config.required<bool>("use_expert_bias"));
  if (config.required<bool>("norm_topk_prob")) impl::shares(spec, Normalise::sum_plus_eps, 1e-6);
  change_weights(spec, [&](GatherWeighting::Options& weights) {
    weights.scale = config.required<double>("routed_scaling_factor");
  });
  impl::qwen_names(spec, "feed_forward.");
  spec.expert_layouts = {numbered("experts.{expert}."), fused()};
  if (selects_with_bias(spec)) spec.tensors.push_back({"e_score_correction_bias", "expert_bias"});
  return spec;
}

namespace impl {

/// The kinds of layers are a list, or a text of a letter each; how many there are follows from either.
inline void require_nemotron_moe(const io::Config& config, Index layer) {
  bool moe = false;
  if (config.has_list("layers_block_type")) {
    require_layer_below(config, layer, config.list_size("layers_block_type"), "layers_block_type");
    moe = config.per_layer<std::string>("layers_block_type", layer) == "moe";
  } else {
    const std::string pattern = config.required<std::string>("hybrid_override_pattern");
    require_layer_below(config, layer, static_cast<Index>(pattern.size()), "hybrid_override_pattern");
    moe = pattern[static_cast<std::size_t>(layer)] == 'E';
  }
  if (!moe) fail_dense(config, layer);
}

}  // namespace impl

/// Nemotron 3, plain and latent: experts without a gate, ReLU squared.
inline LayerSpec describe_nemotron_3(const io::Config& config, Index layer) {
  impl::require_nemotron_moe(config, layer);
  LayerSpec spec = impl::sigmoid_like(
      "nemotron_3", config, layer,
      {.basic = {.experts = "n_routed_experts", .activation = "mlp_hidden_act", .layers = nullptr},
       .dense_layers = nullptr,
       .one_group = true});
  spec.gated = false;
  spec.activation = spec.gate.act;
  if (spec.shared_hidden > 0) {
    spec.shared_hidden = spec.shared_hidden / spec.hidden *
                         config.required_in("moe_shared_expert_intermediate_size", 1, kMostWidth);
  }
  spec.prefixes = {"backbone.layers.{layer}.mixer.", "model.layers.{layer}.mixer."};
  io::ExpertLayout stacked;  // [E, F, D] and [E, D, F], as Transformers 5 holds them
  stacked[io::ExpertMatrix::fc1].name = "experts.up_proj";
  stacked[io::ExpertMatrix::fc2].name = "experts.down_proj";
  spec.expert_layouts = {io::per_expert_mlp("experts.{expert}.", "up_proj", "down_proj"), stacked};
  spec.shared_layouts = {io::per_expert_mlp("shared_experts.", "up_proj", "down_proj")};
  spec.latent = config.optional_in("moe_latent_size", 0, 0, kMostWidth);  // null: the plain form
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
                               .layers = "num_layers",
                               .silu_by_default = true});
  require_text(config, "zero_expert_type", {"identity"}, true);
  require_flag(config, "norm_topk_prob", false, false);
  spec.copy_experts = config.required_in("zero_expert_num", 0, kMostExperts);
  spec.router.outputs = spec.outputs();
  select_with_bias(spec);
  change_weights(spec, [&](GatherWeighting::Options& weights) {
    weights.scale = config.required<double>("routed_scaling_factor");
  });
  impl::qwen_names(spec);
  spec.tensors = {{"gate.weight", "router.classifier.weight"},
                  {"e_score_correction_bias", "router.e_score_correction_bias"}};
  // Identity experts have weights in files that Transformers saves: fused, gate and up of theirs are there
  // behind the others, and not their down.
  spec.others_first = spec.experts;
  spec.others = spec.copy_experts;
  io::ExpertLayout& all = spec.expert_layouts.back();
  all[io::ExpertMatrix::gate].behind = all[io::ExpertMatrix::up].behind = spec.copy_experts;
  return spec;
}

/// sqrt(softplus) scores; the first num_hash_layers layers, or those that Transformers 5 lists as "hash_moe",
/// choose by token id; clamped gates.
inline LayerSpec describe_deepseek_v4(const io::Config& config, Index layer) {
  require_text(config, "scoring_func", {"sqrtsoftplus"});
  require_text(config, "topk_method", {"noaux_tc"}, true);
  LayerSpec spec = impl::sigmoid_like("deepseek_v4", config, layer, {.dense_layers = nullptr, .groups = ""});
  spec.router.score = SqrtSoftplusScore{};
  spec.gate = {.kind = AnyGate::Kind::clamped,
               .act = spec.gate.act,
               .limit = config.number_in("swiglu_limit", 1e-6, 1e6)};
  spec.prefixes = {"layers.{layer}.ffn.", "model.layers.{layer}.ffn.", "model.layers.{layer}.mlp."};
  spec.tensors = {{"gate.weight", "gate.weight"}};
  spec.expert_layouts = {numbered("experts.{expert}."), fused()};
  spec.shared_layouts = {numbered("shared_experts."), projections("shared_experts.")};
  if (config.has_list("mlp_layer_types")) {
    const std::string kind = config.per_layer<std::string>("mlp_layer_types", layer);
    spec.hash_table = kind == "hash_moe";
    if (!spec.hash_table && kind != "moe") fail_dense(config, layer);
    pass_over(config, {"num_hash_layers"});  // the list goes before it
  } else {
    spec.hash_table = layer < config.required<Index>("num_hash_layers");
  }
  select_with_bias(spec, !spec.hash_table);
  if (spec.hash_table) {
    spec.hash_tensor = "gate.tid2eid";
  } else {
    spec.tensors.push_back({"e_score_correction_bias", "gate.bias"});
    spec.tensors.push_back({"e_score_correction_bias", "gate.e_score_correction_bias"});
  }
  return spec;
}

}  // namespace models
MOE_NAMESPACE_END
