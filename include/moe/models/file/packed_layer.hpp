// A layer as it is in memory, in a file of its own: experts in the storage they were loaded into, everything
// else in float, and the model's config.json. What was converted once is loaded again without the model's
// folder. Layout: a safetensors file with
//   metadata   "format" as kPackedFormat, "layer" its number, "config" the text of config.json
//   U8  [n]    weights of a block storage as they lie in memory, named as AnyLayer::visit_packed() does
//   F32 [o, i] parameters, F64 [n] router state, by name
//   "hash_table" [V, K] as the model has it, in layers that route by token id
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/io/checkpoint.hpp"
#include "moe/io/file/mapped_file.hpp"
#include "moe/io/json/config.hpp"
#include "moe/io/safetensors/reader.hpp"
#include "moe/io/safetensors/writer.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/models/any/any_layer.hpp"
#include "moe/models/file/layer_tensors.hpp"
#include "moe/models/file/load_layer.hpp"
#include "moe/models/preset/registry.hpp"
#include "moe/storage/storage.hpp"

MOE_NAMESPACE_BEGIN
namespace models {

inline constexpr const char* kPackedFormat = "moe packed layer 1";

namespace impl {

inline constexpr const char* kHashTable = "hash_table";

/// A packed file with its config read, before any weight is.
class PackedLayer {
 public:
  /// Throws file_error, format_error or config_error naming the file.
  explicit PackedLayer(const std::filesystem::path& path)
      : file_(path),
        config_(io::Config::from_text(metadata("config"), file_.name() + ": config")),
        spec_(describe_layer(config_, number(metadata("layer")))),
        storage_(storage_of(file_)) {
    require_bytes();
  }

  /// Every tensor of the file has one place in the layer, and every place one tensor.
  AnyLayer load() const {
    OptionsRouter<float> router =
        spec_.hash_table ? token_choice_router<float>(spec_.router, read_hash_table(at(kHashTable), spec_))
                         : token_choice_router<float>(spec_.router);
    AnyLayer layer = load_any(nullptr, spec_, std::move(router), storage_, {});
    std::vector<const io::Tensor*> used;
    if (spec_.hash_table) used.push_back(&at(kHashTable));
    const auto take = [&](const char* name, io::DType dtype, const io::Shape& shape) -> const io::Tensor& {
      const io::Tensor& t = at(name);
      io::require_dtype(t, dtype);
      io::require_tensor_shape(t, shape);
      used.push_back(&t);
      return t;
    };
    layer.visit_packed([&](const char* name, std::byte* data, Index n) {
      const io::Tensor& t = take(name, io::DType::U8, io::Shape(n));
      if (n > 0) std::memcpy(data, t.data, static_cast<std::size_t>(n));
      t.file->release(t.data, t.bytes);
    });
    layer.visit_parameters([&](const Parameter<float>& p) {
      const io::Tensor& t = take(p.name, io::DType::F32, io::Shape(p.value.rows, p.value.cols));
      Buffer<float> values(p.value.size());
      io::decode_floats(t.dtype, t.data, 0, values.size(), values.data());
      const std::string_view name = p.name;
      const bool expert = name.starts_with("experts.") || name.starts_with("shared_experts.");
      if (!expert) require_finite(t.where().c_str(), MatrixView<float>(values.data(), 1, values.size()));
      p.value.assign(ConstMatrixView<float>(values.data(), p.value.rows, p.value.cols));
    });
    layer.visit_state([&](const char* name, double* to, Index n) {
      const io::Tensor& t = take(name, io::DType::F64, io::Shape(n));
      for (Index i = 0; i < n; ++i) {
        to[i] = std::bit_cast<double>(moe::impl::load_little<std::uint64_t>(t.data + 8 * i));
        if (!is_finite(to[i])) {
          fail<numeric_error>(t.where().c_str(), ": expected finite numbers, got ", to[i], " at ", i);
        }
      }
    });
    std::sort(used.begin(), used.end());
    for (const io::Tensor& t : file_.tensors()) {
      if (std::binary_search(used.begin(), used.end(), &t)) continue;
      fail<format_error>(t.where().c_str(), ": expected a part of layer ", spec_.layer, " of ",
                         spec_.model.c_str(), ", got a tensor that it does not have");
    }
    return layer;
  }

 private:
  const std::string& metadata(std::string_view key) const {
    const auto value = [&](std::string_view name) -> const std::string* {
      for (const auto& [own, text] : file_.metadata()) {
        if (own == name) return &text;
      }
      return nullptr;
    };
    const std::string* const format = value("format");
    if (format == nullptr || *format != kPackedFormat) {
      fail<format_error>(file_.name().c_str(), ": expected a packed layer (metadata \"format\": \"",
                         kPackedFormat, "\"), got ",
                         format == nullptr ? "none" : io::in_quotes(*format).c_str());
    }
    const std::string* const text = value(key);
    if (text != nullptr) return *text;
    fail<format_error>(file_.name().c_str(), ": expected metadata ", io::in_quotes(key).c_str(),
                       ", got none");
  }
  Index number(const std::string& text) const {
    Index n = 0;
    bool fits = !text.empty() && text.size() <= 9;
    for (const char c : text) {
      fits = fits && c >= '0' && c <= '9';
      n = fits ? 10 * n + (c - '0') : 0;
    }
    if (fits) return n;
    fail<format_error>(file_.name().c_str(), ": expected metadata \"layer\" to be a number, got ",
                       io::in_quotes(text).c_str());
  }

