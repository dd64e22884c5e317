// One layer of a GGUF file: what its metadata say in the words of a config.json, so that the presets decide
// the maths, and its tensors by our names. What a file does not say is what llama.cpp computes for its
// architecture.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/io/experts.hpp"
#include "moe/io/file/text.hpp"
#include "moe/io/gguf/decode.hpp"
#include "moe/io/gguf/experts.hpp"
#include "moe/io/gguf/reader.hpp"
#include "moe/io/json/config.hpp"
#include "moe/models/file/layer_source.hpp"
#include "moe/models/preset/spec.hpp"

MOE_NAMESPACE_BEGIN
namespace models {

namespace impl {

/// Members of a JSON object, in order.
class JsonText {
 public:
  JsonText& add(const char* key, Index value) { return raw(key, std::to_string(value)); }
  JsonText& add(const char* key, bool value) { return raw(key, value ? "true" : "false"); }
  JsonText& add(const char* key, const char* value) { return raw(key, "\"" + std::string(value) + "\""); }
  JsonText& add(const char* key, double value) {
    char text[40];
    std::snprintf(text, sizeof text, "%.17g", value);
    return raw(key, text);
  }
  JsonText& raw(const char* key, const std::string& value) {
    members_ += (members_.empty() ? "\"" : ", \"") + std::string(key) + "\": " + value;
    return *this;
  }
  std::string text() const { return "{" + members_ + "}"; }

 private:
  std::string members_;
};

/// How an architecture's weights are normalised where the file does not say.
enum class GgufNorm : std::uint8_t { never, always, told };

/// An architecture and what its preset's config calls things.
struct GgufFamily {
  const char* architecture;
  const char* model_type;
  const char* experts;
  const char* k;
  const char* hidden;
  GgufNorm norm;
  bool sigmoid;  // scores; else softmax
};

inline constexpr GgufFamily kGgufFamilies[] = {
    {"llama", "mixtral", "num_local_experts", "num_experts_per_tok", "intermediate_size", GgufNorm::always,
     false},
    {"llama4", "llama4", "num_local_experts", "num_experts_per_tok", "intermediate_size", GgufNorm::never,
     true},
    {"qwen2moe", "qwen2_moe", "num_experts", "num_experts_per_tok", "moe_intermediate_size", GgufNorm::never,
     false},
    {"qwen3moe", "qwen3_moe", "num_experts", "num_experts_per_tok", "moe_intermediate_size", GgufNorm::always,
     false},
    {"qwen3vlmoe", "qwen3_moe", "num_experts", "num_experts_per_tok", "moe_intermediate_size",
     GgufNorm::always, false},
    {"qwen3next", "qwen3_next", "num_experts", "num_experts_per_tok", "moe_intermediate_size",
     GgufNorm::always, false},
    {"olmoe", "olmoe", "num_experts", "num_experts_per_tok", "intermediate_size", GgufNorm::never, false},
    {"granitemoe", "granitemoeshared", "num_local_experts", "num_experts_per_tok", "intermediate_size",
     GgufNorm::always, false},
    {"dbrx", "dbrx", "moe_num_experts", "moe_top_k", "ffn_hidden_size", GgufNorm::always, false},
    {"deepseek", "deepseek", "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size",
     GgufNorm::never, false},
    {"deepseek2", "deepseek_v3", "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size",
     GgufNorm::told, true},
    {"glm4moe", "glm4_moe", "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size",
     GgufNorm::told, true},
    {"dots1", "dots1", "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size", GgufNorm::told,
     true},
    {"minimax-m2", "minimax_m2", "num_local_experts", "num_experts_per_tok", "intermediate_size",
     GgufNorm::always, true},
    {"bailingmoe2", "bailing_moe_v2", "num_experts", "num_experts_per_tok", "moe_intermediate_size",
     GgufNorm::told, true},
    {"afmoe", "afmoe", "num_experts", "num_experts_per_tok", "moe_intermediate_size", GgufNorm::told, true},
    {"lfm2moe", "lfm2_moe", "num_experts", "num_experts_per_tok", "moe_intermediate_size", GgufNorm::always,
     true},
    {"ernie4_5-moe", "ernie4_5_moe", "moe_num_experts", "moe_k", "moe_intermediate_size", GgufNorm::always,
     false},
    {"hunyuan-moe", "hunyuan_v1_moe", "num_experts", "moe_topk", "moe_intermediate_size", GgufNorm::always,
     false},
    {"nemotron_h_moe", "nemotron_h", "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size",
     GgufNorm::told, true},
    {"gemma4", "gemma4", "num_experts", "top_k_experts", "moe_intermediate_size", GgufNorm::always, false},
    {"gpt-oss", "gpt_oss", "num_local_experts", "num_experts_per_tok", "intermediate_size", GgufNorm::never,
     false},
};

/// The architecture of a file and its values, behind its name.
class GgufValues {
 public:
  explicit GgufValues(const io::GgufFile& file)
      : file_(&file), architecture_(file.required<std::string>("general.architecture")) {
    std::string known;
    for (const GgufFamily& family : kGgufFamilies) {
      if (architecture_ == family.architecture) family_ = &family;
      known += (known.empty() ? "" : ", ") + std::string(family.architecture);
    }
    if (family_ == nullptr) {
      fail<config_error>(file.name().c_str(), ": \"general.architecture\": expected one of ", known.c_str(),
                         ", got ", io::in_quotes(architecture_).c_str());
    }
  }

