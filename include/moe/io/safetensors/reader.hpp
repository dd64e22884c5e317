// Reading one file of the safetensors format: 8 bytes of little-endian header length N, N bytes of JSON, then
// the tensors' bytes without gap or overlap up to the end of the file. Nothing outside the file is read,
// whatever the header says.
#pragma once

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moe/core/bytes.hpp"
#include "moe/core/check.hpp"
#include "moe/io/file/mapped_file.hpp"
#include "moe/io/file/tensor.hpp"
#include "moe/io/json/json.hpp"

MOE_NAMESPACE_BEGIN
namespace io {

/// Largest header that is read or written.
inline constexpr Index kMostHeaderBytes = 100'000'000;

namespace impl {

/// Parses and checks one file's header. Throws format_error naming file, tensor and reason.
class SafetensorsScan {
 public:
  /// `name`: how messages call the file; it must outlive the tensors.
  SafetensorsScan(std::span<const std::byte> bytes, const std::string& name, const MappedFile* file)
      : bytes_(bytes), name_(name), file_(file) {
    const Index header = header_bytes();
    const auto* const text = reinterpret_cast<const char*>(bytes_.data()) + kLengthBytes;
    data_ = kLengthBytes + header;
    JsonLimits limits;
    limits.bytes = kMostHeaderBytes;
    limits.depth = 8;
    const Json root = parse_json({text, static_cast<std::size_t>(header)}, name_, limits);
    if (!root.is(Json::Kind::object)) {
      fail<format_error>(name_.c_str(), ": expected the header to be a JSON object, got ",
                         root.describe().c_str());
    }
    const Json::Object& entries = *root.object();
    for (std::size_t i = 0; i < entries.names.size(); ++i) {
      if (entries.names[i] == "__metadata__") {
        read_metadata(entries.values[i]);
      } else {
        tensors.push_back(read_tensor(entries.names[i], entries.values[i]));
      }
    }
    check_coverage();
    std::sort(tensors.begin(), tensors.end(),
              [](const Tensor& a, const Tensor& b) noexcept { return a.name < b.name; });
  }

  std::vector<Tensor> tensors;  // by name
  std::vector<std::pair<std::string, std::string>> metadata;

 private:
  static constexpr Index kLengthBytes = 8;

  Index size() const noexcept { return static_cast<Index>(bytes_.size()); }

  Index header_bytes() const {
    if (size() < kLengthBytes) {
      fail<format_error>(name_.c_str(), ": expected at least ", kLengthBytes, " bytes, got ", size());
    }
    const auto n = moe::impl::load_little<std::uint64_t>(bytes_.data());
    if (n > std::uint64_t{kMostHeaderBytes}) {
      fail<format_error>(name_.c_str(), ": expected a header of at most ", kMostHeaderBytes,
                         " bytes, got a claim of ", n, "; not a safetensors file?");
    }
    if (n > static_cast<std::uint64_t>(size() - kLengthBytes)) {
      fail<format_error>(name_.c_str(), ": expected a header of ", n, " bytes, got a file of ", size());
    }
    return static_cast<Index>(n);
  }

  void read_metadata(const Json& value) {
    if (!value.is(Json::Kind::object)) {
      fail<format_error>(name_.c_str(), ": expected \"__metadata__\" to be an object, got ",
                         value.describe().c_str());
    }
    const Json::Object& members = *value.object();
    for (std::size_t i = 0; i < members.names.size(); ++i) {
      const std::string* const text = members.values[i].string();
      if (text == nullptr) {
        fail<format_error>(name_.c_str(), ": expected strings in \"__metadata__\", got ",
                           members.values[i].describe().c_str(), " for ",
                           in_quotes(members.names[i]).c_str());
      }
      metadata.emplace_back(members.names[i], *text);
    }
  }

  Tensor read_tensor(const std::string& name, const Json& entry) {
    Tensor t;
    t.name = name;
    t.file = file_;
    t.source = &name_;
    if (name.find('\0') != std::string::npos) fail_at(t, "a name without character 0", "one with");
    if (!entry.is(Json::Kind::object)) fail_at(t, "an object", entry.describe());
    read_dtype(t, entry);
    read_shape(t, entry);
    const Json& offsets = field(t, entry, "data_offsets");
    const Json::Array* const pair = offsets.array();
    if (pair == nullptr || pair->size() != 2) fail_at(t, "data_offsets [begin, end]", offsets.describe());
    const Index begin = size_of(t, "data_offsets", (*pair)[0]), end = size_of(t, "data_offsets", (*pair)[1]);
    const Index available = size() - data_;
    if (begin > end) {
      fail_at(t, "data_offsets that ascend", std::to_string(begin) + ", " + std::to_string(end));
    }
    if (end > available) {
      fail_at(t, "data within the " + std::to_string(available) + " bytes behind the header",
              "data_offsets up to " + std::to_string(end));
    }
    const Index bytes = t.dtype == DType::other ? end - begin : bytes_of(t);
    if (end - begin != bytes) {
      fail_at(t, std::to_string(bytes) + " bytes for " + dtype_name(t.dtype) + " of shape " + t.shape.text(),
              std::to_string(end - begin));
    }
    t.data = bytes_.data() + data_ + begin;
    t.bytes = bytes;
    return t;
  }

