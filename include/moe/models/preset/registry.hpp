// All presets, and which of them a config.json asks for.
#pragma once

#include <string>
#include <string_view>

#include "moe/core/check.hpp"
#include "moe/models/preset/deepseek.hpp"
#include "moe/models/preset/maths_keys.hpp"
#include "moe/models/preset/other.hpp"
#include "moe/models/preset/softmax.hpp"
#include "moe/models/preset/spec.hpp"

MOE_NAMESPACE_BEGIN
namespace models {

// What each computes and how it was checked: docs/models.md.
inline constexpr Preset mixtral{"mixtral", {"mixtral"}, &describe_mixtral};
inline constexpr Preset minimax_01{
    "minimax_01", {"minimax", "minimax_text_01", "minimax_m1"}, &describe_minimax_01};
inline constexpr Preset qwen2_moe{"qwen2_moe", {"qwen2_moe"}, &describe_qwen2_moe};
inline constexpr Preset qwen3_moe{"qwen3_moe", {"qwen3_moe"}, &describe_qwen3_moe};
inline constexpr Preset qwen3_next{"qwen3_next", {"qwen3_next"}, &describe_qwen3_next};
inline constexpr Preset qwen3_vl_moe{
    "qwen3_vl_moe", {"qwen3_vl_moe", "qwen3_vl_moe_text"}, &describe_qwen3_vl_moe};
inline constexpr Preset qwen3_5_moe{
    "qwen3_5_moe", {"qwen3_5_moe", "qwen3_5_moe_text"}, &describe_qwen3_5_moe};
inline constexpr Preset qwen3_omni_moe{"qwen3_omni_moe",
                                       {"qwen3_omni_moe", "qwen3_omni_moe_thinker", "qwen3_omni_moe_text"},
                                       &describe_qwen3_omni_moe};
inline constexpr Preset qwen3_omni_talker{"qwen3_omni_talker",
                                          {"qwen3_omni_moe_talker", "qwen3_omni_moe_talker_text"},
                                          &describe_qwen3_omni_talker};
inline constexpr Preset mellum{"mellum", {"mellum"}, &describe_mellum};
inline constexpr Preset olmoe{"olmoe", {"olmoe", "flex_olmo"}, &describe_olmoe};
inline constexpr Preset jamba{"jamba", {"jamba"}, &describe_jamba};
inline constexpr Preset dbrx{"dbrx", {"dbrx"}, &describe_dbrx};
inline constexpr Preset grok_1{"grok_1", {"grok-1", "grok_1", "grok"}, &describe_grok_1};
inline constexpr Preset arctic{"arctic", {"arctic"}, &describe_arctic};
inline constexpr Preset nomic_v2{"nomic_v2", {"nomic_bert"}, &describe_nomic_v2};
inline constexpr Preset ernie_4_5{"ernie_4_5", {"ernie4_5_moe"}, &describe_ernie_4_5};
inline constexpr Preset ernie_4_5_vl{
    "ernie_4_5_vl", {"ernie4_5_vl_moe", "ernie4_5_vl_moe_text", "ernie4_5_moe_vl"}, &describe_ernie_4_5_vl};
inline constexpr Preset hunyuan_a13b{"hunyuan_a13b", {"hunyuan_v1_moe"}, &describe_hunyuan_a13b};
inline constexpr Preset phi_moe{"phi_moe", {"phimoe"}, &describe_phi_moe};
inline constexpr Preset aria{"aria", {"aria", "aria_text"}, &describe_aria};
inline constexpr Preset granite_moe{"granite_moe", {"granitemoe"}, &describe_granite};
inline constexpr Preset granite_moe_shared{
    "granite_moe_shared", {"granitemoeshared", "granitemoehybrid"}, &describe_granite_shared};
inline constexpr Preset jetmoe{"jetmoe", {"jetmoe"}, &describe_jetmoe};
inline constexpr Preset cohere2_moe{"cohere2_moe", {"cohere2_moe"}, &describe_cohere2_moe};
inline constexpr Preset gpt_oss{"gpt_oss", {"gpt_oss"}, &describe_gpt_oss};
inline constexpr Preset deepseek_v1{"deepseek_v1", {"deepseek"}, &describe_deepseek_v1};
inline constexpr Preset deepseek_v2{"deepseek_v2", {"deepseek_v2"}, &describe_deepseek_v2};
inline constexpr Preset deepseek_v3{"deepseek_v3", {"deepseek_v3", "deepseek_v32"}, &describe_deepseek_v3};
inline constexpr Preset deepseek_v4{"deepseek_v4", {"deepseek_v4"}, &describe_deepseek_v4};
inline constexpr Preset kimi_k2{"kimi_k2", {"kimi_k2", "kimi_k25"}, &describe_kimi_k2};
inline constexpr Preset kimi_linear{"kimi_linear", {"kimi_linear"}, &describe_kimi_linear};
inline constexpr Preset kimi_k3{"kimi_k3", {"kimi_k3"}, &describe_kimi_k3};
inline constexpr Preset mistral_4{"mistral_4", {"mistral4", "mistral3"}, &describe_mistral_4};
inline constexpr Preset glm_4_5{"glm_4_5",
                                {"glm4_moe", "glm_moe_dsa", "glm4_moe_lite", "glm4v_moe", "glm4v_moe_text"},
                                &describe_glm_4_5};
inline constexpr Preset solar_open{"solar_open", {"solar_open"}, &describe_solar_open};
inline constexpr Preset mimo_v2_flash{"mimo_v2_flash", {"mimo_v2_flash"}, &describe_mimo_v2_flash};
inline constexpr Preset hy_v3{"hy_v3", {"hy_v3"}, &describe_hy_v3};
inline constexpr Preset exaone_moe{"exaone_moe", {"exaone_moe"}, &describe_exaone_moe};
inline constexpr Preset ax_k1{"ax_k1", {"axk1"}, &describe_ax_k1};
inline constexpr Preset dots_llm1{"dots_llm1", {"dots1"}, &describe_dots_llm1};
inline constexpr Preset minimax_m2{"minimax_m2", {"minimax_m2"}, &describe_minimax_m2};
inline constexpr Preset minimax_m3{
    "minimax_m3", {"minimax_m3_vl", "minimax_m3_vl_text", "minimax_m3"}, &describe_minimax_m3};
inline constexpr Preset step_3{"step_3", {"step3p7", "step3p5"}, &describe_step_3};
inline constexpr Preset bailing_v2{
    "bailing_v2", {"bailing_moe_v2", "bailing_moe", "bailing_hybrid", "llada2_moe"}, &describe_bailing_v2};
inline constexpr Preset afmoe{"afmoe", {"afmoe"}, &describe_afmoe};
inline constexpr Preset lfm2_moe{"lfm2_moe", {"lfm2_moe"}, &describe_lfm2_moe};
inline constexpr Preset nemotron_3{"nemotron_3", {"nemotron_h"}, &describe_nemotron_3};
inline constexpr Preset longcat_flash{
    "longcat_flash", {"longcat_flash"}, &describe_longcat_flash, "LongcatFlashForCausalLM"};
inline constexpr Preset llama_4{"llama_4", {"llama4", "llama4_text"}, &describe_llama_4};
inline constexpr Preset gemma_4{"gemma_4", {"gemma4", "gemma4_text"}, &describe_gemma_4};
inline constexpr Preset switch_transformer{"switch", {"switch_transformers"}, &describe_switch};
inline constexpr Preset nllb_moe{"nllb_moe", {"nllb-moe"}, &describe_nllb_moe};
inline constexpr Preset swin_moe{"swin_moe", {"swin_moe"}, &describe_swin_moe};
inline constexpr Preset moe_plus_plus{"moe_plus_plus", {"moepp", "moe_plus_plus"}, &describe_moe_plus_plus};

inline constexpr const Preset* kPresets[] = {&mixtral,
                                             &minimax_01,
                                             &qwen2_moe,
                                             &qwen3_moe,
                                             &qwen3_next,
                                             &qwen3_vl_moe,
                                             &qwen3_5_moe,
                                             &qwen3_omni_moe,
                                             &qwen3_omni_talker,
                                             &mellum,
                                             &olmoe,
                                             &jamba,
                                             &dbrx,
                                             &grok_1,
                                             &arctic,
                                             &nomic_v2,
                                             &ernie_4_5,
                                             &ernie_4_5_vl,
                                             &hunyuan_a13b,
                                             &phi_moe,
                                             &aria,
                                             &granite_moe,
                                             &granite_moe_shared,
                                             &jetmoe,
                                             &cohere2_moe,
                                             &gpt_oss,
                                             &deepseek_v1,
                                             &deepseek_v2,
                                             &deepseek_v3,
                                             &deepseek_v4,
                                             &kimi_k2,
                                             &kimi_linear,
                                             &kimi_k3,
                                             &mistral_4,
                                             &glm_4_5,
                                             &solar_open,
                                             &mimo_v2_flash,
                                             &hy_v3,
                                             &exaone_moe,
                                             &ax_k1,
                                             &dots_llm1,
                                             &minimax_m2,
                                             &minimax_m3,
                                             &step_3,
                                             &bailing_v2,
                                             &afmoe,
                                             &lfm2_moe,
                                             &nemotron_3,
                                             &longcat_flash,
                                             &llama_4,
                                             &gemma_4,
                                             &switch_transformer,
                                             &nllb_moe,
                                             &swin_moe,
                                             &moe_plus_plus};

/// The preset of that model_type, or null.
inline const Preset* find_preset(std::string_view model_type) noexcept {
  for (const Preset* const preset : kPresets) {
    for (const char* const type : preset->model_types) {
      if (type != nullptr && model_type == type) return preset;
    }
  }
  return nullptr;
}

/// The preset of the config's model_type, or, without one, of its architecture. Throws config_error naming
/// what the config has and what is known.
inline const Preset& preset_of(const io::Config& config) {
  if (!config.has("model_type") && config.has_list("architectures")) {
    for (const std::string& name : config.strings("architectures")) {
      for (const Preset* const preset : kPresets) {
        if (preset->architecture != nullptr && name == preset->architecture) return *preset;
      }
    }
  }
  const std::string type = config.required<std::string>("model_type");
  if (const Preset* const found = find_preset(type)) return *found;
  std::string known;
  for (const Preset* const preset : kPresets) {
    for (const char* const own : preset->model_types) {
      if (own != nullptr) known += std::string(known.empty() ? "" : ", ") + own;
    }
  }
  fail<config_error>(config.where("model_type").c_str(), ": expected one that has a preset (", known.c_str(),
                     "), got ", io::in_quotes(type).c_str());
}

/// What the config's preset says of a layer. Throws config_error for keys that are missing, that the preset
/// does not compute by, or of values that it does not compute, and for a layer without experts.
inline LayerSpec describe_layer(const io::Config& config, Index layer) {
  const Preset& preset = preset_of(config);
  const io::Config watched = config.watched();
  LayerSpec spec = preset.describe(watched, layer);
  require_maths_keys_asked(watched, preset.name);
  return spec;
}

}  // namespace models
MOE_NAMESPACE_END