  const io::GgufFile& file() const noexcept { return *file_; }
  const GgufFamily& family() const noexcept { return *family_; }
  std::string key(const char* tail) const { return architecture_ + "." + tail; }
  bool has(const char* tail) const { return file_->has(key(tail)); }
  /// An integer in [low, high].
  Index required(const char* tail, Index low, Index high) const {
    return in_range(tail, file_->required<Index>(key(tail)), low, high);
  }
  Index integer(const char* tail, Index otherwise, Index low, Index high) const {
    const std::optional<Index> value = file_->optional<Index>(key(tail));
    return value ? in_range(tail, *value, low, high) : otherwise;
  }
  /// A number in [low, high].
  double required(const char* tail, double low, double high) const {
    return in_range(tail, file_->required<double>(key(tail)), low, high);
  }
  double real(const char* tail, double otherwise, double low, double high) const {
    const std::optional<double> value = file_->optional<double>(key(tail));
    return value ? in_range(tail, *value, low, high) : otherwise;
  }
  bool flag(const char* tail, bool otherwise) const {
    return file_->optional<bool>(key(tail)).value_or(otherwise);
  }
  [[noreturn]] void refuse(const char* tail, const char* expected, const std::string& got) const {
    fail<config_error>(file_->name().c_str(), ": ", io::in_quotes(key(tail)).c_str(), ": expected ", expected,
                       " for this architecture, got ", got.c_str());
  }

  /// Without the layers of multi-token prediction, which are the last.
  Index layers() const {
    const Index all = required("block_count", Index{1}, kMostLayers);
    const Index more = integer("nextn_predict_layers", 0, 0, kMostLayers);
    if (more >= all) {
      refuse("block_count", "at least one layer beside those of multi-token prediction", std::to_string(all));
    }
    return all - more;
  }

 private:
  Index in_range(const char* tail, Index value, Index low, Index high) const {
    if (value >= low && value <= high) return value;
    fail<config_error>(file_->name().c_str(), ": ", io::in_quotes(key(tail)).c_str(),
                       ": expected an integer in [", low, ", ", high, "], got ", value);
  }
  double in_range(const char* tail, double value, double low, double high) const {
    if (value >= low && value <= high) return value;  // not a NaN
    fail<config_error>(file_->name().c_str(), ": ", io::in_quotes(key(tail)).c_str(),
                       ": expected a number in [", low, ", ", high, "], got ", value);
  }

