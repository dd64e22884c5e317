// Presets of models whose weights are a softmax: over all experts and then chosen, or over the chosen logits.
#pragma once

#include <string>
#include <utility>

#include "moe/models/preset/spec.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN
namespace models {
namespace impl {

inline constexpr double kFloatEps = 0x1p-23;  // torch.finfo(float32).eps

/// Names of Mixtral: block_sparse_moe.gate, experts.i.w1, w3, w2; Transformers 5's own are Qwen's.
inline void mixtral_names(LayerSpec& spec) {
  spec.prefixes = {"model.layers.{layer}.block_sparse_moe.", "model.layers.{layer}.mlp."};
  spec.tensors = {{"gate.weight", "gate.weight"}};
  spec.expert_layouts = {numbered("experts.{expert}."), fused()};
}

/// Names of Qwen: mlp.gate, mlp.experts.i.gate_proj ..., the wrappers' longer prefixes too.
inline void qwen_names(LayerSpec& spec, const char* block = "mlp.") {
  for (const char* const model : {"model.", "language_model.model.", "model.language_model."}) {
    spec.prefixes.push_back(std::string(model) + "layers.{layer}." + block);
  }
  spec.tensors = {{"gate.weight", "gate.weight"}};
  spec.expert_layouts = {projections("experts.{expert}."), fused()};
}

inline void shares(LayerSpec& spec, Normalise normalise, double eps = 0, bool only_if_many = false) {
  change_weights(spec, [&](GatherWeighting::Options& weights) {
    weights.normalise = normalise;
    weights.eps = eps;
    weights.only_if_many = only_if_many;
  });
}

inline LayerSpec mixtral_like(const char* model, const io::Config& config, Index layer) {
  LayerSpec spec =
      basic_spec(model, config, layer, {.experts = "num_local_experts", .hidden = "intermediate_size"});
  shares(spec, Normalise::sum);
  mixtral_names(spec);
  return spec;
}

/// Qwen's layer selection: every `decoder_sparse_step`-th but for a list, which may be absent.
inline void require_sparse_step(const io::Config& config, Index layer) {
  require_layer(config, layer, "num_hidden_layers");
  const Index step = config.required_in("decoder_sparse_step", 1, kMostLayers);
  bool dense = (layer + 1) % step != 0;
  if (config.has("mlp_only_layers")) {
    const Buffer<Index> only_mlp = config.integers("mlp_only_layers");
    for (const Index l : only_mlp) dense = dense || l == layer;
  }
  if (dense) fail_dense(config, layer);
}

inline void qwen_shared(LayerSpec& spec, const io::Config& config) {
  spec.shared_hidden = config.required_in("shared_expert_intermediate_size", 1, kMostWidth);
  spec.shared_gate = true;
  spec.tensors.push_back({"shared_expert_gate.weight", "shared_expert_gate.weight"});
  spec.shared_layouts = {projections("shared_expert.")};
}

/// `norm`: whether weights are normalised is in the config; else they always are.
inline LayerSpec qwen_like(const char* model, const io::Config& config, Index layer, bool norm) {
  LayerSpec spec = basic_spec(model, config, layer, {});
  if (!norm) require_flag(config, "norm_topk_prob", true, true);
  if (!norm || config.required<bool>("norm_topk_prob")) shares(spec, Normalise::sum);
  qwen_names(spec);
  return spec;
}

/// gpt-oss's gates: clamped, QuickGelu, the up half plus 1.
inline AnyGate clamped_quick_gelu(const io::Config& config) {
  constexpr double kAlpha = 1.702;  // QuickGelu's
  if (const double alpha = config.optional<double>("swiglu_alpha", kAlpha); alpha != kAlpha) {
    fail<config_error>(config.where("swiglu_alpha").c_str(), ": expected ", kAlpha,
                       ", the only one that this preset computes, got ", alpha);
  }
  return {.kind = AnyGate::Kind::clamped,
          .act = {ActivationKind::quick_gelu},
          .limit = config.number_in("swiglu_limit", 1e-6, 1e6),
          .offset = 1};
}

inline LayerSpec granite_like(const char* model, const io::Config& config, Index layer, bool shared) {
  require_layer(config, layer, "num_hidden_layers");
  if (config.optional<Index>("num_local_experts", 1) == 0) fail_dense(config, layer);
  LayerSpec spec =
      basic_spec(model, config, layer, {.experts = "num_local_experts", .hidden = "intermediate_size"});
  spec.router.score = IdentityScore{};
  spec.router.weighting = SoftmaxWeighting{};
  // The shared MLP stands beside the block, so the prefix is the layer's.
  spec.prefixes = {"model.layers.{layer}."};
  spec.block = {"block_sparse_moe.", "shared_mlp."};
  spec.tensors = {{"gate.weight", "block_sparse_moe.router.layer.weight"},
                  {"gate.weight", "block_sparse_moe.router.weight"}};
  spec.expert_layouts = {
      io::fused_glu("block_sparse_moe.input_linear.weight", "block_sparse_moe.output_linear.weight", false),
      io::fused_glu("block_sparse_moe.experts.gate_up_proj", "block_sparse_moe.experts.down_proj", false)};
  spec.shared_hidden = shared ? config.required_in("shared_intermediate_size", 0, kMostWidth) : 0;
  if (spec.shared_hidden > 0) {
    spec.shared_layouts = {
        io::fused_glu("shared_mlp.input_linear.weight", "shared_mlp.output_linear.weight", false)};
  }
  return spec;
}

}  // namespace impl

inline LayerSpec describe_mixtral(const io::Config& config, Index layer) {
  return impl::mixtral_like("mixtral", config, layer);
}

/// MiniMax-Text-01 and M1: Mixtral's block; the residual's factors are outside.
inline LayerSpec describe_minimax_01(const io::Config& config, Index layer) {
  if (const Index shared = config.optional<Index>("shared_intermediate_size", 0); shared != 0) {
    fail<config_error>(config.where("shared_intermediate_size").c_str(),
                       ": expected 0, as in the releases, because this preset has no shared expert, got ",
                       shared);
  }
  return impl::mixtral_like("minimax_01", config, layer);
}

inline LayerSpec describe_qwen2_moe(const io::Config& config, Index layer) {
  LayerSpec spec = impl::qwen_like("qwen2_moe", config, layer, true);
  impl::require_sparse_step(config, layer);
  impl::qwen_shared(spec, config);
  return spec;
}

inline LayerSpec describe_qwen3_moe(const io::Config& config, Index layer) {
  impl::require_sparse_step(config, layer);
  return impl::qwen_like("qwen3_moe", config, layer, true);
}

inline LayerSpec describe_qwen3_next(const io::Config& config, Index layer) {
  LayerSpec spec = impl::qwen_like("qwen3_next", config, layer, true);
  impl::require_sparse_step(config, layer);
  impl::qwen_shared(spec, config);
  return spec;
}

/// Experts fused and transposed, [E, D, 2F] and [E, F, D]; Transformers 5 saves them as [E, 2F, D] and
/// [E, D, F] under the same names, told apart by both shapes; always normalised.
inline LayerSpec describe_qwen3_vl_moe(const io::Config& config, Index layer) {
  const io::Config text = text_config(config);
  impl::require_sparse_step(text, layer);
  LayerSpec spec = impl::qwen_like("qwen3_vl_moe", text, layer, false);
  spec.expert_layouts = {io::fused_glu("experts.gate_up_proj", "experts.down_proj", true), fused(),
                         projections("experts.{expert}.")};
  return spec;
}

/// The thinker's.
inline LayerSpec describe_qwen3_omni_moe(const io::Config& config, Index layer) {
  const io::Config text = text_config(config);
  impl::require_sparse_step(text, layer);
  LayerSpec spec = impl::qwen_like("qwen3_omni_moe", text, layer, true);
  spec.prefixes.insert(spec.prefixes.begin(), {"thinker.model.layers.{layer}.mlp.",
                                               "thinker.model.language_model.layers.{layer}.mlp."});
  return spec;
}

/// The talker's, of the section talker_config: with a shared expert, in every layer.
inline LayerSpec describe_qwen3_omni_talker(const io::Config& config, Index layer) {
  const io::Config text = text_config(config);
  LayerSpec spec = impl::qwen_like("qwen3_omni_talker", text, layer, true);
  impl::qwen_shared(spec, text);
  spec.prefixes = {"talker.model.layers.{layer}.mlp."};
  return spec;
}

/// Qwen3's block in every layer, or in those that a list calls sparse.
inline LayerSpec describe_mellum(const io::Config& config, Index layer) {
  LayerSpec spec = impl::qwen_like("mellum", config, layer, true);
  if (config.has_list("mlp_layer_types") &&
      config.per_layer<std::string>("mlp_layer_types", layer) != "sparse") {
    fail_dense(config, layer);
  }
  return spec;
}

/// Experts fused, [E, 2F, D] and [E, D, F]; always normalised; every layer.
inline LayerSpec describe_qwen3_5_moe(const io::Config& config, Index layer) {
  const io::Config text = text_config(config);
  LayerSpec spec = impl::qwen_like("qwen3_5_moe", text, layer, false);
  impl::qwen_shared(spec, text);
  spec.expert_layouts = {fused(), projections("experts.{expert}.")};
  return spec;
}

inline LayerSpec describe_olmoe(const io::Config& config, Index layer) {
  LayerSpec spec = basic_spec("olmoe", config, layer, {.hidden = "intermediate_size"});
  if (config.required<bool>("norm_topk_prob")) impl::shares(spec, Normalise::sum);
  impl::qwen_names(spec);
  return spec;
}

/// Never normalised; the router is called router.
inline LayerSpec describe_jamba(const io::Config& config, Index layer) {
  LayerSpec spec = basic_spec("jamba", config, layer, {.hidden = "intermediate_size"});
  const Index period = config.required_in("expert_layer_period", 1, kMostLayers);
  if (layer % period != config.required<Index>("expert_layer_offset") || spec.experts < 2) {
    fail_dense(config, layer);
  }
  impl::qwen_names(spec, "feed_forward.");
  spec.tensors = {{"gate.weight", "router.weight"}};
  return spec;
}

/// Divided by the p-norm of the chosen; tensors [E * F, D], the second layer [in, out].
inline LayerSpec describe_dbrx(const io::Config& config, Index layer) {
  const io::Config ffn = config.section("ffn_config");
  require_layer(config, layer, "n_layers");
  LayerSpec spec;
  spec.model = "dbrx";
  spec.layer = layer;
  spec.width = config.required_in("d_model", 1, kMostWidth);
  spec.experts = ffn.required_in("moe_num_experts", 1, kMostExperts);
  spec.hidden = ffn.required_in("ffn_hidden_size", 1, kMostWidth);
  spec.gate.act = ffn.has("ffn_act_fn") ? activation_named(ffn.section("ffn_act_fn"), "name")
                                        : AnyActivation{ActivationKind::silu};
  spec.router = {
      .width = spec.width, .outputs = spec.experts, .k = ffn.required_in("moe_top_k", 1, kMostExperts)};
  // Null means no norm; a missing key would too, without a word.
  if (ffn.json().find("moe_normalize_expert_weights") == nullptr)
    ffn.required<double>("moe_normalize_expert_weights");
  if (ffn.has("moe_normalize_expert_weights")) {
    impl::shares(spec, Normalise::p_norm);
    change_weights(spec, [&](GatherWeighting::Options& weights) {
      weights.p = ffn.required<double>("moe_normalize_expert_weights");
    });
  }
  spec.prefixes = {"transformer.blocks.{layer}.ffn."};
  spec.tensors = {{"gate.weight", "router.layer.weight"}};
  spec.expert_layouts = {io::stacked_glu("experts.mlp.w1", "experts.mlp.v1", "experts.mlp.w2")};
  return spec;
}

/// The maths of the released JAX code: no soft cap, no normalisation. Servers that cap the logits say so by
/// the key router_logit_softcapping.
inline LayerSpec describe_grok_1(const io::Config& config, Index layer) {
  require_text(config, "hidden_act", {"gelu", "gelu_new", "gelu_pytorch_tanh"}, true);  // all of them tanh's
  LayerSpec spec =
      basic_spec("grok_1", config, layer, {.hidden = "intermediate_size", .activation = nullptr});
  spec.gate.act = {ActivationKind::gelu_tanh};
  const double cap = config.optional<double>("router_logit_softcapping", 0);
  if (cap != 0) spec.router.map = SoftCap(cap);
  spec.prefixes = {"model.layers.{layer}.moe_block.", "transformer.decoder_layer.{layer}.moe_block."};
  spec.tensors = {{"gate.weight", "gate.weight"}};
  spec.expert_layouts = {io::per_expert_glu("experts.{expert}.", "linear", "linear_v", "linear_1")};
  return spec;
}

/// The routed part; the parallel dense MLP is outside.
inline LayerSpec describe_arctic(const io::Config& config, Index layer) {
  LayerSpec spec = impl::mixtral_like("arctic", config, layer);
  if ((layer + 1) % config.required_in("moe_layer_frequency", 1, kMostLayers) != 0) fail_dense(config, layer);
  impl::shares(spec, Normalise::sum, 0, true);
  return spec;
}

/// No gate, GELU by erf; one bias for the sum; the second layer [in, out].
inline LayerSpec describe_nomic_v2(const io::Config& config, Index layer) {
  LayerSpec spec = basic_spec("nomic_v2", config, layer,
                              {.width = "n_embd",
                               .k = "moe_top_k",
                               .hidden = "n_inner",
                               .activation = "activation_function",
                               .layers = "n_layer"});
  if (layer % config.required_in("moe_every_n_layers", 1, kMostLayers) != 1) fail_dense(config, layer);
  if (config.required<bool>("moe_normalize_expert_weights")) impl::shares(spec, Normalise::sum);
  spec.gated = false;
  spec.activation = spec.gate.act;
  spec.output_bias = true;
  spec.prefixes = {"encoder.layers.{layer}.mlp.", "bert.encoder.layers.{layer}.mlp."};
  spec.tensors = {{"gate.weight", "router.layer.weight"}, {"output.bias", "experts.bias"}};
  spec.expert_layouts = {io::stacked_mlp("experts.mlp.w1", "experts.mlp.w2")};
  return spec;
}

/// softmax, chosen with a bias, divided by max(sum, moe_norm_min).
inline LayerSpec describe_ernie_4_5(const io::Config& config, Index layer) {
  LayerSpec spec = basic_spec("ernie_4_5", config, layer, {.experts = "moe_num_experts", .k = "moe_k"});
  const Index end = config.optional<Index>("moe_layer_end_index", -1);  // -1: the last layer
  if ((layer + 1) % config.required_in("moe_layer_interval", 1, kMostLayers) != 0 ||
      layer < config.required<Index>("moe_layer_start_index") || (end != -1 && layer > end)) {
    fail_dense(config, layer);
  }
  require_flag(config, "use_bias", false, false);
  require_flag(config, "moe_use_aux_free", true, true);
  impl::shares(spec, Normalise::max_with_eps, config.number_in("moe_norm_min", 1e-12, 0, 1));
  select_with_bias(spec);
  impl::qwen_names(spec);
  spec.tensors.push_back({"e_score_correction_bias", "moe_statics.e_score_correction_bias"});
  spec.tensors.push_back({"e_score_correction_bias", "gate.moe_statics.e_score_correction_bias"});
  spec.shared_hidden = shared_width(config, "moe_num_shared_experts", spec.hidden);
  spec.shared_layouts = {projections("shared_experts.")};
  return spec;
}

/// ERNIE-4.5-VL's block for rows of text, or, with "moe_modality" "vision" in the config, which no release
/// has, for rows of pictures: as many other experts, behind those of text in the releases' numbers, and a
/// router of their own, whose matrix lies there transposed. Shared experts are common and have the width of
/// text.
inline LayerSpec describe_ernie_4_5_vl(const io::Config& config, Index layer) {
  const io::Config text = text_config(config);
  const char* const kModality = "moe_modality";
  const io::Config& owner = config.has(kModality) ? config : text;
  require_text(owner, kModality, {"text", "vision"}, true);
  const bool vision = owner.optional<std::string>(kModality, "text") == "vision";
  const Index own = vision ? 1 : 0;
  require_layer(text, layer, "num_hidden_layers");
  bool dense = false;
  if (text.has_list("mlp_layer_types")) {
    dense = text.per_layer<std::string>("mlp_layer_types", layer) != "sparse";
  } else {
    const Index end =
        text.has("moe_layer_end_index") ? text.per_layer<Index>("moe_layer_end_index", own) : -1;
    dense = (layer + 1) % text.optional_in("moe_layer_interval", 1, 1, kMostLayers) != 0 ||
            layer < text.per_layer<Index>("moe_layer_start_index", own) || (end != -1 && layer > end);
  }
  if (dense) fail_dense(text, layer);
  require_flag(text, "use_bias", false, false);
  require_flag(text, "moe_use_aux_free", true, true);
  LayerSpec spec;
  spec.model = "ernie_4_5_vl";
  spec.layer = layer;
  spec.width = text.required_in("hidden_size", 1, kMostWidth);
  const std::string experts = experts_key(text, "moe_num_experts");
  spec.experts = text.per_layer_in(experts, own, 1, kMostExperts);
  if (const Index other = text.per_layer_in(experts, 1 - own, 1, kMostExperts); other != spec.experts) {
    fail<config_error>(text.where(experts).c_str(), ": expected as many experts for text as for vision, got ",
                       spec.experts, " and ", other);
  }
  spec.hidden = text.per_layer_in("moe_intermediate_size", own, 1, kMostWidth);
  spec.gate.act = activation_named(text, "hidden_act");
  spec.router.width = spec.width;
  spec.router.outputs = spec.experts;
  spec.router.k = text.required_in(first_key(text, {"moe_k", "num_experts_per_tok"}), 1, kMostExperts);
  impl::shares(spec, Normalise::max_with_eps, text.number_in("moe_norm_min", 1e-12, 0, 1));
  select_with_bias(spec);
  spec.shared_hidden = shared_width(text, "moe_num_shared_experts",
                                    text.per_layer_in("moe_intermediate_size", 0, 1, kMostWidth));
  spec.shared_layouts = {projections("shared_experts.")};
  const std::string part = vision ? "vision_moe." : "text_moe.";  // in Transformers' own names
  spec.prefixes = {"model.layers.{layer}.mlp.", "model.language_model.layers.{layer}.mlp."};
  spec.tensors = {{"gate.weight", vision ? "gate.weight_1" : "gate.weight", true},
                  {"gate.weight", part + "gate.weight"},
                  {"e_score_correction_bias", "moe_statics.e_score_correction_bias", false, own},
                  {"e_score_correction_bias", part + "gate.moe_statics.e_score_correction_bias"}};
  io::ExpertLayout each = projections("experts.{expert}.");
  for (Index p = 0; p < io::kParts; ++p) each.matrix[p].first = own * spec.experts;
  spec.expert_layouts = {each,
                         io::fused_glu(part + "experts.gate_up_proj", part + "experts.down_proj", false)};
  spec.left_out = {vision ? "gate.weight" : "gate.weight_1", vision ? "text_moe." : "vision_moe."};
  spec.others_first = (1 - own) * spec.experts;
  spec.others = spec.experts;
  return spec;
}

/// Without the capacity limit of the vendor's code, and normalised for K = 1 too, as Transformers runs it,
/// which reads one width and has always one shared expert of it.
inline LayerSpec describe_hunyuan_a13b(const io::Config& config, Index layer) {
  const bool widths = config.has("moe_intermediate_size");
  LayerSpec spec =
      basic_spec("hunyuan_a13b", config, layer,
                 {.k = "moe_topk", .hidden = widths ? "moe_intermediate_size" : "intermediate_size"});
  if (layer < config.optional<Index>("moe_layer_num_skipped", 0)) fail_dense(config, layer);
  require_flag(config, "norm_topk_prob", true, true);
  require_flag(config, "group_limited_greedy", false, false);
  pass_over(config, {"n_group", "topk_group"});  // of group_limited_greedy alone
  impl::shares(spec, Normalise::max_with_eps, impl::kFloatEps);
  impl::qwen_names(spec);
  spec.tensors = {{"gate.weight", "gate.wg.weight"}};
  if (config.optional<bool>("use_mixed_mlp_moe", true)) {
    const Index shared =
        config.has("num_shared_expert") ? config.per_layer_in("num_shared_expert", layer, 0, kMostShared) : 1;
    spec.shared_hidden = config.per_layer_in("intermediate_size", layer, 1, kMostWidth) * shared;
    spec.shared_layouts = {projections("shared_mlp.")};
  } else {
    pass_over(config, {"num_shared_expert"});
  }
  return spec;
}

/// SparseMixer; its threshold is the config's router_jitter_noise.
inline LayerSpec describe_phi_moe(const io::Config& config, Index layer) {
  LayerSpec spec = impl::mixtral_like("phi_moe", config, layer);
  if (spec.router.k != 2) {
    fail<config_error>(config.where("num_experts_per_tok").c_str(),
                       ": expected 2, which SparseMixer is, got ", spec.router.k);
  }
  spec.router.score = IdentityScore{};
  spec.router.weighting = SparseMixerWeighting({.eps = config.number_in("router_jitter_noise", 0, 1)});
  spec.tensors.push_back({"gate.weight", "router.weight"});
  return spec;
}

inline LayerSpec describe_aria(const io::Config& config, Index layer) {
  const io::Config text = text_config(config);
  LayerSpec spec = basic_spec("aria", text, layer,
                              {.experts = "moe_num_experts",
                               .k = "moe_topk",
                               .hidden = "intermediate_size",
                               .silu_by_default = true});
  spec.router.score = IdentityScore{};
  spec.router.weighting = SoftmaxWeighting{};
  impl::qwen_names(spec);
  spec.tensors = {{"gate.weight", "router.weight"}};
  spec.expert_layouts = {io::fused_glu("experts.fc1.weight", "experts.fc2.weight", true),
                         io::fused_glu("experts.gate_up_proj", "experts.down_proj", true)};
  spec.shared_hidden = shared_width(text, "moe_num_shared_experts", spec.hidden, 2);
  spec.shared_layouts = {projections("shared_experts.")};
  return spec;
}

/// The block's output; the factor residual_multiplier is outside.
inline LayerSpec describe_granite(const io::Config& config, Index layer) {
  return impl::granite_like("granite_moe", config, layer, false);
}
/// With the shared MLP of the layer added.
inline LayerSpec describe_granite_shared(const io::Config& config, Index layer) {
  return impl::granite_like("granite_moe_shared", config, layer, true);
}

/// Chosen by logits: weights are their softmax, or sigmoids, or shares of those. The sum may be the mean of
/// routed and shared experts.
inline LayerSpec describe_cohere2_moe(const io::Config& config, Index layer) {
  LayerSpec spec = basic_spec("cohere2_moe", config, layer, {.hidden = "intermediate_size"});
  const bool listed = config.has_list("mlp_layer_types");
  if (listed ? config.per_layer<std::string>("mlp_layer_types", layer) != "sparse"
             : layer < config.optional<Index>("first_k_dense_replace", 0)) {
    fail_dense(config, layer);
  }
  spec.shared_hidden = shared_width(config, "num_shared_experts", spec.hidden);
  const char* const combine = "shared_expert_combination_strategy";
  if (spec.shared_hidden > 0) {
    require_text(config, combine, {"sum", "average"});
    spec.shared_scale = config.required<std::string>(combine) == "average" ? 0.5 : 1;
    spec.shared_layouts = {projections("shared_experts.")};
  } else {
    pass_over(config, {combine});
  }
  const char* const select = "expert_selection_fn";
  require_text(config, select, {"softmax", "sigmoid"});
  spec.router.score = IdentityScore{};
  if (config.required<std::string>(select) == "sigmoid") {
    spec.router.weighting =
        SigmoidWeighting({.shares = config.required<bool>("norm_topk_prob"), .scale = spec.shared_scale});
  } else {
    pass_over(config, {"norm_topk_prob"});
    spec.router.weighting = SoftmaxWeighting({.scale = spec.shared_scale});
  }
  impl::qwen_names(spec);
  return spec;
}

inline LayerSpec describe_jetmoe(const io::Config& config, Index layer) {
  LayerSpec spec = basic_spec(
      "jetmoe", config, layer,
      {.experts = "num_local_experts", .hidden = "intermediate_size", .activation = "activation_function"});
  spec.router.score = IdentityScore{};
  spec.router.weighting = SoftmaxWeighting{};
  spec.output_bias = true;
  spec.prefixes = {"model.layers.{layer}.mlp."};
  spec.tensors = {{"gate.weight", "router.layer.weight"}, {"output.bias", "bias"}};
  spec.expert_layouts = {io::fused_glu("input_linear.weight", "output_linear.weight", false)};
  return spec;
}

/// Clamped gates, gate and up interleaved, biases everywhere; experts in MXFP4, or transposed in bf16.
inline LayerSpec describe_gpt_oss(const io::Config& config, Index layer) {
  LayerSpec spec =
      basic_spec("gpt_oss", config, layer,
                 {.experts = "num_local_experts", .hidden = "intermediate_size", .activation = nullptr});
  require_text(config, "hidden_act", {"silu"}, true);
  spec.gate = impl::clamped_quick_gelu(config);
  spec.router.scorer = LinearScorerOptions{.bias = true};
  spec.router.score = IdentityScore{};
  spec.router.weighting = SoftmaxWeighting{};
  spec.expert_bias = true;
  spec.prefixes = {"model.layers.{layer}.mlp."};
  spec.tensors = {{"gate.weight", "router.weight"}, {"gate.bias", "router.bias"}};
  const auto layout = [](bool packed) {
    using io::ExpertMatrix;
    const std::string tail = packed ? "_blocks" : "";
    io::ExpertLayout out = io::fused_glu("experts.gate_up_proj" + tail, "experts.down_proj" + tail, !packed,
                                         io::Outputs::even, io::Outputs::odd);
    out.bias_of(ExpertMatrix::gate) = {.name = "experts.gate_up_proj_bias", .outputs = io::Outputs::even};
    out.bias_of(ExpertMatrix::up) = {.name = "experts.gate_up_proj_bias", .outputs = io::Outputs::odd};
    out.bias_of(ExpertMatrix::down) = {.name = "experts.down_proj_bias"};
    for (const ExpertMatrix part : {ExpertMatrix::gate, ExpertMatrix::up, ExpertMatrix::down}) {
      if (!packed) break;
      out[part].encoding = io::Encoding::mxfp4;
      out[part].scales =
          part == ExpertMatrix::down ? "experts.down_proj_scales" : "experts.gate_up_proj_scales";
    }
    return out;
  };
  spec.expert_layouts = {layout(true), layout(false)};
  return spec;
}

}  // namespace models
MOE_NAMESPACE_END
