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

/// Names of Mixtral: block_sparse_moe.gate, experts.i.w1, w3, w2.
inline void mixtral_names(LayerSpec& spec) {
  spec.prefixes = {"model.layers.{layer}.block_sparse_moe."};
  spec.tensors = {{"gate.weight", "gate.weight"}};
  spec.expert_layouts = {numbered("experts.{expert}.")};
}

/// Names of Qwen: mlp.gate, mlp.experts.i.gate_proj ..., the wrappers' longer prefixes too.
inline void qwen_names(LayerSpec& spec, const char* block = "mlp.") {
  for (const char* const model : {"model.", "language_model.model.", "model.language_model."}) {
    spec.prefixes.push_back(std::string(model) + "layers.{layer}." + block);
  }
  spec.tensors = {{"gate.weight", "gate.weight"}};
  spec.expert_layouts = {projections("experts.{expert}.")};
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

/// Qwen's layer selection: every `decoder_sparse_step`-th but for a list.
inline void require_sparse_step(const io::Config& config, Index layer) {
  const Index step = config.required_in("decoder_sparse_step", 1, INT32_MAX);
  bool dense = (layer + 1) % step != 0;
  const Buffer<Index> only_mlp = config.integers("mlp_only_layers");
  for (const Index l : only_mlp) dense = dense || l == layer;
  if (dense) fail_dense(config, layer);
}

inline void qwen_shared(LayerSpec& spec, const io::Config& config) {
  spec.shared_hidden = config.required_in("shared_expert_intermediate_size", 1, INT32_MAX);
  spec.shared_gate = true;
  spec.tensors.push_back({"shared_expert_gate.weight", "shared_expert_gate.weight"});
  spec.shared_layouts = {projections("shared_expert.")};
}

/// `norm`: whether weights are normalised is in the config; else they always are.
inline LayerSpec qwen_like(const char* model, const io::Config& config, Index layer, bool norm) {
  LayerSpec spec = basic_spec(model, config, layer, {});
  if (!norm || config.required<bool>("norm_topk_prob")) shares(spec, Normalise::sum);
  qwen_names(spec);
  return spec;
}

inline LayerSpec granite_like(const char* model, const io::Config& config, Index layer, bool shared) {
  LayerSpec spec =
      basic_spec(model, config, layer, {.experts = "num_local_experts", .hidden = "intermediate_size"});
  spec.router.score = IdentityScore{};
  spec.router.weighting = SoftmaxWeighting{};
  spec.prefixes = {"model.layers.{layer}."};
  spec.tensors = {{"gate.weight", "block_sparse_moe.router.layer.weight"}};
  spec.expert_layouts = {
      io::fused_glu("block_sparse_moe.input_linear.weight", "block_sparse_moe.output_linear.weight", false)};
  spec.shared_hidden = shared ? config.required_in("shared_intermediate_size", 0, INT32_MAX) : 0;
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
  if (config.optional<Index>("shared_intermediate_size", 0) != 0) {
    fail<config_error>(config.where("shared_intermediate_size").c_str(),
                       ": expected 0, as in the releases; this preset has no shared expert");
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

/// Experts fused and transposed, [E, D, 2F] and [E, F, D]; always normalised.
inline LayerSpec describe_qwen3_vl_moe(const io::Config& config, Index layer) {
  const io::Config text = text_config(config);
  impl::require_sparse_step(text, layer);
  LayerSpec spec = impl::qwen_like("qwen3_vl_moe", text, layer, false);
  spec.expert_layouts = {io::fused_glu("experts.gate_up_proj", "experts.down_proj", true),
                         projections("experts.{expert}.")};
  return spec;
}

/// Experts fused, [E, 2F, D] and [E, D, F]; always normalised; every layer.
inline LayerSpec describe_qwen3_5_moe(const io::Config& config, Index layer) {
  const io::Config text = text_config(config);
  LayerSpec spec = impl::qwen_like("qwen3_5_moe", text, layer, false);
  impl::qwen_shared(spec, text);
  spec.expert_layouts = {io::fused_glu("experts.gate_up_proj", "experts.down_proj", false),
                         projections("experts.{expert}.")};
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
  const Index period = config.required_in("expert_layer_period", 1, INT32_MAX);
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
  spec.width = config.required_in("d_model", 1, INT32_MAX);
  spec.experts = ffn.required_in("moe_num_experts", 1, INT32_MAX / 2);
  spec.hidden = ffn.required_in("ffn_hidden_size", 1, INT32_MAX);
  spec.gate.act = activation_named(ffn.section("ffn_act_fn"), "name");
  spec.router = {.width = spec.width, .outputs = spec.experts, .k = ffn.required<Index>("moe_top_k")};
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
  require_layer(config, layer, "num_hidden_layers");
  LayerSpec spec;
  spec.model = "grok_1";
  spec.layer = layer;
  spec.width = config.required_in("hidden_size", 1, INT32_MAX);
  spec.experts = config.required_in("num_experts", 1, INT32_MAX / 2);
  spec.hidden = config.required_in("intermediate_size", 1, INT32_MAX);
  spec.gate.act = {ActivationKind::gelu_tanh};
  spec.router = {
      .width = spec.width, .outputs = spec.experts, .k = config.required<Index>("num_experts_per_tok")};
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
  if ((layer + 1) % config.required_in("moe_layer_frequency", 1, INT32_MAX) != 0) fail_dense(config, layer);
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
  if (layer % config.required_in("moe_every_n_layers", 1, INT32_MAX) != 1) fail_dense(config, layer);
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
  const Index layers = config.required<Index>("num_hidden_layers");
  const Index end = config.required<Index>("moe_layer_end_index");
  if ((layer + 1) % config.required_in("moe_layer_interval", 1, INT32_MAX) != 0 ||
      layer < config.required<Index>("moe_layer_start_index") || layer > (end == -1 ? layers - 1 : end)) {
    fail_dense(config, layer);
  }
  require_flag(config, "use_bias", false, false);
  impl::shares(spec, Normalise::max_with_eps, config.required<double>("moe_norm_min"));
  select_with_bias(spec);
  impl::qwen_names(spec);
  spec.tensors.push_back({"e_score_correction_bias", "moe_statics.e_score_correction_bias"});
  spec.shared_hidden = spec.hidden * config.required_in("moe_num_shared_experts", 0, 1024);
  spec.shared_layouts = {projections("shared_experts.")};
  return spec;
}

/// Without the capacity limit of the vendor's code, and normalised for K = 1 too, as Transformers runs it.
inline LayerSpec describe_hunyuan_a13b(const io::Config& config, Index layer) {
  LayerSpec spec = basic_spec("hunyuan_a13b", config, layer, {.k = "moe_topk"});
  if (layer < config.optional<Index>("moe_layer_num_skipped", 0)) fail_dense(config, layer);
  impl::shares(spec, Normalise::max_with_eps, impl::kFloatEps);
  impl::qwen_names(spec);
  spec.tensors = {{"gate.weight", "gate.wg.weight"}};
  if (config.required<bool>("use_mixed_mlp_moe")) {
    spec.shared_hidden = config.required_in("intermediate_size", 1, INT32_MAX / 1024) *
                         config.per_layer<Index>("num_shared_expert", layer);
    spec.shared_layouts = {projections("shared_mlp.")};
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
  spec.router.weighting = SparseMixerWeighting({.eps = config.required<double>("router_jitter_noise")});
  return spec;
}

inline LayerSpec describe_aria(const io::Config& config, Index layer) {
  const io::Config text = text_config(config);
  LayerSpec spec = basic_spec("aria", text, layer,
                              {.experts = "moe_num_experts", .k = "moe_topk", .hidden = "intermediate_size"});
  spec.router.score = IdentityScore{};
  spec.router.weighting = SoftmaxWeighting{};
  impl::qwen_names(spec);
  spec.tensors = {{"gate.weight", "router.weight"}};
  spec.expert_layouts = {io::fused_glu("experts.fc1.weight", "experts.fc2.weight", true)};
  spec.shared_hidden = spec.hidden * text.required_in("moe_num_shared_experts", 0, 1024);
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
      basic_spec("gpt_oss", config, layer, {.experts = "num_local_experts", .hidden = "intermediate_size"});
  spec.gate = {.kind = AnyGate::Kind::clamped,
               .act = {ActivationKind::quick_gelu},
               .limit = config.required<double>("swiglu_limit"),
               .offset = 1};
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