  const io::GgufFile* file_;
  std::string architecture_;
  const GgufFamily* family_ = nullptr;
};

inline std::string gguf_block(Index layer) {
  return "blk." + std::to_string(layer) + ".";
}

/// Whether a block has no experts. Throws format_error for one that is not there at all.
inline bool gguf_is_dense(const io::GgufFile& file, const std::string& block) {
  bool here = false, dense = true;
  for (const io::GgufTensor& t : file.tensors()) {
    const std::string_view name = t.name;
    if (!name.starts_with(block)) continue;
    here = true;
    dense = dense && name.find("_exps.") == std::string_view::npos && !name.ends_with("ffn_gate_inp.weight");
  }
  if (!here) {
    fail<format_error>(file.name().c_str(), ": expected tensors ", io::in_quotes(block + "*").c_str(),
                       ", as the number of blocks says, got none");
  }
  return dense;
}

/// Columns that a matrix of the shared experts adds to the hidden width, 0 without any.
inline Index gguf_shared_hidden(const io::GgufFile& file, Index layer) {
  const io::GgufTensor* const up = file.find(gguf_block(layer) + "ffn_up_shexp.weight");
  return up == nullptr || up->shape.rank != 2 ? 0 : up->shape[0];
}

}  // namespace impl

/// What a file says of a layer with experts, as the config.json of its preset. Throws config_error for an
/// architecture without a preset, a value that the preset does not compute, or a layer that is not there
/// (no_layer_error) or dense (dense_layer_error); format_error for a value that is missing.
inline io::Config gguf_config(const io::GgufFile& file, Index layer) {
  const impl::GgufValues values(file);
  const impl::GgufFamily& family = values.family();
  const std::string_view arch = family.architecture;
  const Index layers = values.layers();
  if (layer < 0 || layer >= layers) {
    fail<no_layer_error>("layer: expected a value in [0, ", layers - 1, "] (",
                         io::in_quotes(values.key("block_count")).c_str(), "), got ", layer);
  }
  const std::string block = impl::gguf_block(layer);
  if (impl::gguf_is_dense(file, block)) {
    fail<dense_layer_error>(file.name().c_str(), ": expected a layer with experts, got layer ", layer,
                            ", which is dense");
  }
  file.at(block + "ffn_gate_inp.weight");
  const io::GgufExperts experts(file, layer);
  const Index hidden = experts.hidden(), shared = impl::gguf_shared_hidden(file, layer);
  if (hidden > kMostWidth || shared / hidden > kMostShared || shared > kMostWidth) {
    fail<format_error>(file.name().c_str(), ": expected at most ", kMostWidth, " hidden columns, and ",
                       kMostShared, " shared experts, in ", io::in_quotes(block + "*").c_str(), ", got ",
                       hidden, ", shared ", shared);
  }
  const Index dense = values.integer("leading_dense_block_count", 0, 0, kMostLayers);
  if (layer < dense) {
    values.refuse("leading_dense_block_count", "at most the number of the first block with experts",
                  std::to_string(dense));
  }
  const bool biased = file.find(block + "exp_probs_b.bias") != nullptr;

  // Obeyed or refused: what decides the maths.
  const Index gating =
      values.integer("expert_gating_func", family.sigmoid && arch != "deepseek2" ? 2 : 1, 0, INT32_MAX);
  const bool sigmoid = gating == 2;
  if (gating < 1 || gating > 2 || (arch != "deepseek2" && sigmoid != family.sigmoid)) {
    values.refuse("expert_gating_func", family.sigmoid ? "2 (sigmoid)" : "1 (softmax)",
                  std::to_string(gating));
  }
  bool norm = family.norm == impl::GgufNorm::always;
  if (family.norm == impl::GgufNorm::told) {
    norm = values.flag("expert_weights_norm", false);
  } else if (values.flag("expert_weights_norm", norm) != norm) {
    values.refuse("expert_weights_norm", norm ? "true" : "false", norm ? "false" : "true");
  }
  double scale = values.real("expert_weights_scale", 1, -1e6, 1e6);
  if (scale == 0) scale = 1;  // written for "none"
  const bool scales = family.norm == impl::GgufNorm::told || arch == "lfm2moe";
  if (scale != 1 && !scales) values.refuse("expert_weights_scale", "1", std::to_string(scale));
  const Index groups = values.integer("expert_group_count", 1, 0, kMostExperts);
  const Index kept = groups > 1 ? values.required("expert_group_used_count", Index{1}, groups) : 1;
  const bool grouped = sigmoid && (arch == "deepseek2" || arch == "glm4moe" || arch == "bailingmoe2" ||
                                   arch == "nemotron_h_moe");
  if (groups > 1 && kept != groups && !grouped) {
    values.refuse("expert_group_count", "1", std::to_string(groups));
  }
  if (const Index length = values.integer("expert_feed_forward_length", hidden, 0, INT32_MAX);
      length != hidden) {
    values.refuse("expert_feed_forward_length", std::to_string(hidden).c_str(), std::to_string(length));
  }
  const Index count = values.required("expert_count", Index{1}, kMostExperts);
  if (count != experts.experts()) {
    values.refuse("expert_count", std::to_string(experts.experts()).c_str(), std::to_string(count));
  }
  if (grouped && kept < groups && (count % groups != 0 || count < 2 * groups)) {
    values.refuse("expert_group_count",
                  ("groups of at least 2 of " + std::to_string(count) + " experts").c_str(),
                  std::to_string(groups));
  }
  const bool limited = grouped && kept < groups;
  const Index k = values.required("expert_used_count", Index{1}, limited ? count / groups * kept : count);
  const Index shared_count = values.integer("expert_shared_count", 0, 0, kMostShared);
  const Index shared_length = values.integer("expert_shared_feed_forward_length", 0, 0, kMostWidth);
  const Index each = shared_length > 0 ? shared_length : hidden;
  if (shared_count > 0 && shared != each && (shared == 0 || shared != shared_count * each)) {
    values.refuse("expert_shared_count", "as many as the file has tensors for", std::to_string(shared_count));
  }
  if (shared_count == 0 && shared_length > 0 && shared != shared_length) {
    values.refuse("expert_shared_feed_forward_length", std::to_string(shared).c_str(),
                  std::to_string(shared_length));
  }
  if (shared > 0 && shared % hidden != 0 && arch != "qwen2moe" && arch != "qwen3next" &&
      arch != "granitemoe" && arch != "hunyuan-moe" && arch != "nemotron_h_moe") {
    values.refuse("expert_shared_count", "shared experts of whole widths",
                  std::to_string(shared) + " columns");
  }

  impl::JsonText config, ffn;
  const bool v2 = arch == "deepseek2" && !sigmoid;
  config.add("model_type", v2 ? "deepseek_v2" : family.model_type);
  impl::JsonText& sizes = arch == "dbrx" ? ffn : config;
  sizes.add(family.experts, count).add(family.k, k).add(family.hidden, hidden);
  const Index width = values.required("embedding_length", Index{1}, kMostWidth);
  if (arch == "dbrx") {
    ffn.add("moe_normalize_expert_weights", 1.0);
    config.add("n_layers", layers).add("d_model", width).raw("ffn_config", ffn.text());
    return io::Config::from_text(config.text(), file.name());
  }
  config.add("num_hidden_layers", layers).add("hidden_size", width).add("hidden_act", "silu");
  if (arch.starts_with("qwen")) config.add("decoder_sparse_step", Index{1}).add("norm_topk_prob", norm);
  if (arch == "qwen2moe" || arch == "qwen3next") config.add("shared_expert_intermediate_size", shared);
  if (arch == "llama4") config.raw("moe_layers", "[" + std::to_string(layer) + "]");
  if (arch == "olmoe") config.add("norm_topk_prob", norm);
  if (arch == "granitemoe") config.add("shared_intermediate_size", shared);
  if (arch == "minimax-m2") config.add("use_routing_bias", biased).add("norm_topk_prob", true);
  if (arch == "gpt-oss") config.add("swiglu_limit", values.real("swiglu_clamp_exp", 7, 1e-6, 1e6));
  if (arch == "ernie4_5-moe") {
    config.add("moe_layer_start_index", dense)
        .add("moe_layer_interval", values.integer("interleave_moe_layer_step", 1, 1, kMostLayers))
        .add("moe_num_shared_experts", shared / hidden);
  }
  if (arch == "hunyuan-moe") {
    config.add("intermediate_size", shared > 0 ? shared : hidden).add("use_mixed_mlp_moe", shared > 0);
    if (shared > 0) config.add("num_shared_expert", Index{1});
  }
  if (arch == "nemotron_h_moe") {
    std::string kinds(static_cast<std::size_t>(layers), '*');
    kinds[static_cast<std::size_t>(layer)] = 'E';
    config.add("hybrid_override_pattern", kinds.c_str()).add("mlp_hidden_act", "relu2");
    config.add("norm_topk_prob", norm).add("routed_scaling_factor", scale);
    config.add("n_shared_experts", shared > 0 ? Index{1} : Index{0});
    if (shared > 0) config.add("moe_shared_expert_intermediate_size", shared);
    config.add("moe_latent_size", values.integer("moe_latent_size", 0, 0, kMostWidth));
  }
  if (arch == "gemma4") {
    config.add("enable_moe_block", true).add("hidden_activation", "gelu_pytorch_tanh");
    config.add("rms_norm_eps", values.required("attention.layer_norm_rms_epsilon", 0.0, 1.0));
  }
  if (arch == "lfm2moe") {
    config.add("num_dense_layers", dense)
        .add("use_expert_bias", biased)
        .add("norm_topk_prob", norm)
        .add("routed_scaling_factor", scale);
  }
  if (arch == "afmoe") {
    config.add("num_dense_layers", dense).add("route_norm", norm).add("route_scale", scale);
    config.add("num_shared_experts", shared / hidden);
  }
  if (arch == "bailingmoe2") {
    config.add("score_function", "sigmoid").add("moe_router_enable_expert_bias", biased);
    config.add("num_shared_experts", shared / hidden);
  }
  if (arch == "deepseek" || arch == "deepseek2" || arch == "glm4moe" || arch == "dots1") {
    config.add("n_shared_experts", shared / hidden);
  }
  if (arch == "deepseek" || arch == "deepseek2" || arch == "glm4moe" || arch == "dots1" ||
      arch == "bailingmoe2") {
    config.add("first_k_dense_replace", dense).add("norm_topk_prob", norm);
  }
  if (arch == "deepseek2" || arch == "glm4moe" || arch == "dots1" || arch == "bailingmoe2") {
    config.add("routed_scaling_factor", scale);
  }
  if (v2) config.add("topk_method", "greedy");
  if (grouped) config.add("n_group", groups).add("topk_group", kept);
  return io::Config::from_text(config.text(), file.name());
}

/// The tensors of one layer of a file. Refers to the file, which must outlive it.
class GgufTensors final : public LayerSource {
 public:
  GgufTensors(const io::GgufFile& file, const LayerSpec& spec)
      : file_(&file),
        block_(impl::gguf_block(spec.layer)),
        experts_(file, spec.layer, !spec.router.per_expert_scale) {}

