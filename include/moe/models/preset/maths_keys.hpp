// Keys of config files that decide what an MoE block computes, in whichever model. A config may state one
// that its preset does not ask for: then the preset would compute something else without a word, and it is
// refused.
#pragma once

#include <cstdint>
#include <string>

#include "moe/core/check.hpp"
#include "moe/io/json/config.hpp"
#include "moe/models/preset/spec.hpp"

MOE_NAMESPACE_BEGIN
namespace models {

/// A key, and which values say the same as its absence (null always does).
struct MathsKey {
  enum class Neutral : std::uint8_t { none, no, zero, one };  // no value; false; 0 or false; 1
  const char* name;
  Neutral neutral;
};

inline constexpr MathsKey kMathsKeys[] = {
    // Scores and choices.
    {"scoring_func", MathsKey::Neutral::none},
    {"score_function", MathsKey::Neutral::none},
    {"score_func", MathsKey::Neutral::none},
    {"moe_router_activation_func", MathsKey::Neutral::none},
    {"moe_router_activation", MathsKey::Neutral::none},
    {"moe_router_use_sigmoid", MathsKey::Neutral::no},
    {"expert_selection_fn", MathsKey::Neutral::none},
    {"moe_modality", MathsKey::Neutral::none},
    {"router_logit_softcapping", MathsKey::Neutral::zero},
    {"router_bias", MathsKey::Neutral::no},
    {"use_expert_bias", MathsKey::Neutral::no},
    {"use_routing_bias", MathsKey::Neutral::no},
    {"moe_router_enable_expert_bias", MathsKey::Neutral::no},
    {"use_moe_router_bias", MathsKey::Neutral::no},
    {"moe_use_aux_free", MathsKey::Neutral::no},
    {"topk_method", MathsKey::Neutral::none},
    {"n_group", MathsKey::Neutral::one},
    {"topk_group", MathsKey::Neutral::one},
    {"num_expert_group", MathsKey::Neutral::one},
    {"num_expert_groups", MathsKey::Neutral::one},
    {"num_limited_groups", MathsKey::Neutral::one},
    {"use_grouped_topk", MathsKey::Neutral::no},
    {"group_limited_greedy", MathsKey::Neutral::no},
    {"num_hash_layers", MathsKey::Neutral::zero},
    {"expert_choice_router", MathsKey::Neutral::no},
    {"multi_gate", MathsKey::Neutral::no},
    {"moe_2layer_gate", MathsKey::Neutral::no},
    {"moe_use_logits_norm", MathsKey::Neutral::no},
    // Weights.
    {"norm_topk_prob", MathsKey::Neutral::none},
    {"moe_renormalize", MathsKey::Neutral::none},
    {"route_norm", MathsKey::Neutral::none},
    {"moe_normalize_expert_weights", MathsKey::Neutral::none},
    {"routed_scaling_factor", MathsKey::Neutral::one},
    {"route_scale", MathsKey::Neutral::one},
    {"router_scaling_factor", MathsKey::Neutral::one},
    {"moe_router_scaling_factor", MathsKey::Neutral::one},
    {"norm_expert_weight", MathsKey::Neutral::none},
    {"apply_router_weight_on_input", MathsKey::Neutral::no},
    {"add_router_probs", MathsKey::Neutral::no},
    // Experts.
    {"swiglu_alpha", MathsKey::Neutral::none},
    {"swiglu_limit", MathsKey::Neutral::none},
    {"swiglu_limits", MathsKey::Neutral::none},
    {"swiglu_limits_shared", MathsKey::Neutral::none},
    {"activation_situ_beta", MathsKey::Neutral::none},
    {"activation_situ_linear_beta", MathsKey::Neutral::none},
    {"mlp_bias", MathsKey::Neutral::no},
    {"moe_latent_size", MathsKey::Neutral::zero},
    {"routed_expert_hidden_size", MathsKey::Neutral::zero},
    {"latent_moe_use_norm", MathsKey::Neutral::no},
    {"zero_expert_num", MathsKey::Neutral::zero},
    // Shared experts.
    {"n_shared_experts", MathsKey::Neutral::zero},
    {"num_shared_experts", MathsKey::Neutral::zero},
    {"num_shared_expert", MathsKey::Neutral::zero},
    {"moe_num_shared_experts", MathsKey::Neutral::zero},
    {"shared_expert_intermediate_size", MathsKey::Neutral::zero},
    {"moe_shared_expert_intermediate_size", MathsKey::Neutral::zero},
    {"shared_intermediate_size", MathsKey::Neutral::zero},
    {"share_expert_dim", MathsKey::Neutral::zero},
    {"share_expert_dims", MathsKey::Neutral::zero},
    {"shared_expert_combination_strategy", MathsKey::Neutral::none},
};

namespace impl {

inline bool is_neutral(const io::Json& value, MathsKey::Neutral neutral) noexcept {
  if (value.is(io::Json::Kind::null)) return true;
  const bool is_false = value.boolean() != nullptr && !*value.boolean();
  const auto is_number = [&](double n) {
    return (value.integer() != nullptr && static_cast<double>(*value.integer()) == n) ||
           (value.real() != nullptr && *value.real() == n);
  };
  switch (neutral) {
    case MathsKey::Neutral::no:
      return is_false;
    case MathsKey::Neutral::zero:
      return is_false || is_number(0);
    case MathsKey::Neutral::one:
      return is_number(1);
    case MathsKey::Neutral::none:
      break;
  }
  return false;
}

}  // namespace impl

/// `config`: a watched one, which the preset has been asked with. Throws config_error naming a key that
/// decides the maths and that it did not look at.
inline void require_maths_keys_asked(const io::Config& config, const char* preset) {
  const io::Config text = text_config(config);
  for (const MathsKey& key : kMathsKeys) {
    const io::Json* const value = text.json().find(key.name);
    if (value == nullptr || text.asked(key.name) || impl::is_neutral(*value, key.neutral)) continue;
    fail<config_error>(text.where(key.name).c_str(), ": expected no such key, because the preset ", preset,
                       " does not compute by it, got ", value->describe().c_str(),
                       "; if the model's own code ignores it, take it out of the config");
  }
}

}  // namespace models
MOE_NAMESPACE_END
