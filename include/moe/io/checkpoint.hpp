// All tensors of a model's folder: model.safetensors, or its shards, with their index or without.
#pragma once

#include <algorithm>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "moe/core/check.hpp"
#include "moe/io/file/shards.hpp"
#include "moe/io/json/json.hpp"
#include "moe/io/safetensors/reader.hpp"

MOE_NAMESPACE_BEGIN
namespace io {

namespace impl {

/// What an index says: which file of its folder holds which tensor, by name.
using WeightMap = std::vector<std::pair<std::string, std::string>>;

/// Whether `name` is a plain file name, which cannot lead out of a folder.
inline bool is_plain_name(std::string_view name) noexcept {
  if (name.empty() || name == "." || name == ".." || name.size() > 255) return false;
  for (const char c : name) {
    if (c == '/' || c == '\\' || c == ':' || static_cast<unsigned char>(c) < ' ') return false;
  }
  return true;
}

/// Throws format_error naming file, tensor and reason. `file`: how messages call the text.
inline WeightMap parse_index(std::string_view text, const std::string& file) {
  const Json root = parse_json(text, file);
  const Json* const map = root.find("weight_map");
  if (map == nullptr || !map->is(Json::Kind::object)) {
    fail<format_error>(file.c_str(), ": expected an object \"weight_map\", got ",
                       map == nullptr ? "none" : map->describe().c_str());
  }
  const Json::Object& entries = *map->object();
  WeightMap files;
  for (std::size_t i = 0; i < entries.names.size(); ++i) {
    const std::string* const shard = entries.values[i].string();
    if (shard == nullptr || !is_plain_name(*shard)) {
      fail<format_error>(file.c_str(), ": tensor ", in_quotes(entries.names[i]).c_str(),
                         ": expected the name of a file in the same folder, got ",
                         entries.values[i].describe().c_str());
    }
    files.emplace_back(entries.names[i], *shard);
  }
  std::sort(files.begin(), files.end());
  return files;
}

/// Length of the common beginning and end of two names.
inline Index likeness(std::string_view a, std::string_view b) noexcept {
  const std::size_t n = (std::min)(a.size(), b.size());
  std::size_t begin = 0, end = 0;
  while (begin < n && a[begin] == b[begin]) ++begin;
  while (end < n - begin && a[a.size() - 1 - end] == b[b.size() - 1 - end]) ++end;
  return static_cast<Index>(begin + end);
}

}  // namespace impl

/// The tensors of a model, mapped from one file or several. Views live as long as this object or what it was
/// moved to.
class Checkpoint {
 public:
  /// `path`: a safetensors file, an index, or a folder with model.safetensors, model.safetensors.index.json
  /// or shards <name>-00001-of-0000N.safetensors without an index. Every file an index names must be there
  /// with the tensors it is said to hold, and every shard; tensors the index does not name are left out.
  /// Throws file_error or format_error naming file, tensor and reason.
  explicit Checkpoint(const std::filesystem::path& path) : path_(path) {
    std::error_code error;
    std::filesystem::path file = path;
    if (std::filesystem::is_directory(path, error)) {
      file = path / "model.safetensors";
      if (!std::filesystem::exists(file, error)) file = path / "model.safetensors.index.json";
    }
    if (!std::filesystem::exists(file, error) && file != path) {
      open_shards();
    } else if (file.extension() == ".json") {
      open_index(file);
    } else {
      files_.emplace_back(file);
      add_all_tensors();
    }
  }
  /// Of one file that is open.
  explicit Checkpoint(SafetensorsFile file) : path_(file.name()) {
    files_.push_back(std::move(file));
    add_all_tensors();
  }

  Index size() const noexcept { return static_cast<Index>(tensors_.size()); }
  /// By name; pointers to views.
  std::span<const Tensor* const> tensors() const noexcept { return tensors_; }

  /// Those whose names begin so.
  std::span<const Tensor* const> under(std::string_view prefix) const noexcept {
    const auto first =
        std::lower_bound(tensors_.begin(), tensors_.end(), prefix,
                         [](const Tensor* t, std::string_view p) noexcept { return t->name < p; });
    const auto last = std::find_if(first, tensors_.end(),
                                   [&](const Tensor* t) noexcept { return !t->name.starts_with(prefix); });
    return {first, last};
  }

  /// Null if there is none of that name.
  const Tensor* find(std::string_view name) const noexcept {
    const auto at =
        std::lower_bound(tensors_.begin(), tensors_.end(), name,
                         [](const Tensor* t, std::string_view n) noexcept { return t->name < n; });
    return at != tensors_.end() && (*at)->name == name ? *at : nullptr;
  }
  /// Throws format_error naming the folder, the name and those most like it.
  const Tensor& at(std::string_view name) const {
    if (const Tensor* const found = find(name)) return *found;
    fail<format_error>(shown(path_).c_str(), ": expected a tensor ", in_quotes(name).c_str(), ", got none; ",
                       nearest(name).c_str());
  }

