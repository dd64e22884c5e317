// Owning array of plain values, aligned to a cache line. It keeps its memory when it shrinks, so that tapes
// and statistics allocate only while they warm up.
#pragma once

#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/types.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif

MOE_NAMESPACE_BEGIN

inline constexpr Index kAlignment = 64;  // bytes: a cache line, and the widest vector

/// Bytes of a huge page, and the buffers from which on they are asked for: weights then cost one entry of the
/// address cache per 2 MiB instead of one per 4 KiB, which is a tenth of the time where every panel comes
/// from memory.
inline constexpr Index kHugePage = Index{2} << 20;
inline constexpr Index kHugeBuffer = 2 * kHugePage;

template <class T>
class Buffer {
  static_assert(std::is_trivially_copyable_v<T>, "moe: Buffer holds plain values only");

 public:
  Buffer() noexcept = default;
  /// n values, zero-initialised.
  explicit Buffer(Index n) { assign(n, T{}); }
  Buffer(const Buffer& other) { copy_from(other.data_, other.size_); }
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(const Buffer& other) {
    if (this != &other) copy_from(other.data_, other.size_);
    return *this;
  }
  /// `other` is left empty.
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer(std::move(other)).swap(*this);
    return *this;
  }
  ~Buffer() { release(data_, capacity_); }

  /// Room for n values; the old values are lost, the new ones are undefined. Allocates only to grow.
  T* resize(Index n) {
    if (n < 0) fail<shape_error>("buffer: expected a size >= 0, got ", n);
    if (n > capacity_) {
      T* const fresh = allocate(n);
      release(data_, capacity_);
      data_ = fresh;
      capacity_ = n;
    }
    size_ = n;
    return data_;
  }

  /// `value` may lie in this buffer.
  T* assign(Index n, const T& value) {
    const T own = value;
    resize(n);
    fill(own);
    return data_;
  }

  /// `values` may lie in this buffer.
  void copy_from(const T* values, Index n) {
    resize(n);
    if (n > 0) std::memmove(data_, values, static_cast<std::size_t>(n) * sizeof(T));
  }

  void fill(const T& value) noexcept {
    const T own = value;  // no reference into data_
    for (Index i = 0; i < size_; ++i) data_[i] = own;
  }

  T* data() noexcept { return data_; }
  const T* data() const noexcept { return data_; }
  Index size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  T& operator[](Index i) noexcept {
    MOE_ASSERT(i >= 0 && i < size_);
    return data_[i];
  }
  const T& operator[](Index i) const noexcept {
    MOE_ASSERT(i >= 0 && i < size_);
    return data_[i];
  }
  T* begin() noexcept { return data_; }
  T* end() noexcept { return data_ + size_; }
  const T* begin() const noexcept { return data_; }
  const T* end() const noexcept { return data_ + size_; }

  void swap(Buffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
  }

 private:
  static std::align_val_t alignment(Index n) noexcept {
    return std::align_val_t{
        static_cast<std::size_t>(n * Index{sizeof(T)} < kHugeBuffer ? kAlignment : kHugePage)};
  }

  static T* allocate(Index n) {
    const auto bytes = static_cast<std::size_t>(checked_product("buffer bytes", n, Index{sizeof(T)}));
    void* const fresh = ::operator new(bytes, alignment(n));
#if defined(__linux__)
    // A hint: where it fails, small pages do.
    if (static_cast<Index>(bytes) >= kHugeBuffer) static_cast<void>(::madvise(fresh, bytes, MADV_HUGEPAGE));
#endif
    return static_cast<T*>(fresh);
  }

  static void release(T* data, Index capacity) noexcept {
    ::operator delete(data, alignment(capacity));
  }

  T* data_ = nullptr;
  Index size_ = 0;
  Index capacity_ = 0;
};

MOE_NAMESPACE_END