  /// Names of packed weights end in their storage's.
  static StorageKind storage_of(const io::SafetensorsFile& file) {
    const auto any_of = [&](const char* storage) {
      const std::string tail = std::string(".") + storage;
      return std::any_of(file.tensors().begin(), file.tensors().end(),
                         [&](const io::Tensor& t) { return t.name.ends_with(tail); });
    };
    auto found = StorageKind::float32;
    int kind = 0;
    for_each_type(Storages{}, [&]<class Storage>(std::type_identity<Storage>) {
      if constexpr (BlockStorage<Storage>) {
        if (any_of(StorageTraits<Storage>::kName)) found = static_cast<StorageKind>(kind);
      }
      ++kind;
    });
    return found;
  }

  /// The file has room for the matrices that the config asks for: a config cannot make a small file allocate.
  void require_bytes() const {
    constexpr double kBits[] = {32, 16, 8, 4, 8, 4, 6};  // of a weight, by StorageKind
    const double matrices = spec_.gated ? 3 : 2;
    const auto real = [](Index n) { return static_cast<double>(n); };
    const double weights = matrices * (real(spec_.experts) * real(spec_.hidden) * real(spec_.expert_width()) +
                                       real(spec_.shared_hidden) * real(spec_.width));
    double floats = 0;
    for (const NamedTensor& n : spec_.tensors) {
      const bool again = &n != &*std::find_if(spec_.tensors.begin(), spec_.tensors.end(),
                                              [&](const NamedTensor& other) { return other.ours == n.ours; });
      const Extents extents = extents_of(spec_, n.ours);
      if (!again) floats += real(extents.rows) * real(extents.cols);
    }
    const double least = weights * kBits[static_cast<int>(storage_)] / 8 + 4 * floats;
    double bytes = 0;
    for (const io::Tensor& t : file_.tensors()) bytes += real(t.bytes);
    if (bytes >= least) return;
    fail<format_error>(file_.name().c_str(), ": expected at least ", least, " bytes of weights for layer ",
                       spec_.layer, " of ", spec_.model.c_str(), ", got ", bytes);
  }

  const io::Tensor& at(std::string_view name) const {
    if (const io::Tensor* const found = file_.find(name)) return *found;
    fail<format_error>(file_.name().c_str(), ": expected a tensor ", io::in_quotes(name).c_str(),
                       ", got none");
  }

  io::SafetensorsFile file_;
  io::Config config_;
  LayerSpec spec_;
  StorageKind storage_;
};

}  // namespace impl

/// Writes `layer`, loaded from the model in `folder` and perhaps trained since, to the file `out`. Of the
/// folder only config.json is read, and the table of a layer that routes by token id. Throws config_error for
/// another model's folder; file_error or format_error as load_layer(). Memory: a copy of what is in float.
inline void save_packed(const std::filesystem::path& folder, const AnyLayer& layer,
                        const std::filesystem::path& out) {
  const io::MappedFile text(folder / "config.json");
  const std::string_view json{reinterpret_cast<const char*>(text.bytes().data()), text.bytes().size()};
  const io::Config config = io::Config::from_text(json, io::shown(text.path()));
  const LayerSpec& spec = layer.spec();
  const char* const model = preset_of(config).name;
  if (spec.model != model) {
    fail<config_error>(io::shown(folder).c_str(), ": expected the folder of a ", spec.model.c_str(), ", got ",
                       model);
  }

  io::SafetensorsWriter writer;
  writer.add_metadata("format", kPackedFormat);
  writer.add_metadata("layer", std::to_string(spec.layer));
  writer.add_metadata("config", std::string(json));
  layer.visit_packed([&](const char* name, const std::byte* data, Index n) {
    writer.add(name, io::DType::U8, io::Shape(n), data);
  });
  layer.visit_parameters([&](const Parameter<const float>& p) {
    Buffer<float> values(p.value.size());
    p.value.copy_to(MatrixView<float>(values.data(), p.value.rows, p.value.cols));
    writer.add_floats(p.name, io::DType::F32, io::Shape(p.value.rows, p.value.cols), values.data());
  });
  std::vector<Buffer<double>> state;  // visitors see a copy, which ends with the visit
  layer.visit_state([&](const char* name, const double* values, Index n) {
    state.emplace_back().copy_from(values, n);
    writer.add(name, io::DType::F64, io::Shape(n), state.back().data());
  });
  if (!spec.hash_table) return writer.save(out);
  const io::Checkpoint checkpoint(folder);
  const io::Tensor& table = LayerTensors(checkpoint, config, spec).at(spec.hash_tensor);
  writer.add(impl::kHashTable, table.dtype, table.shape, table.data);
  writer.save(out);
}

/// The layer that save_packed() has written: same bits, same outputs. Throws file_error, format_error,
/// config_error or numeric_error naming the file, the tensor or key and the reason for a file that is not
/// one. Memory: the layer.
inline AnyLayer load_packed(const std::filesystem::path& file) {
  return impl::PackedLayer(file).load();
}

}  // namespace models
MOE_NAMESPACE_END
