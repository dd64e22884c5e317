// Presets of the rest: weights on the input (Llama 4), a normed router input (Gemma 4), capacity limits
// (Switch, NLLB), cosine routers (Swin-MoE, Tutel), experts that cost nothing (MoE++).
#pragma once

#include <cmath>
#include <string>
#include <utility>

#include "moe/models/preset/softmax.hpp"
#include "moe/models/preset/spec.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN
namespace models {

inline LayerSpec describe_llama_4(const io::Config& config, Index layer) {
  const io::Config text = text_config(config);
  LayerSpec spec =
      basic_spec("llama_4", text, layer, {.experts = "num_local_experts", .hidden = "intermediate_size"});
  bool sparse = false;
  if (text.has_list("moe_layers")) {
    for (const Index l : text.integers("moe_layers")) sparse = sparse || l == layer;
  } else {
    sparse = (layer + 1) % text.required_in("interleave_moe_layer_step", 1, kMostLayers) == 0;
  }
  if (!sparse) fail_dense(text, layer);
  spec.router.score = IdentityScore{};
  spec.router.weighting = SigmoidWeighting{};
  spec.router.place = WeightPlace::input;
  impl::qwen_names(spec, "feed_forward.");
  spec.tensors = {{"gate.weight", "router.weight"}};
  spec.expert_layouts = {io::fused_glu("experts.gate_up_proj", "experts.down_proj", true)};
  spec.shared_hidden = spec.hidden;
  spec.shared_layouts = {projections("shared_expert.")};
  return spec;
}

/// The routed part. Rows of the experts are normed outside; the router reads the residual (router_x) and
/// norms it itself.
inline LayerSpec describe_gemma_4(const io::Config& config, Index layer) {
  const io::Config text = text_config(config);
  require_layer(text, layer, "num_hidden_layers");
  if (!text.optional<bool>("enable_moe_block", false)) fail_dense(text, layer);
  LayerSpec spec =
      basic_spec("gemma_4", text, layer, {.k = "top_k_experts", .activation = "hidden_activation"});
  impl::shares(spec, Normalise::sum);
  spec.router.norm = {.enabled = true,
                      .eps = text.number_in("rms_norm_eps", 0, 1),
                      .factor = 1 / std::sqrt(static_cast<double>(spec.width))};
  spec.router.per_expert_scale = true;
  impl::qwen_names(spec, "");
  spec.block = {"router.", "experts."};  // the prefix is the layer's
  spec.tensors = {{"gate.weight", "router.proj.weight"},
                  {"norm.scale", "router.scale"},
                  {"per_expert_scale", "router.per_expert_scale"}};
  spec.expert_layouts = {fused()};
  return spec;
}

/// One expert, its probability as weight; at most expert_capacity tokens of a sequence for an expert: give
/// the sequences as segments.
inline LayerSpec describe_switch(const io::Config& config, Index layer) {
  LayerSpec spec;
  spec.model = "switch";
  spec.layer = layer;
  const Index step = config.required_in("encoder_sparse_step", 1, kMostLayers);
  require_layer(config, layer, "num_layers");
  if (step > 1 && layer % step != 1) fail_dense(config, layer);
  require_flag(config, "is_gated_act", false, false);
  spec.width = config.required_in("d_model", 1, kMostWidth);
  spec.experts = config.required_in("num_experts", 1, kMostExperts);
  spec.hidden = config.required_in("d_ff", 1, kMostWidth);
  spec.gated = false;
  spec.activation = activation_named(config, "dense_act_fn");
  const bool router_bias = config.required<bool>("router_bias");
  spec.router = {.width = spec.width,
                 .outputs = spec.experts,
                 .k = 1,
                 .scorer = LinearScorerOptions{.bias = router_bias}};
  spec.capacity = FixedCapacity({.tokens_per_expert = config.required_in("expert_capacity", 1, INT32_MAX)});
  spec.prefixes = {"encoder.block.{layer}.layer.1.mlp.", "decoder.block.{layer}.layer.2.mlp."};
  spec.tensors = {{"gate.weight", "router.classifier.weight"}};
  if (router_bias) spec.tensors.push_back({"gate.bias", "router.classifier.bias"});
  spec.expert_layouts = {io::per_expert_mlp("experts.expert_{expert}.", "wi", "wo")};
  return spec;
}

/// Two experts, results times 1 - moe_token_dropout. The released evaluation drops no token
/// (moe_eval_capacity_token_fraction 1); a smaller fraction is refused, because weights are normalised after
/// dropping.
inline LayerSpec describe_nllb_moe(const io::Config& config, Index layer) {
  LayerSpec spec;
  spec.model = "nllb_moe";
  spec.layer = layer;
  const Index step = config.required_in("encoder_sparse_step", 1, kMostLayers);
  require_layer(config, layer, "encoder_layers");
  if ((layer + 1) % step != 0) fail_dense(config, layer);
  require_text(config, "second_expert_policy", {"all"});
  if (config.required<double>("moe_eval_capacity_token_fraction") != 1) {
    fail<config_error>(config.where("moe_eval_capacity_token_fraction").c_str(),
                       ": expected 1, for which no token is dropped, got ",
                       config.required<double>("moe_eval_capacity_token_fraction"));
  }
  spec.width = config.required_in("d_model", 1, kMostWidth);
  spec.experts = config.required_in("num_experts", 2, kMostExperts);
  spec.hidden = config.required_in("encoder_ffn_dim", 1, kMostWidth);
  spec.gated = false;
  spec.activation = activation_named(config, "activation_function");
  spec.expert_bias = true;
  const bool router_bias = config.required<bool>("router_bias");
  spec.router = {.width = spec.width,
                 .outputs = spec.experts,
                 .k = 2,
                 .scorer = LinearScorerOptions{.bias = router_bias}};
  impl::shares(spec, Normalise::max_with_eps, impl::kFloatEps);
  change_weights(spec, [&](GatherWeighting::Options& weights) {
    weights.scale = 1 - config.number_in("moe_token_dropout", 0, 1);
  });
  spec.prefixes = {"model.encoder.layers.{layer}.ffn.", "model.decoder.layers.{layer}.ffn."};
  spec.tensors = {{"gate.weight", "router.classifier.weight"}};
  if (router_bias) spec.tensors.push_back({"gate.bias", "router.classifier.bias"});
  io::ExpertLayout layout = io::per_expert_mlp("experts.expert_{expert}.", "fc1", "fc2");
  layout.bias_of(io::ExpertMatrix::fc1).name = "experts.expert_{expert}.fc1.bias";
  layout.bias_of(io::ExpertMatrix::fc2).name = "experts.expert_{expert}.fc2.bias";
  spec.expert_layouts = {layout};
  return spec;
}

/// Swin-MoE by Tutel. Not a Transformers model: the keys are Swin-MoE's options. Layer: the block's number in
/// its stage, which is the first that has experts there. A batch is one segment.
inline LayerSpec describe_swin_moe(const io::Config& config, Index layer) {
  LayerSpec spec;
  spec.model = "swin_moe";
  spec.layer = layer;
  require_range("layer", layer, 0, kMostLayers);  // no key says how many there are
  spec.width = config.required_in("hidden_size", 1, kMostWidth);
  spec.experts = config.required_in("num_local_experts", 1, kMostExperts);
  const double hidden = config.number_in("mlp_ratio", 1e-6, 1e6) * static_cast<double>(spec.width);
  spec.hidden = static_cast<Index>(std::llround(hidden));
  require_range("mlp_ratio times hidden_size", spec.hidden, 1, kMostWidth);
  require_flag(config, "use_bpr", false, false);
  require_flag(config, "mlp_fc2_bias", true, true);
  spec.gated = false;
  spec.activation = {ActivationKind::gelu_erf};
  spec.expert_bias = true;
  const bool cosine = config.required<bool>("cosine_router");
  spec.router = {
      .width = spec.width, .outputs = spec.experts, .k = config.required_in("top_value", 1, kMostExperts)};
  if (cosine) {
    spec.router.scorer =
        CosineScorerOptions{.projected = config.required_in("cosine_router_dim", 1, kMostWidth)};
  }
  if (config.required<bool>("normalize_gate"))
    impl::shares(spec, Normalise::max_with_eps, impl::kFloatEps, true);
  // Tutel's rule: K floor(factor ceil(T / E)) tokens for an expert; a factor of 0 or less means no limit.
  const double factor = config.required<double>("capacity_factor");
  if (factor > 0) spec.capacity = FixedCapacity({.factor = factor, .choices = spec.router.k});
  for (const char* const stage : {"0", "1", "2", "3"}) {
    spec.prefixes.push_back(std::string("layers.") + stage + ".blocks.{layer}.mlp._moe_layer.");
  }
  const std::string gate = "gates.0.";
  if (cosine) {
    spec.tensors = {{"cosine_projector.weight", gate + "cosine_projector.weight"},
                    {"cosine_projector.bias", gate + "cosine_projector.bias"},
                    {"sim_matrix", gate + "sim_matrix"},
                    {"temperature", gate + "temperature"}};
  } else {
    spec.tensors = {{"gate.weight", gate + "wg.weight"}};
  }
  io::ExpertLayout layout;
  layout[io::ExpertMatrix::fc1] = {.name = "experts.batched_fc1_w"};
  layout[io::ExpertMatrix::fc2] = {.name = "experts.batched_fc2_w", .transposed = true};
  layout.bias_of(io::ExpertMatrix::fc1).name = "experts.batched_fc1_bias";
  layout.bias_of(io::ExpertMatrix::fc2).name = "experts.batched_fc2_bias";
  spec.expert_layouts = {layout};
  spec.left_out = {"_num_global_experts"};  // Tutel's count of experts
  return spec;
}

/// Experts 0 to E - 5 are feed-forward, then two constant, a copy and a zero expert. A router takes over the
/// logits of the layer below and hands its own on: LayerOutput::carry is the column `carry` of the next.
inline LayerSpec describe_moe_plus_plus(const io::Config& config, Index layer) {
  constexpr Index kConstants = 2, kCopies = 1, kZeros = 1;
  require_layer(config, layer, "num_hidden_layers");
  if ((layer + 1) % config.required_in("moe_expert_interval", 1, kMostLayers) != 0) fail_dense(config, layer);
  require_flag(config, "moe_use_mixtral_gating", false, false);
  LayerSpec spec;
  spec.model = "moe_plus_plus";
  spec.layer = layer;
  spec.width = config.required_in("hidden_size", 1, kMostWidth);
  const Index experts = config.has_list("num_experts") ? config.per_layer<Index>("num_experts", 0)
                                                       : config.required<Index>("num_experts");
  require_range("experts of MoE++", experts, kConstants + kCopies + kZeros + 1, kMostExperts);
  spec.experts = experts - kConstants - kCopies - kZeros;
  spec.constant_experts = kConstants;
  spec.copy_experts = kCopies;
  spec.zero_experts = kZeros;
  spec.hidden = config.required_in("intermediate_size", 1, kMostWidth);
  spec.gate.act = activation_named(config, "hidden_act");
  constexpr Index kTopK = 2;  // no key
  const bool two_layers = config.required<bool>("moe_2layer_gate");
  spec.router = {.width = spec.width,
                 .outputs = experts,
                 .k = kTopK,
                 .gating_residual = true,
                 .weighting = LeadingWeighting({.leading = experts - kZeros})};
  if (two_layers) spec.router.scorer = TwoLayerScorerOptions{.hidden = 8 * experts};
  if (config.required<bool>("moe_use_logits_norm")) {
    spec.router.map = LogitSpread(config.required<double>("moe_gate_norm_std"));
  }
  if (!config.required<bool>("moe_feature_no_mul_topk")) spec.input_scale = kTopK;
  spec.prefixes = {"model.layers.{layer}.mlp.moe."};
  if (two_layers) {
    spec.tensors = {{"gate.0.weight", "gate.wg.0.weight"}, {"gate.2.weight", "gate.wg.2.weight"}};
  } else {
    spec.tensors = {{"gate.weight", "gate.wg.weight"}};
  }
  spec.tensors.push_back({"gate_map.weight", "gate.gate_map.weight"});
  for (Index e = spec.experts; e < spec.experts + kConstants; ++e) {
    const std::string ours = "experts." + std::to_string(e), theirs = "experts.experts." + std::to_string(e);
    spec.tensors.push_back({ours + ".constant", theirs + ".constant"});
    spec.tensors.push_back({ours + ".constant_gate.weight", theirs + ".wg.weight"});
  }
  spec.expert_layouts = {projections("experts.experts.{expert}.")};
  return spec;
}

}  // namespace models
MOE_NAMESPACE_END
