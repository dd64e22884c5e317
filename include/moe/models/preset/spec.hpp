// What a released model's MoE layer consists of, as data: a LayerSpec, read from the model's config.json by
// its Preset. Strict: a key that decides the maths and is missing is an error that names it. The models
// themselves: moe/models/preset/registry.hpp.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moe/core/check.hpp"
#include "moe/io/json/config.hpp"
#include "moe/io/layout.hpp"
#include "moe/kernel/gate.hpp"
#include "moe/layer/frame/latent.hpp"
#include "moe/plan/capacity/any.hpp"
#include "moe/router/runtime/token_choice_options.hpp"

MOE_NAMESPACE_BEGIN
namespace models {

/// A parameter or a state of the layer and the tensor that holds it, named behind the layer's prefix.
struct NamedTensor {
  std::string ours;
  std::string theirs;
  bool turned = false;  // a matrix that is transposed there
  Index row = -1;       // ours is this row of theirs; -1: all of it
};

/// One layer, without its weights.
struct LayerSpec {
  std::string model;  // the preset
  Index layer = 0;
  Index width = 0;  // D

  TokenChoiceOptions router{};
  bool hash_table = false;  // experts by token id, from the table of `hash_tensor`
  std::string hash_tensor{};

  bool gated = true;           // gate, up and down; else fc1 and fc2
  AnyGate gate{};              // of gated experts
  AnyActivation activation{};  // of the others
  Index experts = 0;           // feed-forward ones, the first ids
  Index hidden = 0;            // F
  bool expert_bias = false;
  Index constant_experts = 0;  // behind them, then copies, then zeros
  Index copy_experts = 0;
  Index zero_experts = 0;

  Index shared_hidden = 0;  // F of the shared expert; 0: none
  bool shared_gate = false;
  double shared_scale = 1;
  std::optional<AnyGate> shared_act{};  // its gate or activation, where that is not the routed experts'

  double input_scale = 1;  // experts read rows times this
  bool output_bias = false;
  Index latent = 0;  // width of the latent space; 0: none
  LatentNorm latent_norm{};
  AnyCapacity capacity = Dropless{};

  // Where the weights are. "{layer}" is the layer.
  std::vector<std::string> prefixes{};  // the first under which the router is found
  // Everything but experts; the router's matrix first. Of several names for one of ours the first that is
  // found.
  std::vector<NamedTensor> tensors{};
  std::vector<io::ExpertLayout> expert_layouts{};  // the first whose tensors are found, with their shapes
  std::vector<io::ExpertLayout> shared_layouts{};
  /// Beginnings of names behind the prefix: every tensor of the block must be read. None: all are the
  /// block's.
  std::vector<std::string> block{};
  /// But for those that begin so, which the model's own code does not compute with either, or the caller
  /// does.
  std::vector<std::string> left_out{};
  /// And for those of experts "experts.<e>." of such numbers.
  Index others_first = 0;
  Index others = 0;

