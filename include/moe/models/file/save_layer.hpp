// Writing a layer back under the names and in the layouts of the checkpoint it came from, so that the
// framework that published the model can load what was trained.
#pragma once

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/io/checkpoint.hpp"
#include "moe/io/experts.hpp"
#include "moe/io/json/config.hpp"
#include "moe/io/safetensors/writer.hpp"
#include "moe/models/any/any_layer.hpp"
#include "moe/models/file/layer_tensors.hpp"
#include "moe/models/preset/registry.hpp"

MOE_NAMESPACE_BEGIN
namespace models {
namespace impl {

/// Finds the tensors whose values a layer no longer has.
class ChangedTensors {
 public:
  ChangedTensors(const LayerTensors& tensors, const LayerSpec& spec)
      : tensors_(&tensors),
        experts_(tensors.checkpoint(), tensors.experts(), spec.experts, spec.expert_width(), spec.hidden) {}

  void compare(const Parameter<const float>& p) {
    Buffer<float> now(p.value.size());
    p.value.copy_to(MatrixView<float>(now.data(), p.value.rows, p.value.cols));
    if (const NamedTensor* const own = tensors_->named(p.name)) {
      return compare(*own, std::move(now), p.value.cols);
    }

    Index e = 0, first = 0;
    io::ExpertMatrix part{};
    const bool shared = std::string_view(p.name).starts_with("shared_");
    const char* const name = p.name + (shared ? std::strlen("shared_") : 0);
    Buffer<float> before(p.value.size());
    std::string theirs;  // empty: the values have no plain tensor of their own
    if (io::impl::parse_bias_name(name, e, part)) {
      const io::BiasLayout& layout = tensors_->experts().bias_of(part);
      if (layout) experts_.read_bias(e, part, before.data());
      if (is_each(layout.name) && layout.outputs == io::Outputs::all) theirs = layout.name;
    } else if (parse_matrix_name(name, e, part)) {
      const io::MatrixLayout& layout = (shared ? tensors_->shared() : tensors_->experts())[part];
      const MatrixView<float> to(before.data(), p.value.rows, p.value.cols);
      if (shared) {
        io::MatrixReader(tensors_->checkpoint(), layout, 0, to.rows, to.cols).read(0, to);
      } else {
        experts_.reader(part).read(e, to);
        experts_.release(e);
      }
      const bool plain = layout.encoding == io::Encoding::plain && layout.outputs == io::Outputs::all;
      if (plain && !layout.transposed && (shared || is_each(layout.name))) theirs = layout.name;
      first = layout.first;
    } else {
      fail<config_error>("parameter ", p.name, ": expected one that the preset has a tensor for, got none");
    }
    if (same(before, now)) return;
    if (theirs.empty()) {
      fail<config_error>(
          "parameter ", p.name,
          ": expected the checkpoint's values, because its tensor holds several matrices or is "
          "quantised, got trained ones");
    }
    changed_.emplace_back(io::with_number(theirs, "{expert}", first + e), std::move(now));
  }
  /// Rounds to float.
  void compare(const char* name, const double* values, Index n) {
    Buffer<float> now(n);
    for (Index i = 0; i < n; ++i) now[i] = static_cast<float>(values[i]);
    compare(*tensors_->named(name), std::move(now), n);
  }

  /// Null: unchanged.
  const Buffer<float>* find(std::string_view name) const noexcept {
    for (const auto& [changed, values] : changed_) {
      if (changed == name) return &values;
    }
    return nullptr;
  }

 private:
  /// `cols`: of ours.
  void compare(const NamedTensor& named, Buffer<float> now, Index cols) {
    const io::Tensor& tensor = tensors_->at(named.theirs);
    Buffer<float> before(tensor.shape.elements());
    io::require_plain(tensor);
    io::decode_floats(tensor.dtype, tensor.data, 0, before.size(), before.data());
    if (named.turned || named.row >= 0) {
      Buffer<float> whole = before;
      for (Index i = 0; i < now.size(); ++i) {
        const Index at = named.turned ? i % cols * (now.size() / cols) + i / cols : named.row * cols + i;
        whole[at] = now[i];
      }
      now = std::move(whole);
    }
    if (!same(before, now)) changed_.emplace_back(tensor.name, std::move(now));
  }
  static bool same(const Buffer<float>& a, const Buffer<float>& b) noexcept {
    return a.size() == b.size() &&
           std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(float)) == 0;
  }
  static bool is_each(const std::string& name) noexcept { return name.find("{expert}") != std::string::npos; }
  /// "experts.<e>.<matrix>.weight".
  static bool parse_matrix_name(const char* name, Index& e, io::ExpertMatrix& part) noexcept {
    constexpr const char* kMatrix[io::kParts] = {"gate_proj.weight", "up_proj.weight", "down_proj.weight",
                                                 "fc1.weight", "fc2.weight"};
    long long number = 0;
    int length = 0;
    if (std::sscanf(name, "experts.%lld.%n", &number, &length) != 1 || length == 0) return false;
    for (Index p = 0; p < io::kParts; ++p) {
      if (std::strcmp(name + length, kMatrix[p]) != 0) continue;
      e = static_cast<Index>(number);
      part = static_cast<io::ExpertMatrix>(p);
      return true;
    }
    return false;
  }

  const LayerTensors* tensors_;
  io::CheckpointExperts experts_;
  std::vector<std::pair<std::string, Buffer<float>>> changed_;
};

}  // namespace impl

/// Writes the safetensors file `out`: all tensors of layer `layer` of the model in `folder` that lie under
/// the block's prefix, in the original names and shapes. Those whose values `trained` still has are copied
/// byte for byte; the others become F32. Weights in bfloat16, int8 or int4 storage were not trained and are
/// copied. Returns the names of the changed tensors. Throws config_error for another layer than `trained` was
/// loaded from, and for trained experts whose tensors are fused, transposed or quantised; file_error or
/// format_error as load_layer(). Memory: the changed tensors and one expert.
inline std::vector<std::string> save_parameters(const std::filesystem::path& folder, Index layer,
                                                const AnyLayer& trained, const std::filesystem::path& out) {
  const io::Config config = io::Config::from_file(folder / "config.json");
  const LayerSpec spec = describe_layer(config, layer);
  const LayerSpec& from = trained.spec();
  if (from.model != spec.model || from.layer != layer) {
    fail<config_error>("layer: expected layer ", layer, " of ", spec.model.c_str(), ", got layer ",
                       from.layer, " of ", from.model.c_str());
  }
  const io::Checkpoint checkpoint(folder);
  const LayerTensors tensors(checkpoint, config, spec);
  tensors.require_whole_block(spec);
  impl::ChangedTensors changed(tensors, spec);
  trained.visit_parameters([&](const Parameter<const float>& p) { changed.compare(p); });
  trained.visit_state(
      [&](const char* name, const double* values, Index n) { changed.compare(name, values, n); });

  std::vector<std::string> names;
  io::SafetensorsWriter writer;
  writer.add_metadata("format", "pt");  // Transformers refuses files that do not say so
  for (const io::Tensor* const t : checkpoint.under(tensors.prefix())) {
    if (const Buffer<float>* const values = changed.find(t->name)) {
      writer.add_floats(t->name, io::DType::F32, t->shape, values->data());
      names.push_back(t->name);
    } else {
      writer.add(t->name, t->dtype, t->shape, t->data);
    }
  }
  writer.save(out);
  return names;
}

}  // namespace models
MOE_NAMESPACE_END
