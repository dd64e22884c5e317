// Where a layer's tensors are in a particular checkpoint: its prefix, the layout its experts have there, and
// how their elements are encoded.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moe/core/check.hpp"
#include "moe/io/checkpoint.hpp"
#include "moe/io/json/config.hpp"
#include "moe/io/layout.hpp"
#include "moe/models/preset/spec.hpp"

MOE_NAMESPACE_BEGIN
namespace models {

/// What a config's "quantization_config" says about the matrices that are not plain.
struct Quantisation {
  io::Encoding encoding = io::Encoding::plain;  // of 8-bit floats, or of packed words; mxfp4 of bytes
  Index scale_rows = 0;                         // `scaled`, see io::MatrixLayout
  Index scale_cols = 0;
  Index group = 32;  // `int4`

  /// Throws config_error for a method or a format that cannot be read, naming it.
  static Quantisation from(const io::Config& config) {
    const io::Config text = text_config(config);
    const io::Config& owner = config.has_section("quantization_config") ? config : text;
    if (!owner.has_section("quantization_config")) return {};
    const io::Config section = owner.section("quantization_config");
    const std::string method = section.required<std::string>("quant_method");
    if (method == "mxfp4") return {.encoding = io::Encoding::mxfp4};
    if (method == "fp8") {
      if (!section.has("weight_block_size")) return {.encoding = io::Encoding::scaled};
      const Buffer<Index> block = section.integers("weight_block_size");
      require_block(section, "weight_block_size", block);
      return {.encoding = io::Encoding::scaled, .scale_rows = block[0], .scale_cols = block[1]};
    }
    if (method != "compressed-tensors") {
      fail<config_error>(section.where("quant_method").c_str(),
                         ": expected \"fp8\", \"mxfp4\" or \"compressed-tensors\", got ",
                         io::in_quotes(method).c_str());
    }
    return compressed_tensors(section);
  }

 private:
  static void require_block(const io::Config& section, const char* key, const Buffer<Index>& block) {
    if (block.size() == 2 && block[0] > 0 && block[1] > 0) return;
    fail<config_error>(section.where(key).c_str(), ": expected two sizes above 0, got a list of ",
                       block.size());
  }
  static Quantisation compressed_tensors(const io::Config& section) {
    const std::string format = section.required<std::string>("format");
    if (format == "mxfp4-pack-quantized") return {.encoding = io::Encoding::mxfp4};
    const io::Config weights = section.section("config_groups").section("group_0").section("weights");
    const std::string strategy = weights.required<std::string>("strategy");
    if (format == "pack-quantized") {
      if (weights.required<Index>("num_bits") != 4 || !weights.required<bool>("symmetric") ||
          strategy != "group") {
        fail<config_error>(weights.where("num_bits").c_str(),
                           ": expected symmetric groups of 4 bits for pack-quantized weights");
      }
      return {.encoding = io::Encoding::int4, .group = weights.required_in("group_size", 1, INT32_MAX)};
    }
    if (format == "float-quantized" || format == "naive-quantized") {
      if (strategy == "channel") return {.encoding = io::Encoding::scaled, .scale_rows = 1};
      if (strategy == "tensor") return {.encoding = io::Encoding::scaled};
      if (strategy == "block") {
        const Buffer<Index> block = weights.integers("block_structure");
        require_block(weights, "block_structure", block);
        return {.encoding = io::Encoding::scaled, .scale_rows = block[0], .scale_cols = block[1]};
      }
    }
    fail<config_error>(section.where("format").c_str(), ": expected a format that this library reads, got ",
                       io::in_quotes(format).c_str(), " with strategy ", io::in_quotes(strategy).c_str());
  }
};

/// Refers to the checkpoint, which must outlive it.
class LayerTensors {
 public:
  /// Throws format_error for tensors that are not there, config_error for a quantisation that cannot be read.
  LayerTensors(const io::Checkpoint& checkpoint, const io::Config& config, const LayerSpec& spec)
      : checkpoint_(&checkpoint), quantisation_(Quantisation::from(config)), names_(spec.tensors) {
    const std::string router = spec.tensors.front().theirs;
    for (const std::string& candidate : spec.prefixes) {
      const std::string prefix = io::with_number(candidate, "{layer}", spec.layer);
      if (checkpoint.find(prefix + router) == nullptr) continue;
      prefix_ = prefix;
      experts_ = choose(spec.expert_layouts);
      if (spec.shared_hidden > 0) shared_ = choose(spec.shared_layouts);
      return;
    }
    checkpoint.at(io::with_number(spec.prefixes.front(), "{layer}", spec.layer) + router);  // throws
  }

