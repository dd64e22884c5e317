// Parameters and router state as bytes, in memory or in a file. Little-endian, no padding:
//   8 bytes   "MOEPARAM"
//   u32       version: 1
//   u64       number of entries; of each entry:
//     u32       bytes of its name, 1 to 255
//     name      printable ASCII without spaces, unique
//     u32       element type: 1 = f32, 2 = f64 (IEEE 754), 3 = bytes of a block storage, in one row
//     u64, u64  rows (out), columns (in)
//     data      row-major [out, in]
// Nothing follows the last entry. The layout of numbers is the published one, whatever the kernels' packing;
// bytes are a block storage as it lies in memory, under a name that says which.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "moe/core/buffer.hpp"
#include "moe/core/bytes.hpp"
#include "moe/core/check.hpp"
#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

inline constexpr char kArchiveMagic[] = {'M', 'O', 'E', 'P', 'A', 'R', 'A', 'M'};
inline constexpr std::uint32_t kArchiveVersion = 1;
inline constexpr Index kArchiveHeaderBytes = 8 + 4 + 8;
inline constexpr Index kMostNameBytes = 255;
inline constexpr Index kLeastEntryBytes = 4 + 1 + 4 + 8 + 8;

/// Code of an element type in the format; 0 is none.
template <class T>
constexpr std::uint32_t element_code() noexcept {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, std::byte>,
                "moe: archives hold float, double and packed blocks");
  return std::is_same_v<T, float> ? 1 : std::is_same_v<T, double> ? 2 : 3;
}
constexpr Index element_bytes(std::uint32_t code) noexcept {
  return code == 1 ? 4 : code == 2 ? 8 : code == 3 ? 1 : 0;
}
constexpr const char* element_name(std::uint32_t code) noexcept {
  return code == 1 ? "f32" : code == 2 ? "f64" : "bytes";
}

/// An entry's full name: "prefix.name", or "name" without a prefix.
class EntryName {
 public:
  /// Throws config_error for a name that the format does not hold.
  EntryName(const char* prefix, const char* name) {
    append(prefix);
    if (length_ > 0) append(".");
    append(name);
    if (length_ == 0) fail<config_error>("archive: expected a name, got an empty one");
  }
  EntryName(const std::byte* name, Index length) noexcept : length_(length) {
    std::memcpy(text_, name, static_cast<std::size_t>(length));
  }

  const char* c_str() const noexcept { return text_; }
  Index length() const noexcept { return length_; }

  static bool holds(char c) noexcept { return c > ' ' && c <= '~'; }

 private:
  void append(const char* part) {
    for (; *part != '\0'; ++part) {
      if (!holds(*part) || length_ == kMostNameBytes) {
        fail<config_error>("archive: expected names of at most ", kMostNameBytes,
                           " printable ASCII characters without spaces, got one that goes on after ",
                           c_str());
      }
      text_[length_++] = *part;
    }
  }

  char text_[kMostNameBytes + 1] = {};
  Index length_ = 0;
};

/// Where an entry's parts lie in the bytes.
struct ArchiveEntry {
  Index name = 0;
  Index name_bytes = 0;
  Index rows = 0;
  Index cols = 0;
  Index data = 0;
  std::uint32_t type = 0;
};

/// Order of the bytes, a shorter name before a longer one that it begins.
inline int compare_names(const void* a, Index a_bytes, const void* b, Index b_bytes) noexcept {
  const auto* const x = static_cast<const unsigned char*>(a);
  const auto* const y = static_cast<const unsigned char*>(b);
  for (Index i = 0; i < a_bytes && i < b_bytes; ++i) {
    if (x[i] != y[i]) return x[i] < y[i] ? -1 : 1;
  }
  if (a_bytes == b_bytes) return 0;
  return a_bytes < b_bytes ? -1 : 1;
}