  /// Before anything is allocated: tensors have the shapes of `spec`, and those of the block are all read.
  /// Throws format_error naming tensors.
  void require_whole_block(const LayerSpec& spec) const {
    require_expert_shapes(spec);
    require_expert_biases(spec);
    for (const Named& n : kNames) {
      const io::GgufTensor* const t = file_->find(block_ + n.theirs);
      if (is_read(n.ours, spec)) {
        impl::require_extents(file_->at(block_ + n.theirs), impl::extents_of(spec, n.ours));
        continue;
      }
      if (t == nullptr || is_of_experts(n.theirs)) continue;
      fail<format_error>(t->where().c_str(), ": expected no such tensor, because the preset ",
                         spec.model.c_str(), " does not read it");
    }
    for (const io::GgufTensor& t : file_->tensors()) {
      const std::string_view name = t.name;
      if (!name.starts_with(block_)) continue;
      const std::string_view tail = name.substr(block_.size());
      const bool of_block = tail.starts_with("ffn_") || tail.starts_with("exp_probs_b");
      if (!of_block || tail.find("norm") != std::string_view::npos || is_known(tail, spec)) continue;
      if (spec.model == "gemma_4" && is_dense_mlp(tail)) continue;
      fail<format_error>(t.where().c_str(), ": expected no such tensor, because the preset ",
                         spec.model.c_str(), " does not read it");
    }
  }

