// All blocks of a released model: loaded, or told of without reading a weight.
#pragma once

#include <cstdio>
#include <filesystem>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "moe/core/check.hpp"
#include "moe/io/checkpoint.hpp"
#include "moe/io/gguf/reader.hpp"
#include "moe/io/json/config.hpp"
#include "moe/models/any/any_layer.hpp"
#include "moe/models/file/gguf_layer.hpp"
#include "moe/models/file/layer_tensors.hpp"
#include "moe/models/file/load_layer.hpp"
#include "moe/models/preset/registry.hpp"

MOE_NAMESPACE_BEGIN
namespace models {

namespace impl {

/// describe(l) of every layer, none for a dense one. Throws what describe throws, but for dense layers and
/// the first that is not there, and config_error if there is no such (Swin-MoE does not say how many it has).
template <class Describe>
std::vector<std::optional<LayerSpec>> describe_each(const std::string& file, const Describe& describe) {
  constexpr Index kMost = 4096;
  std::vector<std::optional<LayerSpec>> layers;
  for (Index l = 0; l <= kMost; ++l) {
    try {
      layers.emplace_back(describe(l));
    } catch (const dense_layer_error&) {
      layers.emplace_back();
    } catch (const no_layer_error&) {
      return layers;
    }
  }
  fail<config_error>(file.c_str(), ": expected to be told how many layers there are, at most ", kMost,
                     ", got a model that does not say it; load its layers one by one");
}

}  // namespace impl

/// What a config, or a GGUF file, says of every layer; none for a dense one. Throws config_error.
inline std::vector<std::optional<LayerSpec>> describe_layers(const io::Config& config) {
  return impl::describe_each(config.file(), [&](Index l) { return describe_layer(config, l); });
}
inline std::vector<std::optional<LayerSpec>> describe_layers(const io::GgufFile& file) {
  return impl::describe_each(file.name(), [&](Index l) { return describe_layer(gguf_config(file, l), l); });
}

/// The blocks of a model by layer.
class LoadedModel {
 public:
  explicit LoadedModel(std::vector<std::optional<AnyLayer>> layers) : layers_(std::move(layers)) {}

  Index layers() const noexcept { return static_cast<Index>(layers_.size()); }
  /// Whether a layer has no experts: nothing of it is loaded. Throws config_error for one that is not there.
  bool is_dense(Index layer) const {
    require_range("layer", layer, 0, layers() - 1);
    return !layers_[static_cast<std::size_t>(layer)].has_value();
  }
  /// Throws config_error for a layer that is dense or not there.
  const AnyLayer& at(Index layer) const {
    if (is_dense(layer))
      fail<config_error>("layer: expected one with experts, got ", layer, ", which is dense");
    return *layers_[static_cast<std::size_t>(layer)];
  }
  AnyLayer& at(Index layer) { return const_cast<AnyLayer&>(std::as_const(*this).at(layer)); }

