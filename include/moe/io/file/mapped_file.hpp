// A file's bytes, read-only, without copying them: a memory map where the system has one, else a buffer.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/io/file/text.hpp"

#if __has_include(<sys/mman.h>)
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

MOE_NAMESPACE_BEGIN
namespace io {

/// Owns the map (or the buffer). Views of its bytes stay valid when it is moved. A file that another process
/// cuts short while it is mapped ends the program at the first byte that is gone (SIGBUS): replace model
/// files by renaming, as SafetensorsWriter does.
class MappedFile {
 public:
  /// Throws file_error, naming the file and the system's reason, for anything but a readable regular file.
  explicit MappedFile(const std::filesystem::path& path) : path_(path) {
#if __has_include(<sys/mman.h>)
    const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    struct ::stat status {};
    if (file.number < 0 || ::fstat(file.number, &status) != 0) fail_with(errno);
    if (!S_ISREG(status.st_mode)) fail_with(S_ISDIR(status.st_mode) ? EISDIR : EINVAL);
    if (static_cast<std::uintmax_t>(status.st_size) > std::uintmax_t{PTRDIFF_MAX}) fail_with(EFBIG);
    size_ = static_cast<Index>(status.st_size);
    if (size_ == 0) return;
    void* const map =
        ::mmap(nullptr, static_cast<std::size_t>(size_), PROT_READ, MAP_PRIVATE, file.number, 0);
    if (map == MAP_FAILED) fail_with(errno);
    data_ = static_cast<const std::byte*>(map);
#else
    std::error_code error;
    if (!std::filesystem::is_regular_file(path, error)) fail_with(error ? error.value() : EINVAL);
    const std::uintmax_t bytes = std::filesystem::file_size(path, error);
    if (error || bytes > std::uintmax_t{PTRDIFF_MAX}) fail_with(error ? error.value() : EFBIG);
    size_ = static_cast<Index>(bytes);
    copy_.resize(size_);
    std::FILE* const file = std::fopen(path.string().c_str(), "rb");
    if (file == nullptr) fail_with(errno);
    const std::size_t got = std::fread(copy_.data(), 1, static_cast<std::size_t>(size_), file);
    static_cast<void>(std::fclose(file));
    if (got != static_cast<std::size_t>(size_)) fail_with(EIO);
    data_ = copy_.data();
#endif
  }

  MappedFile(MappedFile&& other) noexcept
      : path_(std::move(other.path_)),
        copy_(std::move(other.copy_)),
        data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(path_, other.path_);
    copy_.swap(other.copy_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile() {
#if __has_include(<sys/mman.h>)
    if (data_ != nullptr) {
      static_cast<void>(::munmap(const_cast<std::byte*>(data_), static_cast<std::size_t>(size_)));
    }
#endif
  }

  const std::filesystem::path& path() const noexcept {
    return path_;
  }
  std::span<const std::byte> bytes() const noexcept {
    return {data_, static_cast<std::size_t>(size_)};
  }

  /// Says that [data, data + bytes) of the map will not be read soon: the pages no longer count as this
  /// process's memory. Reading them again is allowed and brings them back.
  void release(const std::byte* data, Index bytes) const noexcept {
#if __has_include(<sys/mman.h>)
    if (bytes <= 0 || data < data_ || data + bytes > data_ + size_) return;
    const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    const auto first = reinterpret_cast<std::uintptr_t>(data) / page * page;
    const auto last = reinterpret_cast<std::uintptr_t>(data + bytes);
    auto* const from =
        reinterpret_cast<void*>(first);  // NOLINT(performance-no-int-to-ptr): the page's address
    static_cast<void>(::madvise(from, last - first, MADV_DONTNEED));
#else
    static_cast<void>(data);
    static_cast<void>(bytes);
#endif
  }

 private:
#if __has_include(<sys/mman.h>)
  struct Descriptor {
    int number;
    ~Descriptor() {
      if (number >= 0) static_cast<void>(::close(number));
    }
  };
#endif

  [[noreturn]] void fail_with(int reason) const {
    const std::string text = std::generic_category().message(reason);
    fail<file_error>(shown(path_).c_str(), ": expected a regular file that can be read, got: ", text.c_str());
  }

  std::filesystem::path path_;
  Buffer<std::byte> copy_;  // where there is no map
  const std::byte* data_ = nullptr;
  Index size_ = 0;
};

}  // namespace io
MOE_NAMESPACE_END
