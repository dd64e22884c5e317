// Owning array of plain values, aligned to a cache line. It keeps its memory when it shrinks, so that tapes
// and statistics allocate only while they warm up.
#pragma once

#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

inline constexpr Index kAlignment = 64;  // bytes: a cache line, and the widest vector

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
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Buffer() { ::operator delete (data_, std::align_val_t{kAlignment}); }

  /// Room for n values; the old values are lost, the new ones are undefined. Allocates only to grow.
  T* resize(Index n) {
    if (n < 0) fail<shape_error>("buffer: expected a size >= 0, got ", n);
    if (n > capacity_) {
      const Index bytes = checked_product("buffer bytes", n, Index{sizeof(T)});
      void* fresh = ::operator new (static_cast<std::size_t>(bytes), std::align_val_t{kAlignment});
      ::operator delete (data_, std::align_val_t{kAlignment});
      data_ = static_cast<T*>(fresh);
      capacity_ = n;
    }
    size_ = n;
    return data_;
  }

  T* assign(Index n, T value) {
    resize(n);
    fill(value);
    return data_;
  }

  /// `values` may lie in this buffer.
  void copy_from(const T* values, Index n) {
    resize(n);
    if (n > 0) std::memmove(data_, values, static_cast<std::size_t>(n) * sizeof(T));
  }

  void fill(T value) noexcept {
    for (Index i = 0; i < size_; ++i) data_[i] = value;
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
  T* data_ = nullptr;
  Index size_ = 0;
  Index capacity_ = 0;
};

MOE_NAMESPACE_END
