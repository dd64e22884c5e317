// Loading parameters and router state that archive/writer.hpp has saved.
#pragma once

#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <memory>
#include <span>
#include <utility>

#include "moe/archive/format.hpp"
#include "moe/core/buffer.hpp"
#include "moe/core/view.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

struct CloseFile {
  void operator()(std::FILE* file) const noexcept { static_cast<void>(std::fclose(file)); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

}  // namespace impl

/// A parsed archive; holds a copy of the bytes. Loading checks names, types and shapes first and assigns
/// then, so that nothing is half-loaded.
class Archive {
 public:
  /// Throws format_error naming entry and reason for bytes that are no archive.
  static Archive from_bytes(std::span<const std::byte> bytes) {
    Buffer<std::byte> copy;
    copy.copy_from(bytes.data(), static_cast<Index>(bytes.size()));
    return Archive(std::move(copy));
  }
  /// And file_error for a file that cannot be read.
  static Archive from_file(const char* path) {
    const impl::File file(std::fopen(path, "rb"));
    // One byte is read before the size is asked for, because directories open and have strange sizes.
    const bool readable = file != nullptr && (std::fgetc(file.get()) != EOF || std::feof(file.get()) != 0);
    const long size = readable && std::fseek(file.get(), 0, SEEK_END) == 0 ? std::ftell(file.get()) : -1;
    Buffer<std::byte> bytes;
    if (size >= 0) bytes.resize(Index{size});
    if (size < 0 || std::fseek(file.get(), 0, SEEK_SET) != 0 ||
        std::fread(bytes.data(), 1, static_cast<std::size_t>(size), file.get()) !=
            static_cast<std::size_t>(size)) {
      fail<file_error>("archive: expected to read ", path, ", got errno ", errno);
    }
    return Archive(std::move(bytes));
  }

  Index entries() const noexcept { return entries_.size(); }
  bool contains(const char* name) const { return find(impl::EntryName("", name)) >= 0; }

  /// Throws format_error naming the entry that is missing, of another type or shape than `layer` has, router
  /// state but not finite, or under "prefix." without a place in `layer` (with an empty prefix: anywhere).
  template <class Layer>
  void check_layer(const char* prefix, Layer& layer) const {
    Buffer<bool> used(entries());
    const auto check = [&](const impl::EntryName& name, std::uint32_t type, Index rows, Index cols) {
      const Index i = require(name, type, rows, cols);
      if (used[i]) {
        fail<config_error>("archive: expected a layer of different names, got two of ", name.c_str());
      }
      used[i] = true;
    };
    layer.visit_parameters([&](const auto& p) {
      using Real = std::remove_const_t<std::remove_pointer_t<decltype(p.value.data)>>;
      check(impl::EntryName(prefix, p.name), impl::element_code<Real>(), p.value.rows, p.value.cols);
    });
    visit_packed(layer, [&](const char* name, const std::byte*, Index n) {
      check(impl::EntryName(prefix, name), impl::element_code<std::byte>(), 1, n);
    });
    layer.visit_state([&](const char* name, const double*, Index n) {
      const impl::EntryName full(prefix, name);
      check(full, impl::element_code<double>(), 1, n);
      check_finite(full);
    });
    const auto length = static_cast<Index>(std::strlen(prefix));
    for (Index i = 0; i < entries(); ++i) {
      const impl::EntryName name = name_of(i);
      const bool under =
          length == 0 || (std::strncmp(name.c_str(), prefix, static_cast<std::size_t>(length)) == 0 &&
                          name.c_str()[length] == '.');
      if (under && !used[i]) {
        fail<format_error>("archive: expected the layer's parameters and state, got ", name.c_str(),
                           ", which it does not have");
      }
    }
  }

