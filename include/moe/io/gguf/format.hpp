// The GGUF format, versions 2 and 3, little-endian:
//   4 bytes   "GGUF";  u32 version;  u64 number of tensors;  u64 number of values
//   a value:  key, u32 type, its bytes; a string is u64 bytes and text, an array u32 type, u64 count,
//   elements a tensor: name, u32 rank, u64 extents (the fastest first), u32 type, u64 offset of its data
// and, from the next multiple of the alignment on, data.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "moe/core/bytes.hpp"
#include "moe/core/check.hpp"
#include "moe/io/file/tensor.hpp"
#include "moe/io/file/text.hpp"
#include "moe/io/gguf/ggml_type.hpp"

MOE_NAMESPACE_BEGIN
namespace io {

/// A view, as Tensor. `shape` is row-major: the file's extents in reverse, rows of shape's last extent.
/// `data` is null for types that cannot be decoded.
struct GgufTensor {
  std::string name;
  GgmlType type{};
  Shape shape;
  const std::byte* data = nullptr;
  Index bytes = 0;
  const MappedFile* file = nullptr;
  const std::string* source = nullptr;

  std::string where() const { return *source + ": tensor " + in_quotes(name); }
};

/// A named value: its type and where its bytes begin (of an array: those of its first element).
struct GgufValue {
  std::string key;
  std::uint32_t type = 0;          // as in the file; see impl::GgufScan
  std::uint32_t element_type = 0;  // of an array
  Index count = 0;                 // elements of an array, bytes of a string
  const std::byte* data = nullptr;
};

namespace impl {

inline constexpr std::uint32_t kGgufU8 = 0, kGgufI8 = 1, kGgufU16 = 2, kGgufI16 = 3, kGgufU32 = 4,
                               kGgufI32 = 5, kGgufF32 = 6, kGgufBool = 7, kGgufString = 8, kGgufArray = 9,
                               kGgufU64 = 10, kGgufI64 = 11, kGgufF64 = 12;
/// Bytes of a value of fixed size; 0 of strings and arrays.
inline constexpr Index kGgufBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
inline constexpr const char* kGgufNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                             "bool", "string", "array", "u64", "i64", "f64"};

/// Parses and checks a file. Every length is compared with what is left of the bytes before anything is read
/// or allocated for it. Throws format_error naming file, key or tensor, and reason.
class GgufScan {
 public:
  GgufScan(std::span<const std::byte> bytes, const std::string& name, const MappedFile* file)
      : bytes_(bytes), name_(name), file_(file) {
    if (left() < 4 || std::memcmp(bytes_.data(), "GGUF", 4) != 0) {
      fail<format_error>(name_.c_str(), ": expected the first bytes to be GGUF, got others");
    }
    at_ = 4;
    version_ = take<std::uint32_t>("the version");
    if (version_ != 2 && version_ != 3) {
      fail<format_error>(name_.c_str(), ": expected version 2 or 3, little-endian, got ", version_);
    }
    // The least bytes of a tensor: name, rank, one extent, type, offset; of a value: key, type, a byte.
    const Index tensor_count = take_count("tensors", 8 + 4 + 8 + 4 + 8);
    const Index value_count = take_count("values", 8 + 4 + 1);
    for (Index i = 0; i < value_count; ++i) values.push_back(read_value());
    sort_by(values, &GgufValue::key, "keys");
    read_alignment();
    for (Index i = 0; i < tensor_count; ++i) tensors.push_back(read_tensor());
    place_tensors();
    sort_by(tensors, &GgufTensor::name, "tensor names");
  }

  std::vector<GgufValue> values;    // by key
  std::vector<GgufTensor> tensors;  // by name

 private:
  static constexpr Index kMostName = 65535;
  static constexpr std::uint32_t kMostRank = 4;

  Index size() const noexcept { return static_cast<Index>(bytes_.size()); }
  Index left() const noexcept { return size() - at_; }