  const std::filesystem::path& path() const noexcept { return path_; }
  Index files() const noexcept { return static_cast<Index>(files_.size()); }
  /// Metadata of file `i`.
  const SafetensorsFile::Metadata& metadata(Index i = 0) const {
    require_range("file of a checkpoint", i, 0, files() - 1);
    return files_[static_cast<std::size_t>(i)].metadata();
  }

 private:
  void open_index(const std::filesystem::path& index) {
    const std::string shown_index = shown(index);
    impl::WeightMap map;
    {
      const MappedFile file(index);
      const std::span<const std::byte> bytes = file.bytes();
      map = impl::parse_index({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, shown_index);
    }
    std::vector<std::string> names;
    for (const auto& [tensor, file] : map) names.push_back(file);
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
    for (const std::string& name : names) files_.emplace_back(index.parent_path() / name);
    for (const auto& [name, file] : map) {
      const auto position = std::lower_bound(names.begin(), names.end(), file) - names.begin();
      const Tensor* const found = files_[static_cast<std::size_t>(position)].find(name);
      if (found == nullptr) {
        fail<format_error>(shown_index.c_str(), ": tensor ", in_quotes(name).c_str(), ": expected it in ",
                           in_quotes(file).c_str(), ", got a file without it");
      }
      tensors_.push_back(found);
    }
  }

  void add_all_tensors() {
    for (const SafetensorsFile& file : files_) {
      for (const Tensor& t : file.tensors()) tensors_.push_back(&t);
    }
    std::sort(tensors_.begin(), tensors_.end(),
              [](const Tensor* a, const Tensor* b) noexcept { return a->name < b->name; });
    for (std::size_t i = 1; i < tensors_.size(); ++i) {
      if (tensors_[i]->name != tensors_[i - 1]->name) continue;
      fail<format_error>(tensors_[i]->where().c_str(), ": expected it in one shard, got it in ",
                         in_quotes(*tensors_[i - 1]->source).c_str(), " as well");
    }
  }

  /// The folder's shards by their names.
  void open_shards() {
    std::vector<std::string> names;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(path_, error)) {
      const std::string name = entry.path().filename().string();
      if (shard_number(name) > 0 && name.ends_with(".safetensors")) names.push_back(name);
    }
    if (names.empty()) {
      fail<file_error>(shown(path_).c_str(),
                       ": expected model.safetensors, model.safetensors.index.json or shards "
                       "model-00001-of-0000N.safetensors in this folder, got none of them");
    }
    std::sort(names.begin(), names.end());
    const std::string first = names.front();
    for (Index i = 1; i <= shard_count(first); ++i) {
      const std::string name = shard_name(first, i);
      if (std::binary_search(names.begin(), names.end(), name)) {
        files_.emplace_back(path_ / name);
        continue;
      }
      fail<file_error>(shown(path_).c_str(), ": expected all shards of ", in_quotes(first).c_str(),
                       ", got no ", in_quotes(name).c_str());
    }
    if (files_.size() != names.size()) {
      const auto other = std::find_if(names.begin(), names.end(), [&](const std::string& name) {
        return shard_name(first, shard_number(name)) != name;
      });
      fail<file_error>(shown(path_).c_str(), ": expected the shards of one model without an index, got ",
                       in_quotes(first).c_str(), " and ", in_quotes(*other).c_str(), "; give a file instead");
    }
    add_all_tensors();
  }

  std::string nearest(std::string_view name) const {
    std::vector<std::pair<Index, const Tensor*>> likely;
    for (const Tensor* const t : tensors_) likely.emplace_back(-impl::likeness(name, t->name), t);
    const std::size_t n = std::min<std::size_t>(3, likely.size());
    std::partial_sort(likely.begin(), likely.begin() + static_cast<std::ptrdiff_t>(n), likely.end(),
                      [](const auto& a, const auto& b) noexcept {
                        return a.first != b.first ? a.first < b.first : a.second->name < b.second->name;
                      });
    if (n == 0) return "it has no tensors";
    std::string out = "most like it:";
    for (std::size_t i = 0; i < n; ++i) out += (i > 0 ? ", " : " ") + in_quotes(likely[i].second->name, 90);
    return out;
  }

  std::filesystem::path path_;
  std::vector<SafetensorsFile> files_;
  std::vector<const Tensor*> tensors_;  // by name
};

}  // namespace io
MOE_NAMESPACE_END