  /// Width that the experts see.
  Index expert_width() const noexcept { return latent > 0 ? latent : width; }
  Index outputs() const noexcept { return experts + constant_experts + copy_experts + zero_experts; }
};

/// How a spec whose weights are gathered scores normalises them; of any other, the defaults.
inline GatherWeighting::Options weights_of(const LayerSpec& spec) {
  const GatherWeighting* const gather = spec.router.weighting.get_if<GatherWeighting>();
  return gather == nullptr ? GatherWeighting::Options{} : gather->options();
}

struct Preset {
  const char* name;
  const char* model_types[6];  // of config.json; null where there are fewer
  LayerSpec (*describe)(const io::Config& config, Index layer);
  const char* architecture = nullptr;  // of a config without a model_type
};

// ---------------------------------------------------------------------------------------------------------
// For describing: pieces that several models share.

// Largest sizes that a config may ask for: no preset allocates more than megabytes for them, and their
// products fit 63 bits.
inline constexpr Index kMostLayers = Index{1} << 20;
inline constexpr Index kMostExperts = Index{1} << 20;
inline constexpr Index kMostWidth = Index{1} << 20;
inline constexpr Index kMostShared = 1024;  // shared experts

/// The part of the config that describes the language model.
inline io::Config text_config(const io::Config& config) {
  if (config.has_section("thinker_config")) return text_config(config.section("thinker_config"));
  return config.has_section("text_config") ? config.section("text_config") : config;
}

/// The activation that a config calls so. Throws config_error.
inline AnyActivation activation_named(const io::Config& config, std::string_view key) {
  struct Name {
    const char* text;
    ActivationKind kind;
  };
  constexpr Name kNames[] = {{"silu", ActivationKind::silu},
                             {"swish", ActivationKind::silu},
                             {"gelu", ActivationKind::gelu_erf},
                             {"gelu_new", ActivationKind::gelu_tanh},
                             {"gelu_pytorch_tanh", ActivationKind::gelu_tanh},
                             {"quick_gelu", ActivationKind::quick_gelu},
                             {"relu", ActivationKind::relu},
                             {"relu2", ActivationKind::relu_squared}};
  const std::string name = config.required<std::string>(key);
  for (const Name& known : kNames) {
    if (name == known.text) return {known.kind};
  }
  fail<config_error>(config.where(key).c_str(),
                     ": expected an activation of moe/kernel/activation_policy.hpp, got ",
                     io::in_quotes(name).c_str());
}

/// Throws config_error unless the key says what the preset's maths is, or is absent where the model's own
/// code has a default.
inline void require_text(const io::Config& config, std::string_view key,
                         std::initializer_list<const char*> allowed, bool has_default = false) {
  if (has_default && !config.has(key)) return;
  const std::string value = config.required<std::string>(key);
  std::string list;
  for (const char* const one : allowed) {
    if (value == one) return;
    list += (list.empty() ? "" : " or ") + io::in_quotes(one);
  }
  fail<config_error>(config.where(key).c_str(), ": expected ", list.c_str(), " for this model, got ",
                     io::in_quotes(value).c_str());
}
inline void require_flag(const io::Config& config, std::string_view key, bool expected, bool otherwise) {
  if (config.optional<bool>(key, otherwise) == expected) return;
  fail<config_error>(config.where(key).c_str(), ": expected ", expected ? "true" : "false",
                     ", the only one that this preset computes, got ", expected ? "false" : "true");
}

/// Notes keys that decide the maths elsewhere and are not read by this model's own code.
inline void pass_over(const io::Config& config, std::initializer_list<const char*> keys) noexcept {
  for (const char* const key : keys) static_cast<void>(config.has(key));
}

/// The layer is there and has no experts.
struct dense_layer_error : config_error {
  using config_error::config_error;
};
/// The model has fewer layers.
struct no_layer_error : config_error {
  using config_error::config_error;
};

[[noreturn]] inline void fail_dense(const io::Config& config, Index layer) {
  fail<dense_layer_error>(config.file().c_str(), ": expected a layer with experts, got layer ", layer,
                          ", which is dense");
}

/// A layer in [0, count), where `key` says how many there are.
inline void require_layer_below(const io::Config& config, Index layer, Index count, std::string_view key) {
  if (layer >= 0 && layer < count) return;
  fail<no_layer_error>("layer: expected a value in [0, ", count - 1, "] (", config.where(key).c_str(),
                       "), got ", layer);
}
/// Layers beyond the config's `count_key` (multi-token prediction) are not the model's.
inline void require_layer(const io::Config& config, Index layer, std::string_view count_key) {
  require_layer_below(config, layer, config.required_in(count_key, 1, kMostLayers), count_key);
}

/// The first of several names of one key that the config has; of none the first.
inline std::string first_key(const io::Config& config, std::initializer_list<const char*> names) {
  for (const char* const name : names) {
    if (config.has(name)) return name;
  }
  return *names.begin();
}
/// `key`, or what Transformers' own save_pretrained calls it where it has another name for all models.
inline std::string experts_key(const io::Config& config, const char* key) {
  return first_key(config, {key, "num_local_experts", "num_experts", "n_routed_experts"});
}

/// change(GatherWeighting::Options&) on a spec whose weights are gathered scores.
template <class Change>
void change_weights(LayerSpec& spec, Change&& change) {
  GatherWeighting::Options weights = weights_of(spec);
  change(weights);
  spec.router.weighting = GatherWeighting(weights);
}

/// A selection bias as loaded (it does not move), or none.
inline void select_with_bias(LayerSpec& spec, bool with = true) {
  spec.router.balance = {};
  if (with) spec.router.balance.set(SelectionBias({.outputs = spec.router.outputs, .speed = 0}));
}
inline bool selects_with_bias(const LayerSpec& spec) {
  return spec.router.balance.get_if<SelectionBias>() != nullptr;
}

/// Model, width, feed-forward experts and their K, with a gate of `activation_key`; outputs = experts.
struct SpecKeys {
  const char* width = "hidden_size";
  const char* experts = "num_experts";
  const char* k = "num_experts_per_tok";
  const char* hidden = "moe_intermediate_size";
  const char* activation = "hidden_act";
  const char* layers = "num_hidden_layers";  // null: checked by the preset
  bool silu_by_default = false;              // the model's own code has silu where the key is absent
};
inline LayerSpec basic_spec(const char* model, const io::Config& config, Index layer, const SpecKeys& keys) {
  if (keys.layers != nullptr) require_layer(config, layer, keys.layers);
  LayerSpec spec;
  spec.model = model;
  spec.layer = layer;
  spec.width = config.required_in(keys.width, 1, kMostWidth);
  spec.experts = config.required_in(experts_key(config, keys.experts), 1, kMostExperts);
  spec.hidden = config.per_layer_in(keys.hidden, layer, 1, kMostWidth);
  if (keys.activation != nullptr) {
    spec.gate.act = keys.silu_by_default && !config.has(keys.activation)
                        ? AnyActivation{ActivationKind::silu}
                        : activation_named(config, keys.activation);
  }
  spec.router.width = spec.width;
  spec.router.outputs = spec.experts;
  spec.router.k = config.per_layer_in(keys.k, layer, 1, kMostExperts);
  return spec;
}

/// So many shared experts of width F in one; 0: none.
inline Index shared_width(const io::Config& config, const std::string& count_key, Index hidden,
                          Index otherwise = 0) {
  return hidden * config.optional_in(count_key, otherwise, 0, kMostShared);
}

/// Names of experts as most models have them, gate_proj, up_proj and down_proj, or w1, w3 and w2 (in this
/// order: gate, up, down).
inline io::ExpertLayout projections(const std::string& prefix) {
  return io::per_expert_glu(prefix, "gate_proj", "up_proj", "down_proj");
}
inline io::ExpertLayout numbered(const std::string& prefix) {
  return io::per_expert_glu(prefix, "w1", "w3", "w2");
}
/// As Transformers 5 holds them in memory, and saves them when told to: [E, 2F, D] and [E, D, F].
inline io::ExpertLayout fused() {
  return io::fused_glu("experts.gate_up_proj", "experts.down_proj", false);
}

}  // namespace models
MOE_NAMESPACE_END