  template <class U>
  U take(const char* what) {
    require(what, Index{sizeof(U)});
    const U value = moe::impl::load_little<U>(bytes_.data() + at_);
    at_ += Index{sizeof(U)};
    return value;
  }
  void require(const char* what, Index bytes) const {
    if (left() < bytes) {
      fail<format_error>(name_.c_str(), ": expected ", bytes, " bytes more for ", what, ", got ", left());
    }
  }
  Index take_count(const char* what, Index least_bytes) {
    const auto count = take<std::uint64_t>(what);
    if (count > static_cast<std::uint64_t>(left() / least_bytes)) {
      fail<format_error>(name_.c_str(), ": expected at most ", left() / least_bytes, " ", what,
                         " in the bytes left, got a claim of ", count);
    }
    return static_cast<Index>(count);
  }
  std::string take_name(const char* what) {
    const auto length = take<std::uint64_t>(what);
    if (length == 0 || length > std::uint64_t{kMostName}) {
      fail<format_error>(name_.c_str(), ": expected ", what, " of 1 to ", kMostName, " bytes, got ", length);
    }
    require(what, static_cast<Index>(length));
    const auto* const text = reinterpret_cast<const char*>(bytes_.data()) + at_;
    at_ += static_cast<Index>(length);
    return std::string(text, static_cast<std::size_t>(length));
  }
  /// Steps over a string; returns its length.
  Index skip_string(const char* what) {
    const auto length = take<std::uint64_t>(what);
    if (length > static_cast<std::uint64_t>(left())) {
      fail<format_error>(name_.c_str(), ": expected a string within the file for ", what, ", got a claim of ",
                         length, " bytes with ", left(), " left");
    }
    at_ += static_cast<Index>(length);
    return static_cast<Index>(length);
  }

  GgufValue read_value() {
    GgufValue v;
    v.key = take_name("a key");
    const std::string what = "value " + in_quotes(v.key);
    v.type = take<std::uint32_t>(what.c_str());
    if (v.type > kGgufF64) fail_at(what, "a known type", std::to_string(v.type));
    if (v.type == kGgufString) {
      v.count = skip_string(what.c_str());
      v.data = bytes_.data() + at_ - v.count;
    } else if (v.type == kGgufArray) {
      read_array(v, what);
    } else {
      require(what.c_str(), kGgufBytes[v.type]);
      v.data = bytes_.data() + at_;
      at_ += kGgufBytes[v.type];
    }
    return v;
  }
  void read_array(GgufValue& v, const std::string& what) {
    v.element_type = take<std::uint32_t>(what.c_str());
    if (v.element_type > kGgufF64 || v.element_type == kGgufArray) {
      fail_at(what, "an array of a known type that is no array", std::to_string(v.element_type));
    }
    const bool strings = v.element_type == kGgufString;
    const Index width = strings ? 8 : kGgufBytes[v.element_type];
    v.count = take_count(what.c_str(), width);
    v.data = bytes_.data() + at_;
    if (!strings) at_ += v.count * width;
    for (Index i = 0; strings && i < v.count; ++i) skip_string(what.c_str());
  }

  void read_alignment() {
    for (const GgufValue& v : values) {
      if (v.key != "general.alignment") continue;
      if (v.type != kGgufU32) fail_at("value \"general.alignment\"", "an u32", kGgufNames[v.type]);
      const auto value = moe::impl::load_little<std::uint32_t>(v.data);
      if (!std::has_single_bit(value)) {
        fail_at("value \"general.alignment\"", "a power of two", std::to_string(value));
      }
      alignment_ = Index{value};
    }
  }