  void read_dtype(Tensor& t, const Json& entry) const {
    const Json& value = field(t, entry, "dtype");
    const std::string* const text = value.string();
    if (text == nullptr) fail_at(t, "the name of a dtype", value.describe());
    if (dtype_from_name(*text, t.dtype)) return;
    t.dtype = DType::other;  // whoever asks for its numbers is told
    t.other_dtype = *text;
  }

  void read_shape(Tensor& t, const Json& entry) const {
    const Json& value = field(t, entry, "shape");
    const Json::Array* const list = value.array();
    if (list == nullptr) fail_at(t, "a list of extents as shape", value.describe());
    if (list->size() > static_cast<std::size_t>(Shape::kMostRank)) {
      fail_at(t, "a shape of at most " + std::to_string(Shape::kMostRank) + " extents", value.describe());
    }
    for (const Json& extent : *list) t.shape.extent[t.shape.rank++] = size_of(t, "shape", extent);
  }

  /// Bytes that dtype and shape ask for.
  Index bytes_of(const Tensor& t) const {
    Index bits = dtype_bits(t.dtype);
    for (Index i = 0; i < t.shape.rank; ++i) {
      const Index n = t.shape[i];
      if (n != 0 && bits > PTRDIFF_MAX / n) {
        fail_at(t, "a size that fits 63 bits",
                std::string(dtype_name(t.dtype)) + " of shape " + t.shape.text());
      }
      bits *= n;
    }
    if (bits % 8 != 0) {
      fail_at(t, "whole bytes", std::to_string(bits) + " bits of " + dtype_name(t.dtype));
    }
    return bits / 8;
  }

  const Json& field(const Tensor& t, const Json& entry, const char* key) const {
    const Json* const value = entry.find(key);
    if (value == nullptr) fail_at(t, std::string("a field \"") + key + "\"", "none");
    return *value;
  }

  Index size_of(const Tensor& t, const char* what, const Json& value) const {
    const std::int64_t* const n = value.integer();
    if (n == nullptr || *n < 0) {
      fail_at(t, std::string("non-negative integers of 63 bits in ") + what, value.describe());
    }
    return static_cast<Index>(*n);
  }

  /// In order of their bytes the tensors leave no hole, share no byte and end where the file ends.
  void check_coverage() const {
    std::vector<const Tensor*> order;
    for (const Tensor& t : tensors) order.push_back(&t);
    std::sort(order.begin(), order.end(), [](const Tensor* a, const Tensor* b) noexcept {
      return a->data != b->data ? a->data < b->data : a->bytes < b->bytes;
    });
    const std::byte* at = bytes_.data() + data_;
    for (const Tensor* const t : order) {
      if (t->data != at) {
        fail_at(*t, "data from byte " + std::to_string(at - bytes_.data() - data_) + " on",
                std::string(t->data < at ? "an overlap" : "a hole") + ": it begins at " +
                    std::to_string(t->data - bytes_.data() - data_));
      }
      at += t->bytes;
    }
    if (at != bytes_.data() + size()) {
      fail<format_error>(name_.c_str(), ": expected a file of ", at - bytes_.data(),
                         " bytes for its header, got ", size());
    }
  }

  [[noreturn]] static void fail_at(const Tensor& t, const std::string& expected, const std::string& found) {
    fail<format_error>(t.where().c_str(), ": expected ", expected.c_str(), ", got ", found.c_str());
  }

  std::span<const std::byte> bytes_;
  const std::string& name_;
  const MappedFile* file_;
  Index data_ = 0;  // where the header ends
};

}  // namespace impl

/// One safetensors file, mapped. Tensors are views of the map and live as long as this object or what it was
/// moved to.
class SafetensorsFile {
 public:
  using Metadata = std::vector<std::pair<std::string, std::string>>;

  /// Throws file_error or format_error, naming the file.
  explicit SafetensorsFile(const std::filesystem::path& path)
      : owned_(std::make_unique<Owned>(Owned{MappedFile(path), shown(path)})) {
    scan(owned_->file->bytes(), &*owned_->file);
  }
  /// A file that is in memory already; the bytes are not copied and must outlive this object. `name`: how
  /// messages call them.
  static SafetensorsFile from_bytes(std::span<const std::byte> bytes, const std::string& name) {
    return SafetensorsFile(bytes, name);
  }

  /// By name.
  std::span<const Tensor> tensors() const noexcept { return tensors_; }
  /// Null if there is none of that name.
  const Tensor* find(std::string_view name) const noexcept {
    const auto at = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                     [](const Tensor& t, std::string_view n) noexcept { return t.name < n; });
    return at != tensors_.end() && at->name == name ? &*at : nullptr;
  }
  const Metadata& metadata() const noexcept { return metadata_; }
  const std::string& name() const noexcept { return owned_->name; }

 private:
  struct Owned {  // on the heap, so that tensors may point at it
    std::optional<MappedFile> file;
    std::string name;
  };

  SafetensorsFile(std::span<const std::byte> bytes, const std::string& name)
      : owned_(std::make_unique<Owned>(Owned{std::nullopt, name})) {
    scan(bytes, nullptr);
  }
  void scan(std::span<const std::byte> bytes, const MappedFile* file) {
    impl::SafetensorsScan found(bytes, owned_->name, file);
    tensors_ = std::move(found.tensors);
    metadata_ = std::move(found.metadata);
  }

  std::unique_ptr<Owned> owned_;
  std::vector<Tensor> tensors_;
  Metadata metadata_;
};

}  // namespace io
MOE_NAMESPACE_END
