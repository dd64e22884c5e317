// Reading GGUF files: named values and tensors. Nothing outside the file is read, whatever it says of itself.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "moe/core/bytes.hpp"
#include "moe/core/check.hpp"
#include "moe/io/file/mapped_file.hpp"
#include "moe/io/file/shards.hpp"
#include "moe/io/gguf/format.hpp"

MOE_NAMESPACE_BEGIN
namespace io {

/// One GGUF file, mapped, or all parts of a split one. Views live as long as this object or what it was moved
/// to.
class GgufFile {
 public:
  /// `path`: a file, or any part "<name>-00001-of-0000N.gguf" of one whose value "split.count" is above 1;
  /// the others must lie beside it. Values are those of the part that is given, tensors those of all. Throws
  /// file_error or format_error, naming the file, or the part that is missing or wrong.
  explicit GgufFile(const std::filesystem::path& path)
      : owned_(std::make_unique<Owned>(Owned{MappedFile(path), shown(path)})) {
    scan(owned_->file->bytes(), &*owned_->file);
    if (split_count() > 1) open_parts(path);
  }
  /// A whole file that is in memory; the bytes are not copied and must outlive this object.
  static GgufFile from_bytes(std::span<const std::byte> bytes, const std::string& name) {
    GgufFile file(bytes, name);
    if (file.split_count() > 1) {
      fail<format_error>(name.c_str(), ": expected a whole file, got a part of ", file.split_count(),
                         "; open it by its path, with the other parts beside it");
    }
    return file;
  }

  /// By name.
  std::span<const GgufTensor> tensors() const noexcept { return tensors_; }
  const GgufTensor* find(std::string_view name) const noexcept {
    return find_in(tensors_, &GgufTensor::name, name);
  }
  /// Throws format_error naming file and tensor.
  const GgufTensor& at(std::string_view name) const {
    if (const GgufTensor* const found = find(name)) return *found;
    fail<format_error>(owned_->name.c_str(), ": expected a tensor ", in_quotes(name).c_str(), ", got none");
  }

  bool has(std::string_view key) const noexcept { return value(key) != nullptr; }
  /// T: Index (any integer type that holds it), double (f32, f64), bool or std::string. Throws format_error
  /// naming file, key, expected and found.
  template <class T>
  T required(std::string_view key) const {
    const GgufValue* const found = value(key);
    if (found == nullptr) {
      fail<format_error>(owned_->name.c_str(), ": expected a value ", in_quotes(key).c_str(), ", got none");
    }
    return convert<T>(*found);
  }
  template <class T>
  std::optional<T> optional(std::string_view key) const {
    const GgufValue* const found = value(key);
    return found == nullptr ? std::nullopt : std::optional<T>(convert<T>(*found));
  }

  const std::string& name() const noexcept { return owned_->name; }

 private:
  struct Owned {  // on the heap, so that tensors may point at it
    std::optional<MappedFile> file;
    std::string name;
  };

  struct Alone {};  // a part without the others
  GgufFile(const std::filesystem::path& path, Alone)
      : owned_(std::make_unique<Owned>(Owned{MappedFile(path), shown(path)})) {
    scan(owned_->file->bytes(), &*owned_->file);
  }
  GgufFile(std::span<const std::byte> bytes, const std::string& name)
      : owned_(std::make_unique<Owned>(Owned{std::nullopt, name})) {
    scan(bytes, nullptr);
  }
  void scan(std::span<const std::byte> bytes, const MappedFile* file) {
    impl::GgufScan found(bytes, owned_->name, file);
    tensors_ = std::move(found.tensors);
    values_ = std::move(found.values);
  }

  Index split_count() const { return optional<Index>("split.count").value_or(1); }

