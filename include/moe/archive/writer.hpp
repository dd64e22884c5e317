// Saving parameters and router state: the format of archive/format.hpp, built in memory, written whole.
#pragma once

#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <span>

#include "moe/archive/format.hpp"
#include "moe/core/buffer.hpp"
#include "moe/core/view.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

/// Builds an archive. Order of the calls is order in the bytes.
class ArchiveWriter {
 public:
  ArchiveWriter() {
    std::memcpy(grow(impl::kArchiveHeaderBytes), impl::kArchiveMagic, sizeof impl::kArchiveMagic);
    impl::store_little(bytes_.data() + 8, impl::kArchiveVersion);
    impl::store_little(bytes_.data() + 12, count_);
  }

  /// Every parameter and every piece of router state of `layer`, as "prefix.name"; state is f64 [1, n], the
  /// weights of a block storage are bytes [1, n].
  template <class Layer>
  void add_layer(const char* prefix, Layer& layer) {
    if constexpr (requires { layer.visit_packed([](const char*, const std::byte*, Index) {}); }) {
      layer.visit_packed([&](const char* name, const std::byte* data, Index n) {
        add_bytes(impl::EntryName(prefix, name), data, n);
      });
    }
    layer.visit_parameters([&](const auto& p) { add(impl::EntryName(prefix, p.name), p.value); });
    layer.visit_state([&](const char* name, const double* values, Index n) {
      add(impl::EntryName(prefix, name), ParameterView<const double>{values, 1, n});
    });
  }

  void add_matrix(const char* name, const ConstMatrixView<float>& m) {
    add(impl::EntryName("", name), rows_of(m));
  }
  void add_matrix(const char* name, const ConstMatrixView<double>& m) {
    add(impl::EntryName("", name), rows_of(m));
  }

  /// The archive so far, valid until the next add. Throws format_error for two entries of one name.
  std::span<const std::byte> bytes() const {
    Buffer<impl::ArchiveEntry> entries;
    impl::ArchiveScan(bytes_.data(), size_, entries);
    return {bytes_.data(), static_cast<std::size_t>(size_)};
  }

  /// To a new file beside `path`, which is then renamed: on POSIX whoever opens `path` sees the old content
  /// or the new one, never a part. Throws file_error and leaves `path` as it was.
  void save(const char* path) const {
    const std::span<const std::byte> all = bytes();
    const TemporaryFile temporary(path);
    const bool written = std::fwrite(all.data(), 1, all.size(), temporary.file) == all.size();
    const bool closed = std::fclose(temporary.file) == 0;  // reports what is still buffered
    if (!written || !closed || std::rename(temporary.name(), path) != 0) {
      const int reason = errno;
      static_cast<void>(std::remove(temporary.name()));
      fail<file_error>("archive: expected to write ", all.size(), " bytes to ", path, ", got errno ", reason);
    }
  }

 private:
  /// A file that did not exist before: path.part0, path.part1, ...
  struct TemporaryFile {
    Buffer<char> text;
    std::FILE* file = nullptr;

    explicit TemporaryFile(const char* path) {
      const auto length = static_cast<Index>(std::strlen(path));
      const Index room = length + 16;
      text.resize(room);
      for (int attempt = 0; attempt < 100 && file == nullptr; ++attempt) {
        std::snprintf(text.data(), static_cast<std::size_t>(room), "%s.part%d", path, attempt);
        file = std::fopen(text.data(), "wbx");
        if (file == nullptr && errno != EEXIST) break;
      }
      if (file == nullptr)
        fail<file_error>("archive: expected to create a file beside ", path, ", got errno ", errno);
    }
    const char* name() const noexcept { return text.data(); }
  };

  template <class Real>
  static ParameterView<const Real> rows_of(const ConstMatrixView<Real>& m) noexcept {
    return {m.data, m.rows, m.cols, 1, m.stride, 1};
  }

  template <class T>
  void add(const impl::EntryName& name, const ParameterView<T>& values) {
    using Real = std::remove_const_t<T>;
    using Word = typename impl::Bits<Real>::type;
    std::byte* to = add_header(name, impl::element_code<Real>(), values.rows, values.cols);
    for (Index o = 0; o < values.rows; ++o) {
      for (Index i = 0; i < values.cols; ++i, to += sizeof(Real)) {
        impl::store_little(to, std::bit_cast<Word>(values(o, i)));
      }
    }
  }

  void add_bytes(const impl::EntryName& name, const std::byte* data, Index n) {
    std::byte* const to = add_header(name, impl::element_code<std::byte>(), 1, n);
    if (n > 0) std::memcpy(to, data, static_cast<std::size_t>(n));
  }

  /// Begins an entry; returns where its data go.
  std::byte* add_header(const impl::EntryName& name, std::uint32_t type, Index rows, Index cols) {
    const Index data = checked_product("archive entry", rows, cols, impl::element_bytes(type));
    std::byte* to = grow(4 + name.length() + 4 + 8 + 8 + data);
    impl::store_little(to, static_cast<std::uint32_t>(name.length()));
    std::memcpy(to += 4, name.c_str(), static_cast<std::size_t>(name.length()));
    impl::store_little(to += name.length(), type);
    impl::store_little(to += 4, static_cast<std::uint64_t>(rows));
    impl::store_little(to += 8, static_cast<std::uint64_t>(cols));
    impl::store_little(bytes_.data() + 12, ++count_);
    return to + 8;
  }

  /// Room for `bytes` more; returns where they begin.
  std::byte* grow(Index bytes) {
    if (bytes > bytes_.size() - size_) {
      Buffer<std::byte> larger;
      larger.resize(checked_product("archive", size_ + bytes, 2));
      if (size_ > 0) std::memcpy(larger.data(), bytes_.data(), static_cast<std::size_t>(size_));
      bytes_.swap(larger);
    }
    size_ += bytes;
    return bytes_.data() + size_ - bytes;
  }

  Buffer<std::byte> bytes_;
  Index size_ = 0;
  std::uint64_t count_ = 0;
};

MOE_NAMESPACE_END