  const io::Checkpoint& checkpoint() const noexcept { return *checkpoint_; }
  const std::string& prefix() const noexcept { return prefix_; }
  /// With the whole names, as they are encoded.
  const io::ExpertLayout& experts() const noexcept { return experts_; }
  const io::ExpertLayout& shared() const noexcept { return shared_; }

  /// The name of the tensor that holds our parameter or state, or empty.
  std::string name_of(std::string_view ours) const {
    for (const NamedTensor& n : names_) {
      if (n.ours == ours) return prefix_ + n.theirs;
    }
    return {};
  }
  const io::Tensor& at(const std::string& theirs) const { return checkpoint_->at(prefix_ + theirs); }

 private:
  static std::string without(const std::string& name, std::string_view tail) {
    const bool ends =
        name.size() >= tail.size() && name.compare(name.size() - tail.size(), tail.size(), tail) == 0;
    return ends ? name.substr(0, name.size() - tail.size()) : std::string();
  }
  const io::Tensor* find(const std::string& name) const {
    return checkpoint_->find(io::with_number(name, "{expert}", 0));
  }

  /// The first layout that has its first matrix here; of none the first, whose reader says what is missing.
  io::ExpertLayout choose(const std::vector<io::ExpertLayout>& layouts) const {
    for (const io::ExpertLayout& layout : layouts) {
      const io::MatrixLayout& first =
          layout[layout.is_gated() ? io::ExpertMatrix::gate : io::ExpertMatrix::fc1];
      const std::string name = prefix_ + first.name, base = without(name, "weight");
      if (find(name) != nullptr || (!base.empty() && find(base + "weight_packed") != nullptr)) {
        return resolve(layout);
      }
    }
    return resolve(layouts.front());
  }

  io::ExpertLayout resolve(io::ExpertLayout layout) const {
    for (Index p = 0; p < io::kParts; ++p) {
      if (layout.bias[p]) layout.bias[p].name = prefix_ + layout.bias[p].name;
      io::MatrixLayout& matrix = layout.matrix[p];
      if (!matrix) continue;
      matrix.name = prefix_ + matrix.name;
      if (!matrix.scales.empty()) matrix.scales = prefix_ + matrix.scales;
      if (matrix.encoding == io::Encoding::plain) encode(matrix);
    }
    return layout;
  }

  /// What the tensor's dtype and its neighbours say about a matrix, checked against the config.
  void encode(io::MatrixLayout& matrix) const {
    const std::string base = without(matrix.name, "weight");
    const io::Tensor* const values = find(matrix.name);
    if (values == nullptr) {
      if (base.empty() || find(base + "weight_packed") == nullptr)
        return;  // the reader names what is missing
      const io::Tensor& packed = *find(base + "weight_packed");
      if (quantisation_.encoding != io::Encoding::int4 && quantisation_.encoding != io::Encoding::mxfp4) {
        fail<format_error>(packed.where().c_str(),
                           ": expected a quantization_config of packed weights in config.json, got none");
      }
      matrix.encoding = quantisation_.encoding;
      matrix.group = quantisation_.group;
      matrix.name = base + "weight_packed";
      matrix.scales = base + "weight_scale";
      return;
    }
    const io::DType type = values->dtype;
    if (type == io::DType::F8_E4M3 || type == io::DType::F8_E5M2) {
      if (quantisation_.encoding != io::Encoding::scaled) {
        fail<format_error>(values->where().c_str(),
                           ": expected a quantization_config of 8-bit floats in config.json, got none");
      }
      matrix.encoding = io::Encoding::scaled;
      matrix.scale_rows = quantisation_.scale_rows;
      matrix.scale_cols = quantisation_.scale_cols;
      matrix.scales = first_found({matrix.name + "_scale_inv", matrix.name + "_scale", base + "scale"});
    } else if (type == io::DType::I8 && !base.empty() && find(base + "scale") != nullptr) {
      matrix.encoding = io::Encoding::mxfp4;  // DeepSeek-V4: two numbers a byte
      matrix.scales = base + "scale";
    }
  }
  std::string first_found(std::initializer_list<std::string> names) const {
    for (const std::string& name : names) {
      if (find(name) != nullptr) return name;
    }
    return *names.begin();
  }

  const io::Checkpoint* checkpoint_;
  Quantisation quantisation_;
  std::vector<NamedTensor> names_;
  std::string prefix_;
  io::ExpertLayout experts_{};
  io::ExpertLayout shared_{};
};

}  // namespace models
MOE_NAMESPACE_END