  /// Part of a model whose parts are numbered from 0 in the files and from 1 in their names.
  void require_part(const std::string& name, Index number, Index count) const {
    const Index own = required<Index>("split.no"), of = split_count();
    if (own == number - 1 && of == count) return;
    fail<format_error>(owned_->name.c_str(), ": expected part ", number, " of ", count, ", as its name ",
                       in_quotes(name).c_str(), " says, got part ", own + 1, " of ", of);
  }
  void open_parts(const std::filesystem::path& path) {
    const std::string name = path.filename().string();
    const Index number = shard_number(name), count = shard_count(name);
    if (number < 1 || number > count) {
      fail<format_error>(owned_->name.c_str(), ": expected a name that ends in -00001-of-",
                         std::to_string(100000 + split_count()).substr(1).c_str(),
                         ".gguf, because it is a part of ", split_count(), ", got ", in_quotes(name).c_str());
    }
    require_part(name, number, count);
    for (Index i = 1; i <= count; ++i) {
      if (i == number) continue;
      const std::string other = shard_name(name, i);
      GgufFile part(path.parent_path() / other, Alone{});
      part.require_part(other, i, count);
      tensors_.insert(tensors_.end(), part.tensors_.begin(), part.tensors_.end());
      others_.push_back(std::move(part.owned_));
    }
    std::sort(tensors_.begin(), tensors_.end(),
              [](const GgufTensor& a, const GgufTensor& b) noexcept { return a.name < b.name; });
    for (std::size_t i = 1; i < tensors_.size(); ++i) {
      if (tensors_[i].name != tensors_[i - 1].name) continue;
      fail<format_error>(tensors_[i].where().c_str(), ": expected it in one part, got it in ",
                         tensors_[i - 1].source->c_str(), " as well");
    }
    const Index all = optional<Index>("split.tensors.count").value_or(static_cast<Index>(tensors_.size()));
    if (all != static_cast<Index>(tensors_.size())) {
      fail<format_error>(owned_->name.c_str(), ": expected ", all, " tensors in all parts together, got ",
                         static_cast<Index>(tensors_.size()));
    }
  }

  template <class T>
  static const T* find_in(const std::vector<T>& list, std::string T::*name,
                          std::string_view wanted) noexcept {
    const auto at = std::lower_bound(list.begin(), list.end(), wanted,
                                     [name](const T& t, std::string_view n) noexcept { return t.*name < n; });
    return at != list.end() && (*at).*name == wanted ? &*at : nullptr;
  }
  const GgufValue* value(std::string_view key) const noexcept {
    return find_in(values_, &GgufValue::key, key);
  }

  template <class T>
  T convert(const GgufValue& v) const {
    using moe::impl::load_little;
    if constexpr (std::is_same_v<T, std::string>) {
      require_type(v, v.type == impl::kGgufString, "a string");
      return std::string(reinterpret_cast<const char*>(v.data), static_cast<std::size_t>(v.count));
    } else if constexpr (std::is_same_v<T, bool>) {
      require_type(v, v.type == impl::kGgufBool, "a bool");
      return v.data[0] != std::byte{0};
    } else if constexpr (std::is_same_v<T, double>) {
      require_type(v, v.type == impl::kGgufF32 || v.type == impl::kGgufF64, "a float");
      return v.type == impl::kGgufF32
                 ? static_cast<double>(std::bit_cast<float>(load_little<std::uint32_t>(v.data)))
                 : std::bit_cast<double>(load_little<std::uint64_t>(v.data));
    } else {
      static_assert(std::is_same_v<T, Index>, "moe: values are Index, double, bool or std::string");
      return integer(v);
    }
  }
  Index integer(const GgufValue& v) const {
    using moe::impl::load_little;
    switch (v.type) {
      case impl::kGgufU8:
        return load_little<std::uint8_t>(v.data);
      case impl::kGgufI8:
        return static_cast<std::int8_t>(load_little<std::uint8_t>(v.data));
      case impl::kGgufU16:
        return load_little<std::uint16_t>(v.data);
      case impl::kGgufI16:
        return static_cast<std::int16_t>(load_little<std::uint16_t>(v.data));
      case impl::kGgufU32:
        return load_little<std::uint32_t>(v.data);
      case impl::kGgufI32:
        return static_cast<std::int32_t>(load_little<std::uint32_t>(v.data));
      case impl::kGgufI64:
        return static_cast<Index>(load_little<std::uint64_t>(v.data));
      case impl::kGgufU64: {
        const auto n = load_little<std::uint64_t>(v.data);
        require_type(v, n <= std::uint64_t{PTRDIFF_MAX}, "an integer of 63 bits");
        return static_cast<Index>(n);
      }
      default:
        require_type(v, false, "an integer");
        return 0;
    }
  }
  void require_type(const GgufValue& v, bool fits, const char* expected) const {
    if (fits) return;
    fail<format_error>(owned_->name.c_str(), ": value ", in_quotes(v.key).c_str(), ": expected ", expected,
                       ", got a value of type ", impl::kGgufNames[v.type]);
  }

  std::unique_ptr<Owned> owned_;
  std::vector<std::unique_ptr<Owned>> others_;  // further parts
  std::vector<GgufTensor> tensors_;
  std::vector<GgufValue> values_;
};

}  // namespace io
MOE_NAMESPACE_END