  /// Of all tensors that the layer reads, as they are in the file.
  Index bytes(const LayerSpec& spec) const {
    Index sum = 0;
    for (const io::GgufTensor& t : file_->tensors()) {
      const std::string_view name = t.name;
      if (name.starts_with(block_) && is_known(name.substr(block_.size()), spec)) sum += t.bytes;
    }
    return sum;
  }
  /// The types of the experts' matrices, as the format calls them: "Q4_K Q6_K".
  std::string storage() const {
    std::string text;
    for (Index p = 0; p < io::kParts; ++p) {
      const io::GgufTensor* const t = experts_.weight(static_cast<io::ExpertMatrix>(p));
      if (t == nullptr) continue;
      const std::string type = io::ggml_type_name(t->type);
      if (text.find(type) == std::string::npos) text += (text.empty() ? "" : " ") + type;
    }
    return text;
  }

  bool has(const char* ours) const override { return find(ours) != nullptr; }
  void read(const char* ours, const MatrixView<float>& to) const override {
    const char* const theirs = name_of(ours);
    if (theirs == nullptr)
      fail<config_error>("preset: expected the name of a tensor for ", ours, ", got none");
    const io::GgufTensor& t = file_->at(block_ + theirs);
    const bool vector = to.rows == 1 || to.cols == 1;
    const io::Shape wanted = vector ? io::Shape(to.rows * to.cols) : io::Shape(to.rows, to.cols);
    const io::Shape row(1, to.cols);
    if (!(t.shape == wanted) && !(to.rows == 1 && t.shape == row)) require_shape_of(t, wanted);
    read_rows(t, to);
    impl::require_finite(t.where().c_str(), to);
  }
  HashTable hash_table(const LayerSpec& spec) const override {
    fail<config_error>(file_->name().c_str(), ": expected a layer that scores its tokens, got one of ",
                       spec.model.c_str(), " that looks them up");
  }
  std::unique_ptr<const io::AnyExpertSource> routed(const LayerSpec&) const override {
    return std::make_unique<io::ErasedExpertSource<io::GgufExperts>>(experts_);
  }
  void read_shared(io::ExpertMatrix part, const MatrixView<float>& to) const override {
    read_rows(shared(part, to.rows, to.cols), to);
  }
  std::optional<io::StoredCodes> shared_groups(io::ExpertMatrix part, Index out, Index in) const override {
    return io::ggml_codes(shared(part, out, in), 0, out, in);
  }

