// Writing safetensors files and folders of shards. Files appear whole or not at all.
#pragma once

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/view.hpp"
#include "moe/io/file/tensor.hpp"
#include "moe/io/json/json.hpp"
#include "moe/io/safetensors/reader.hpp"
#include "moe/kernel/number_format.hpp"

MOE_NAMESPACE_BEGIN
namespace io {

namespace impl {

inline std::string json_string(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < ' ') {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(c));
      out += escaped;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

/// Writes beside `path` and renames when all is there: whoever opens `path` sees the old file or the new one.
class NewFile {
 public:
  explicit NewFile(const std::filesystem::path& path) : path_(path) {
    for (int attempt = 0; attempt < 100 && file_ == nullptr; ++attempt) {
      temporary_ = path;
      temporary_ += ".part" + std::to_string(attempt);
      file_ = std::fopen(temporary_.string().c_str(), "wbx");
      if (file_ == nullptr && errno != EEXIST) break;
    }
    if (file_ == nullptr) fail_with("to create a file beside it", errno);
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  ~NewFile() {
    if (file_ != nullptr) drop();
  }

  void write(const void* data, Index bytes) {
    const auto n = static_cast<std::size_t>(bytes);
    if (n > 0 && std::fwrite(data, 1, n, file_) != n) fail_with("to write", errno);
  }
  void finish() {
    std::FILE* const file = std::exchange(file_, nullptr);
    std::error_code error;
    if (std::fclose(file) != 0) error.assign(errno, std::generic_category());
    if (!error) std::filesystem::rename(temporary_, path_, error);
    if (!error) return;
    std::error_code ignored;
    std::filesystem::remove(temporary_, ignored);
    fail_with("to write", error.value());
  }

 private:
  void drop() noexcept {
    static_cast<void>(std::fclose(file_));
    std::error_code ignored;
    std::filesystem::remove(temporary_, ignored);
  }
  [[noreturn]] void fail_with(const char* expected, int reason) const {
    fail<file_error>(shown(path_).c_str(), ": expected ", expected,
                     ", got: ", std::generic_category().message(reason).c_str());
  }

  std::filesystem::path path_, temporary_;
  std::FILE* file_ = nullptr;
};

}  // namespace impl

/// Collects tensors and writes them. In the file they stand by element size, largest first, then by name, so
/// that every one is aligned.
class SafetensorsWriter {
 public:
  /// A pair of the file's "__metadata__". Transformers asks for ("format", "pt").
  void add_metadata(std::string key, std::string value) {
    metadata_.emplace_back(std::move(key), std::move(value));
  }

  /// Little-endian bytes of shape.elements() elements, read when the file is written: they must live until
  /// then. Throws config_error for a name that is empty, holds a character 0 or is "__metadata__".
  void add(std::string name, DType dtype, const Shape& shape, const void* data) {
    insert(std::move(name), dtype, shape).view = static_cast<const std::byte*>(data);
  }

  /// A copy of `values` as F32, F64, or rounded to BF16 or F16. Throws config_error for another dtype.
  void add_floats(std::string name, DType dtype, const Shape& shape, const float* values) {
    const Index n = shape.elements();
    add_rows(std::move(name), dtype, shape, ConstMatrixView<float>(values, 1, n));
  }
  void add_matrix(std::string name, DType dtype, const ConstMatrixView<float>& matrix) {
    add_rows(std::move(name), dtype, Shape(matrix.rows, matrix.cols), matrix);
  }

  /// The file in memory. Throws format_error for two tensors of one name or names that are not UTF-8, naming
  /// them.
  Buffer<std::byte> bytes() const {
    const Order order = everything();
    const std::string header = header_of(order, "safetensors");
    Buffer<std::byte> out(static_cast<Index>(header.size()) + bytes_of(order));
    std::memcpy(out.data(), header.data(), header.size());
    std::byte* at = out.data() + header.size();
    for (const Entry* const e : sorted(order)) {
      if (e->bytes > 0) std::memcpy(at, e->data(), static_cast<std::size_t>(e->bytes));
      at += e->bytes;
    }
    return out;
  }

  /// Throws file_error as well, and leaves `path` as it was.
  void save(const std::filesystem::path& path) const { save(everything(), path); }

  /// Files model-00001-of-0000N.safetensors of at most `most_bytes` of tensors each (one tensor at least), in
  /// the order of the calls of add, and then their index, into a folder that exists.
  void save_sharded(const std::filesystem::path& folder, Index most_bytes) const {
    std::vector<Order> shards;
    Index filled = 0;
    for (const Entry* const e : everything()) {
      if (shards.empty() || filled + e->bytes > most_bytes) {
        shards.emplace_back();
        filled = 0;
      }
      shards.back().push_back(e);
      filled += e->bytes;
    }
    check_names();
    std::string map;
    for (std::size_t s = 0; s < shards.size(); ++s) {
      char name[64];
      std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", s + 1, shards.size());
      save(shards[s], folder / name);
      for (const Entry* const e : shards[s]) {
        if (!map.empty()) map += ",\n    ";
        map += impl::json_string(e->name) + ": \"" + name + "\"";
      }
    }
    const std::string index =
        "{\n  \"metadata\": {\"total_size\": " + std::to_string(bytes_of(everything())) +
        "},\n  \"weight_map\": {\n    " + map + "\n  }\n}\n";
    impl::NewFile file(folder / "model.safetensors.index.json");
    file.write(index.data(), static_cast<Index>(index.size()));
    file.finish();
  }