  /// check_layer(), then every parameter and all state of `layer` from the entries "prefix.name". State comes
  /// first, because its owner may refuse it.
  template <class Layer>
  void load_layer(const char* prefix, Layer& layer) const {
    check_layer(prefix, layer);
    layer.visit_state([&](const char* name, double* values, Index n) {
      assign(impl::EntryName(prefix, name), ParameterView<double>{values, 1, n});
    });
    layer.visit_parameters([&](const auto& p) { assign(impl::EntryName(prefix, p.name), p.value); });
    visit_packed(layer, [&](const char* name, std::byte* data, Index n) {
      const impl::ArchiveEntry& e = entries_[find(impl::EntryName(prefix, name))];
      if (n > 0) std::memcpy(data, bytes_.data() + e.data, static_cast<std::size_t>(n));
    });
  }

  /// Throws format_error unless the entry is there, of this type and shape.
  void load_matrix(const char* name, const MatrixView<float>& to) const {
    load(impl::EntryName("", name), to);
  }
  void load_matrix(const char* name, const MatrixView<double>& to) const {
    load(impl::EntryName("", name), to);
  }

 private:
  explicit Archive(Buffer<std::byte>&& bytes) : bytes_(std::move(bytes)) {
    impl::ArchiveScan(bytes_.data(), bytes_.size(), entries_);
  }

  template <class Layer, class F>
  static void visit_packed(Layer& layer, const F& f) {
    if constexpr (requires { layer.visit_packed(f); }) layer.visit_packed(f);
  }

  impl::EntryName name_of(Index i) const noexcept {
    return {bytes_.data() + entries_[i].name, entries_[i].name_bytes};
  }

  /// Its number, or -1.
  Index find(const impl::EntryName& name) const noexcept {
    Index low = 0, high = entries();
    while (low < high) {
      const Index middle = low + (high - low) / 2;
      const impl::ArchiveEntry& e = entries_[middle];
      const int order =
          impl::compare_names(bytes_.data() + e.name, e.name_bytes, name.c_str(), name.length());
      if (order == 0) return middle;
      (order < 0 ? low : high) = order < 0 ? middle + 1 : middle;
    }
    return -1;
  }

  Index require(const impl::EntryName& name, std::uint32_t type, Index rows, Index cols) const {
    const Index i = find(name);
    if (i < 0) fail<format_error>("archive: expected an entry ", name.c_str(), ", got none");
    const impl::ArchiveEntry& e = entries_[i];
    if (e.type != type || e.rows != rows || e.cols != cols) {
      fail<format_error>("archive: entry ", name.c_str(), ": expected ", impl::element_name(type), " of ",
                         rows, " x ", cols, ", got ", impl::element_name(e.type), " of ", e.rows, " x ",
                         e.cols);
    }
    return i;
  }

  void check_finite(const impl::EntryName& name) const {
    const impl::ArchiveEntry& e = entries_[find(name)];
    for (Index i = 0; i < e.rows * e.cols; ++i) {
      if (!is_finite(
              std::bit_cast<double>(impl::load_little<std::uint64_t>(bytes_.data() + e.data + 8 * i)))) {
        fail<format_error>("archive: entry ", name.c_str(),
                           ": expected finite router state, got NaN or infinity");
      }
    }
  }

  template <class Real>
  void load(const impl::EntryName& name, const MatrixView<Real>& to) const {
    require(name, impl::element_code<Real>(), to.rows, to.cols);
    assign(name, ParameterView<Real>{to.data, to.rows, to.cols, 1, to.stride, 1});
  }

  template <class Real>
  void assign(const impl::EntryName& name, const ParameterView<Real>& to) const noexcept {
    using Word = typename impl::Bits<Real>::type;
    const std::byte* from = bytes_.data() + entries_[find(name)].data;
    for (Index o = 0; o < to.rows; ++o) {
      for (Index i = 0; i < to.cols; ++i, from += sizeof(Real)) {
        to(o, i) = std::bit_cast<Real>(impl::load_little<Word>(from));
      }
    }
  }

  Buffer<std::byte> bytes_;
  Buffer<impl::ArchiveEntry> entries_;  // in order of their names
};

MOE_NAMESPACE_END