/// Reads the entries of an archive, in order of their names; touches no data. Every length is compared with
/// what is left of the bytes before anything is read or allocated for it. Throws format_error naming entry
/// and reason.
class ArchiveScan {
 public:
  ArchiveScan(const std::byte* bytes, Index size, Buffer<ArchiveEntry>& entries)
      : bytes_(bytes), size_(size) {
    const Index count = header();
    entries.resize(count);
    for (Index i = 0; i < count; ++i) entries[i] = entry(i);
    if (at_ != size_) {
      fail<format_error>("archive: expected ", at_, " bytes for ", count, " entries, got ", size_);
    }
    std::sort(entries.begin(), entries.end(), [this](const ArchiveEntry& a, const ArchiveEntry& b) {
      return compare_names(bytes_ + a.name, a.name_bytes, bytes_ + b.name, b.name_bytes) < 0;
    });
    for (Index i = 1; i < count; ++i) {
      const ArchiveEntry &a = entries[i - 1], &b = entries[i];
      if (compare_names(bytes_ + a.name, a.name_bytes, bytes_ + b.name, b.name_bytes) == 0) {
        fail<format_error>("archive: expected different names, got two entries ",
                           EntryName(bytes_ + b.name, b.name_bytes).c_str());
      }
    }
  }

 private:
  Index left() const noexcept { return size_ - at_; }

  template <class U>
  U take() noexcept {
    MOE_ASSERT(left() >= Index{sizeof(U)});
    const U value = load_little<U>(bytes_ + at_);
    at_ += Index{sizeof(U)};
    return value;
  }

  /// Returns the number of entries.
  Index header() {
    if (size_ < kArchiveHeaderBytes) {
      fail<format_error>("archive: expected at least ", kArchiveHeaderBytes, " bytes, got ", size_);
    }
    if (std::memcmp(bytes_, kArchiveMagic, sizeof kArchiveMagic) != 0) {
      fail<format_error>(
          "archive: expected the first bytes to be MOEPARAM, got others; not an archive of parameters");
    }
    at_ = Index{sizeof kArchiveMagic};
    const auto version = take<std::uint32_t>();
    if (version != kArchiveVersion) {
      fail<format_error>("archive: expected version ", kArchiveVersion, ", got ", version);
    }
    const auto count = take<std::uint64_t>();
    if (count > static_cast<std::uint64_t>(left() / kLeastEntryBytes)) {
      fail<format_error>("archive: expected at most ", left() / kLeastEntryBytes, " entries in ", size_,
                         " bytes, got a claim of ", count);
    }
    return static_cast<Index>(count);
  }

  ArchiveEntry entry(Index number) {
    require(number, "(name)", 4);
    ArchiveEntry e;
    e.name_bytes = static_cast<Index>(take<std::uint32_t>());
    if (e.name_bytes < 1 || e.name_bytes > kMostNameBytes) {
      fail<format_error>("archive: entry ", number, ": expected a name of 1 to ", kMostNameBytes,
                         " bytes, got ", e.name_bytes);
    }
    require(number, "(name)", e.name_bytes);
    e.name = at_;
    at_ += e.name_bytes;
    for (Index i = 0; i < e.name_bytes; ++i) {
      if (!EntryName::holds(static_cast<char>(bytes_[e.name + i]))) {
        fail<format_error>("archive: entry ", number,
                           ": expected a name of printable ASCII without spaces, got byte ",
                           static_cast<int>(bytes_[e.name + i]));
      }
    }
    const EntryName name(bytes_ + e.name, e.name_bytes);
    require(number, name.c_str(), 4 + 8 + 8);
    e.type = take<std::uint32_t>();
    if (element_bytes(e.type) == 0) {
      fail<format_error>("archive: entry ", number, " ", name.c_str(),
                         ": expected element type 1, 2 or 3, got ", e.type);
    }
    const auto rows = take<std::uint64_t>(), cols = take<std::uint64_t>();
    const auto most = static_cast<std::uint64_t>(left() / element_bytes(e.type));
    const bool fits = cols == 0 ? rows <= std::uint64_t{PTRDIFF_MAX}
                                : cols <= std::uint64_t{PTRDIFF_MAX} && rows <= most / cols;
    if (!fits) {
      fail<format_error>("archive: entry ", number, " ", name.c_str(), ": expected at most ", most,
                         " elements in the bytes left, got a claim of ", rows, " x ", cols);
    }
    e.rows = static_cast<Index>(rows);
    e.cols = static_cast<Index>(cols);
    e.data = at_;
    at_ += e.rows * e.cols * element_bytes(e.type);
    return e;
  }

  void require(Index number, const char* name, Index bytes) const {
    if (left() < bytes) {
      fail<format_error>("archive: entry ", number, " ", name, ": expected ", bytes, " bytes more, got ",
                         left());
    }
  }

  const std::byte* bytes_;
  Index size_;
  Index at_ = 0;
};

}  // namespace impl

MOE_NAMESPACE_END
