// For tests of matrix products: repeatable numbers, aligned memory with canaries, and sums that know how
// wrong a chain of fused multiply-adds may be.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <vector>

#include "moe/core/buffer.hpp"
#include "moe/core/types.hpp"
#include "support/close.hpp"

namespace test {

using moe::Index;

/// Uniform in [-1, 1), both signs, no two calls alike.
class Draw {
 public:
  explicit Draw(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 1) {}
  std::uint32_t bits() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::uint32_t>(state_ >> 33);  // 31 bits
  }
  template <class T>
  T next() {
    return static_cast<T>(static_cast<double>(bits()) * 0x1p-30 - 1);
  }
  Index below(Index n) { return static_cast<Index>(bits()) % n; }

 private:
  std::uint64_t state_;
};

template <class T>
std::vector<T> numbers(Index n, std::uint64_t seed) {
  Draw draw(seed);
  std::vector<T> v(static_cast<std::size_t>(n));
  for (T& x : v) x = draw.next<T>();
  return v;
}

/// n values aligned to 64 bytes between two cache lines of canaries.
template <class T>
class AlignedBlock {
 public:
  explicit AlignedBlock(Index n, T value = 0) : size_(n), all_(n + 2 * kGuard) {
    all_.fill(kCanary);
    for (Index i = 0; i < n; ++i) (*this)[i] = value;
  }
  T* data() { return all_.data() + kGuard; }
  T& operator[](Index i) { return data()[i]; }
  Index size() const { return size_; }
  /// Whether both canaries live.
  bool intact() const { return intact_from(size_); }
  /// Whether nothing was written from element n on, nor in front of the first.
  bool intact_from(Index n) const {
    bool alive = true;
    for (Index i = 0; i < kGuard; ++i) alive = alive && all_[i] == kCanary;
    for (Index i = kGuard + n; i < all_.size(); ++i) alive = alive && all_[i] == kCanary;
    return alive;
  }
  void bury(Index from) {
    for (Index i = from; i < size_; ++i) (*this)[i] = kCanary;
  }

 private:
  static constexpr Index kGuard = 64 / static_cast<Index>(sizeof(T));
  static constexpr T kCanary = T(-12345.625);
  Index size_;
  moe::Buffer<T> all_;
};

/// A sum of products in long double, and what a chain of that many roundings may make of it in working
/// precision.
class ProductSum {
 public:
  void add(long double a, long double b) {
    value_ += a * b;
    magnitude_ += std::fabs(a * b);
    ++terms_;
  }
  /// Whether `computed` may be this sum, one or two roundings a term. NaN never is.
  template <class T>
  bool admits(T computed) const {
    return within(computed, value_, gamma<T>(terms_ + 2) * magnitude_);
  }

 private:
  long double value_ = 0, magnitude_ = 0;
  Index terms_ = 0;
};

template <class T>
bool same_bits(const T* a, const T* b, Index n) {
  return first_bit_difference(a, b, n) == -1;
}

/// Whether scalar and vector arithmetic round alike under this compiler's flags (x87 does not).
inline constexpr bool kScalarsRoundLikeVectors = FLT_EVAL_METHOD == 0;

}  // namespace test