  GgufTensor read_tensor() {
    GgufTensor t;
    t.name = take_name("a tensor's name");
    t.file = file_;
    t.source = &name_;
    const std::string what = "tensor " + in_quotes(t.name);
    const auto rank = take<std::uint32_t>(what.c_str());
    if (rank < 1 || rank > kMostRank) fail_at(what, "1 to 4 extents", std::to_string(rank));
    t.shape.rank = static_cast<Index>(rank);
    // Extents other than 0, so that every product of some of them fits as well.
    Index elements = 1;
    bool empty = false;
    for (Index i = t.shape.rank; i-- > 0;) {  // the fastest extent comes first
      const auto n = take<std::uint64_t>(what.c_str());
      const std::uint64_t factor = std::max<std::uint64_t>(n, 1);
      const bool fits = factor <= static_cast<std::uint64_t>(PTRDIFF_MAX / 4 / elements);
      if (!fits) fail_at(what, "a size that fits 61 bits", "an extent of " + std::to_string(n));
      t.shape.extent[i] = static_cast<Index>(n);
      elements *= static_cast<Index>(factor);
      empty = empty || n == 0;
    }
    t.type = static_cast<GgmlType>(take<std::uint32_t>(what.c_str()));
    const GgmlBlock block = ggml_block(t.type);
    if (block.numbers > 0) {
      const Index row = t.shape[t.shape.rank - 1];
      if (row % block.numbers != 0) {
        fail_at(what,
                "rows of whole blocks of " + std::to_string(block.numbers) + " for " + ggml_type_name(t.type),
                std::to_string(row));
      }
      t.bytes = empty ? 0 : elements / block.numbers * block.bytes;
    }
    const auto offset = take<std::uint64_t>(what.c_str());
    if (offset > static_cast<std::uint64_t>(size()) || static_cast<Index>(offset) % alignment_ != 0) {
      fail_at(what, "an offset within the file, a multiple of " + std::to_string(alignment_),
              std::to_string(offset));
    }
    offsets_.push_back(static_cast<Index>(offset));
    return t;
  }

  /// Data begin at a multiple of the alignment behind the last tensor's description; no two share a byte.
  void place_tensors() {
    const Index data = at_ > PTRDIFF_MAX - alignment_ ? size() : round_up(at_, alignment_);
    const Index available = std::max<Index>(0, size() - data);
    std::vector<std::pair<Index, Index>> order;  // offset, which
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      GgufTensor& t = tensors[i];
      if (offsets_[i] > available || t.bytes > available - offsets_[i]) {
        fail_at("tensor " + in_quotes(t.name),
                "data within the " + std::to_string(available) + " bytes behind the descriptions",
                std::to_string(t.bytes) + " from " + std::to_string(offsets_[i]));
      }
      if (ggml_block(t.type).numbers > 0) t.data = bytes_.data() + (t.bytes == 0 ? 0 : data + offsets_[i]);
      if (t.bytes > 0) order.emplace_back(offsets_[i], static_cast<Index>(i));
    }
    std::sort(order.begin(), order.end());
    for (std::size_t i = 1; i < order.size(); ++i) {
      const GgufTensor& before = tensors[static_cast<std::size_t>(order[i - 1].second)];
      if (order[i].first - order[i - 1].first < before.bytes) {
        fail_at("tensor " + in_quotes(tensors[static_cast<std::size_t>(order[i].second)].name),
                "bytes of its own", "an overlap with " + in_quotes(before.name));
      }
    }
  }

  template <class T>
  void sort_by(std::vector<T>& list, std::string T::*name, const char* what) const {
    std::sort(list.begin(), list.end(),
              [name](const T& a, const T& b) noexcept { return a.*name < b.*name; });
    for (std::size_t i = 1; i < list.size(); ++i) {
      if (list[i].*name == list[i - 1].*name) {
        fail<format_error>(name_.c_str(), ": expected different ", what, ", got two of ",
                           in_quotes(list[i].*name).c_str());
      }
    }
  }

  [[noreturn]] void fail_at(const std::string& what, const std::string& expected,
                            const std::string& found) const {
    fail<format_error>(name_.c_str(), ": ", what.c_str(), ": expected ", expected.c_str(), ", got ",
                       found.c_str());
  }

  std::span<const std::byte> bytes_;
  const std::string& name_;
  const MappedFile* file_;
  Index at_ = 0;
  std::uint32_t version_ = 0;
  Index alignment_ = 32;
  std::vector<Index> offsets_;  // of the tensors, in their order in the file
};

}  // namespace impl

}  // namespace io
MOE_NAMESPACE_END
