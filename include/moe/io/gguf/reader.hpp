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
#include "moe/io/gguf/format.hpp"

MOE_NAMESPACE_BEGIN
namespace io {

/// One GGUF file, mapped. Views live as long as this object or what it was moved to.
class GgufFile {
 public:
  /// Throws file_error or format_error, naming the file.
  explicit GgufFile(const std::filesystem::path& path)
      : owned_(std::make_unique<Owned>(Owned{MappedFile(path), shown(path)})) {
    scan(owned_->file->bytes(), &*owned_->file);
  }
  /// A file that is in memory; the bytes are not copied and must outlive this object.
  static GgufFile from_bytes(std::span<const std::byte> bytes, const std::string& name) {
    return GgufFile(bytes, name);
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

  GgufFile(std::span<const std::byte> bytes, const std::string& name)
      : owned_(std::make_unique<Owned>(Owned{std::nullopt, name})) {
    scan(bytes, nullptr);
  }
  void scan(std::span<const std::byte> bytes, const MappedFile* file) {
    impl::GgufScan found(bytes, owned_->name, file);
    tensors_ = std::move(found.tensors);
    values_ = std::move(found.values);
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
  std::vector<GgufTensor> tensors_;
  std::vector<GgufValue> values_;
};

}  // namespace io
MOE_NAMESPACE_END