 private:
  std::vector<std::optional<AnyLayer>> layers_;
};

namespace impl {

/// `load(l, options)` of every layer with experts, with the progress of all.
template <class Load>
LoadedModel load_each(const std::vector<std::optional<LayerSpec>>& specs, const LoadOptions& options,
                      const Load& load) {
  struct Counted {
    const LoadProgress& progress;
    Index before = 0, total = 0;
  } counted{options.progress};
  for (const std::optional<LayerSpec>& spec : specs) counted.total += spec ? spec->experts : 0;
  LoadOptions each = options;
  each.progress = {&counted, [](void* context, Index done, Index) noexcept {
                     const Counted& all = *static_cast<Counted*>(context);
                     all.progress(all.before + done, all.total);
                   }};
  std::vector<std::optional<AnyLayer>> layers(specs.size());
  for (std::size_t l = 0; l < specs.size(); ++l) {
    if (!specs[l]) continue;
    layers[l].emplace(load(static_cast<Index>(l), each));
    counted.before += specs[l]->experts;
  }
  return LoadedModel(std::move(layers));
}

}  // namespace impl

/// Every block of a model, layer after layer: each tensor is read once and its pages let go of, so that
/// memory is that of the layers. Progress counts the experts of all layers. Throws what load_layer throws,
/// before a weight is read where config and tensors do not go together.
inline LoadedModel load_model(const io::Config& config, const io::Checkpoint& checkpoint,
                              const LoadOptions& options = {}) {
  const std::vector<std::optional<LayerSpec>> specs = describe_layers(config);
  for (const std::optional<LayerSpec>& spec : specs) {
    if (spec) LayerTensors(checkpoint, config, *spec).require_whole_block(*spec);
  }
  return impl::load_each(specs, options, [&](Index layer, const LoadOptions& each) {
    return load_layer(config, checkpoint, layer, each);
  });
}
inline LoadedModel load_model(const io::GgufFile& file, const LoadOptions& options = {}) {
  const std::vector<std::optional<LayerSpec>> specs = describe_layers(file);
  for (const std::optional<LayerSpec>& spec : specs) {
    if (spec) GgufTensors(file, *spec).require_whole_block(*spec);
  }
  return impl::load_each(specs, options,
                         [&](Index layer, const LoadOptions& each) { return load_layer(file, layer, each); });
}

/// Of a model's folder, config.json and model.safetensors or its shards, or of a GGUF file. Also throws
/// file_error.
inline LoadedModel load_model(const std::filesystem::path& path, const LoadOptions& options = {}) {
  if (is_gguf(path)) return load_model(io::GgufFile(path), options);
  return load_model(io::Config::from_file(path / "config.json"), io::Checkpoint(path), options);
}

/// A layer of a table; of a dense one its number alone.
struct LayerRow {
  Index layer = 0;
  bool dense = false;
  std::string router{};                                         // its parts, as they name themselves
  Index experts = 0, k = 0, width = 0, hidden = 0, shared = 0;  // E, K, D, F, F of the shared expert
  std::string storage{};                                        // of the experts in the files
  Index bytes = 0;                                              // of the block in the files
};

struct ModelTable {
  std::string model{};  // the preset
  std::vector<LayerRow> layers{};
};

namespace impl {

inline std::string router_text(const LayerSpec& spec) {
  if (spec.hash_table) return "table of token ids";
  std::string text;
  const auto add = [&](const char*, const char* name) {
    text += (text.empty() ? "" : " ") + std::string(name);
  };
  moe::impl::visit_names_of("score", spec.router.score, add);
  moe::impl::visit_names_of("selection", spec.router.selection, add);
  if (selects_with_bias(spec)) text += " biased";
  return text;
}

}  // namespace impl

namespace impl {

/// A row of every layer; `tensors(spec)` are those of one, checked.
template <class Tensors>
ModelTable table_of(const std::vector<std::optional<LayerSpec>>& specs, const Tensors& tensors) {
  ModelTable table;
  for (std::size_t l = 0; l < specs.size(); ++l) {
    LayerRow& row = table.layers.emplace_back();
    row.layer = static_cast<Index>(l);
    row.dense = !specs[l].has_value();
    if (row.dense) continue;
    const LayerSpec& spec = *specs[l];
    const auto of_layer = tensors(spec);
    of_layer.require_whole_block(spec);
    table.model = spec.model;
    row.router = router_text(spec);
    row.experts = spec.experts;
    row.k = spec.router.k;
    row.width = spec.width;
    row.hidden = spec.hidden;
    row.shared = spec.shared_hidden;
    row.storage = of_layer.storage();
    row.bytes = of_layer.bytes(spec);
  }
  return table;
}

}  // namespace impl

/// What is there of a model, from config and headers alone. Throws what load_layer throws of keys, and of
/// tensors that are missing or of another shape; not what only building the router shows (more choices than
/// experts).
inline ModelTable describe(const io::Config& config, const io::Checkpoint& checkpoint) {
  return impl::table_of(describe_layers(config),
                        [&](const LayerSpec& spec) { return LayerTensors(checkpoint, config, spec); });
}
inline ModelTable describe(const io::GgufFile& file) {
  return impl::table_of(describe_layers(file),
                        [&](const LayerSpec& spec) { return GgufTensors(file, spec); });
}
inline ModelTable describe(const std::filesystem::path& path) {
  if (is_gguf(path)) return describe(io::GgufFile(path));
  return describe(io::Config::from_file(path / "config.json"), io::Checkpoint(path));
}

/// A line for each layer; neighbours that are alike share one.
inline std::ostream& operator<<(std::ostream& out, const ModelTable& table) {
  const auto alike = [](const LayerRow& a, const LayerRow& b) {
    return a.dense == b.dense && a.router == b.router && a.experts == b.experts && a.k == b.k &&
           a.width == b.width && a.hidden == b.hidden && a.shared == b.shared && a.storage == b.storage &&
           a.bytes == b.bytes;
  };
  out << (table.model.empty() ? "no layer with experts" : table.model) << ", " << table.layers.size()
      << " layers\n"
      << "layers         E    K      D      F  shared  MB a layer  storage  router\n";
  for (std::size_t first = 0, last = 0; first < table.layers.size(); first = last + 1) {
    const LayerRow& row = table.layers[first];
    for (last = first; last + 1 < table.layers.size() && alike(row, table.layers[last + 1]);) ++last;
    std::string layers = std::to_string(first);
    if (last > first) layers += " to " + std::to_string(last);
    char line[160];
    if (row.dense) {
      std::snprintf(line, sizeof line, "%-10s  dense\n", layers.c_str());
      out << line;
      continue;
    }
    std::snprintf(line, sizeof line, "%-10s %5td %4td %6td %6td %7td %11.2f  ", layers.c_str(), row.experts,
                  row.k, row.width, row.hidden, row.shared, static_cast<double>(row.bytes) / 1e6);
    out << line << row.storage << "  " << row.router << "\n";
  }
  return out;
}

}  // namespace models
MOE_NAMESPACE_END