 private:
  const io::GgufTensor& shared(io::ExpertMatrix part, Index out, Index in) const {
    const bool second = part == io::ExpertMatrix::down || part == io::ExpertMatrix::fc2;
    const char* const name = part == io::ExpertMatrix::gate ? "ffn_gate_shexp"
                             : second                       ? "ffn_down_shexp"
                                                            : "ffn_up_shexp";
    const io::GgufTensor& t = file_->at(block_ + name + ".weight");
    require_shape_of(t, io::Shape(out, in));
    return t;
  }
  struct Named {
    const char* ours;
    const char* theirs;
  };
  static constexpr Named kNames[] = {{"gate.weight", "ffn_gate_inp.weight"},
                                     {"gate.bias", "ffn_gate_inp.bias"},
                                     {"e_score_correction_bias", "exp_probs_b.bias"},
                                     {"norm.scale", "ffn_gate_inp.scale"},
                                     {"per_expert_scale", "ffn_down_exps.scale"},
                                     {"latent_in.weight", "ffn_latent_down.weight"},
                                     {"latent_out.weight", "ffn_latent_up.weight"},
                                     {"shared_expert_gate.weight", "ffn_gate_inp_shexp.weight"}};

  static const char* name_of(std::string_view ours) noexcept {
    for (const Named& n : kNames) {
      if (ours == n.ours) return n.theirs;
    }
    return nullptr;
  }
  const io::GgufTensor* find(const char* ours) const {
    const char* const theirs = name_of(ours);
    return theirs == nullptr ? nullptr : file_->find(block_ + theirs);
  }
  static bool is_read(std::string_view ours, const LayerSpec& spec) {
    if (ours == "gate.bias") {
      const auto* const linear = std::get_if<LinearScorerOptions>(&spec.router.scorer);
      return linear != nullptr && linear->bias;
    }
    if (ours == "e_score_correction_bias") return selects_with_bias(spec);
    if (ours == "norm.scale") return spec.router.norm.enabled;
    if (ours == "per_expert_scale") return spec.router.per_expert_scale;
    if (ours.starts_with("latent_")) return spec.latent > 0;
    return ours != "shared_expert_gate.weight" || spec.shared_gate;
  }
  static bool is_known(std::string_view tail, const LayerSpec& spec) {
    for (const Named& n : kNames) {
      if (tail == n.theirs) return true;
    }
    if (is_of_experts(tail)) return true;  // GgufExperts reads them all
    if (spec.shared_hidden == 0) return false;
    return tail == "ffn_up_shexp.weight" || tail == "ffn_down_shexp.weight" ||
           (spec.gated && tail == "ffn_gate_shexp.weight");
  }
  static bool is_of_experts(std::string_view tail) noexcept {
    return tail.find("_exps.") != std::string_view::npos;
  }
  /// Of the dense MLP beside the block.
  static bool is_dense_mlp(std::string_view tail) noexcept {
    return tail.starts_with("ffn_gate.") || tail.starts_with("ffn_up.") || tail.starts_with("ffn_down.");
  }
  void require_expert_shapes(const LayerSpec& spec) const {
    if (spec.gated && !experts_.is_gated()) file_->at(block_ + "ffn_gate_exps.weight");  // throws
    if (!spec.gated && experts_.is_gated()) {
      fail<format_error>(experts_.weight(io::ExpertMatrix::gate)->where().c_str(),
                         ": expected no such tensor, because the experts of the preset ", spec.model.c_str(),
                         " have no gate");
    }
    const auto same = [&](const char* what, Index wanted, Index got) {
      if (wanted == got) return;
      fail<format_error>(file_->name().c_str(), ": expected experts of ", wanted, " ", what, " in ",
                         block_.c_str(), ", as the metadata say, got ", got);
    };
    same("columns of width", spec.expert_width(), experts_.width());
    same("hidden columns", spec.hidden, experts_.hidden());
  }
  void require_expert_biases(const LayerSpec& spec) const {
    for (Index p = 0; p < io::kParts; ++p) {
      const auto part = static_cast<io::ExpertMatrix>(p);
      if (experts_.weight(part) == nullptr || experts_.has_bias(part) == spec.expert_bias) continue;
      fail<format_error>(experts_.weight(part)->where().c_str(), ": expected ",
                         spec.expert_bias ? "a bias beside it" : "no bias beside it", " for the preset ",
                         spec.model.c_str(), ", got ", spec.expert_bias ? "none" : "one");
    }
  }
  static void require_shape_of(const io::GgufTensor& t, const io::Shape& wanted) {
    if (t.shape == wanted) return;
    fail<format_error>(t.where().c_str(), ": expected shape ", wanted.text().c_str(), ", got ",
                       t.shape.text().c_str());
  }
  /// Rows of the tensor into those of `to`, or one row into a vector.
  static void read_rows(const io::GgufTensor& t, const MatrixView<float>& to) {
    io::GgufExperts::require_known(t);
    if (to.cols == 1 && to.rows > 1) {
      io::decode_ggml_row(t.type, t.data, 0, to.rows, to.data);
      return;
    }
    const Index row = to.rows == 0 ? 0 : t.bytes / to.rows;
    for (Index o = 0; o < to.rows; ++o) io::decode_ggml_row(t.type, t.data + o * row, 0, to.cols, to.row(o));
  }

  const io::GgufFile* file_;
  std::string block_;
  io::GgufExperts experts_;
};

}  // namespace models
MOE_NAMESPACE_END