 private:
  struct Entry {
    std::string name;
    DType dtype;
    Shape shape;
    Index bytes;
    const std::byte* view = nullptr;  // of the caller; null: own
    Buffer<std::byte> own{};
    const std::byte* data() const noexcept { return view == nullptr ? own.data() : view; }
  };
  using Order = std::vector<const Entry*>;

  Entry& insert(std::string name, DType dtype, const Shape& shape) {
    if (name.empty() || name == "__metadata__" || name.find('\0') != std::string::npos) {
      fail<config_error>("safetensors: expected the name of a tensor, got ", in_quotes(name).c_str());
    }
    if (dtype == DType::other) {
      fail<config_error>("safetensors: tensor ", in_quotes(name).c_str(),
                         ": expected a known dtype, got another");
    }
    const Index bits = checked_product("tensor", shape.elements(), dtype_bits(dtype));
    if (bits % 8 != 0) {
      fail<config_error>("safetensors: tensor ", in_quotes(name).c_str(), ": expected whole bytes, got ",
                         bits, " bits");
    }
    return entries_.emplace_back(Entry{std::move(name), dtype, shape, bits / 8});
  }

  void add_rows(std::string name, DType dtype, const Shape& shape, const ConstMatrixView<float>& m) {
    if (dtype != DType::F32 && dtype != DType::F64 && dtype != DType::BF16 && dtype != DType::F16) {
      fail<config_error>("safetensors: tensor ", in_quotes(name).c_str(),
                         ": expected to write floats as F32, F64, BF16 or F16, got ", dtype_name(dtype));
    }
    Entry& e = insert(std::move(name), dtype, shape);
    const Index width = dtype_bits(dtype) / 8;
    std::byte* to = e.own.resize(e.bytes);
    for (Index o = 0; o < m.rows; ++o) {
      for (Index i = 0; i < m.cols; ++i, to += width) store(m(o, i), dtype, to);
    }
  }
  static void store(float value, DType dtype, std::byte* to) noexcept {
    using moe::impl::store_little;
    switch (dtype) {
      case DType::F64:
        return store_little(to, std::bit_cast<std::uint64_t>(static_cast<double>(value)));
      case DType::BF16:
        return store_little(to, BFloat16::from_float(value).bits);
      case DType::F16:
        return store_little(to, Float16::from_float(value).bits);
      default:
        return store_little(to, std::bit_cast<std::uint32_t>(value));
    }
  }

  Order everything() const {
    Order order;
    for (const Entry& e : entries_) order.push_back(&e);
    return order;
  }
  static Order sorted(Order order) {
    std::sort(order.begin(), order.end(), [](const Entry* a, const Entry* b) noexcept {
      const Index x = dtype_bits(a->dtype), y = dtype_bits(b->dtype);
      return x != y ? x > y : a->name < b->name;
    });
    return order;
  }
  static Index bytes_of(const Order& order) noexcept {
    Index bytes = 0;
    for (const Entry* const e : order) bytes += e->bytes;
    return bytes;
  }
  void check_names() const { static_cast<void>(header_of(everything(), "safetensors")); }

  /// Length and header. Parsed again, which finds what a reader would refuse.
  std::string header_of(const Order& order, const std::string& file) const {
    std::string json = "{";
    if (!metadata_.empty()) {
      json += "\"__metadata__\":{";
      for (const auto& [key, value] : metadata_) {
        if (json.back() != '{') json += ',';
        json += impl::json_string(key) + ":" + impl::json_string(value);
      }
      json += "}";
    }
    Index at = 0;
    for (const Entry* const e : sorted(order)) {
      if (json.size() > 1) json += ',';
      json += impl::json_string(e->name) + ":{\"dtype\":\"" + dtype_name(e->dtype) + "\",\"shape\":[";
      for (Index i = 0; i < e->shape.rank; ++i) {
        if (i > 0) json += ',';
        json += std::to_string(e->shape[i]);
      }
      json += "],\"data_offsets\":[" + std::to_string(at) + "," + std::to_string(at + e->bytes) + "]}";
      at += e->bytes;
    }
    json += "}";
    json.append((8 - json.size() % 8) % 8, ' ');
    JsonLimits limits;
    limits.bytes = kMostHeaderBytes;
    static_cast<void>(parse_json(json, file, limits));
    std::byte length[8];
    moe::impl::store_little(length, static_cast<std::uint64_t>(json.size()));
    return std::string(reinterpret_cast<const char*>(length), sizeof length) + json;
  }

  void save(const Order& order, const std::filesystem::path& path) const {
    const std::string header = header_of(order, shown(path));
    impl::NewFile file(path);
    file.write(header.data(), static_cast<Index>(header.size()));
    for (const Entry* const e : sorted(order)) file.write(e->data(), e->bytes);
    file.finish();
  }

  std::vector<Entry> entries_;
  SafetensorsFile::Metadata metadata_;
};

}  // namespace io
MOE_NAMESPACE_END
