// Rows for kernel tests: at any alignment, between guards that show a write outside.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "moe/core/types.hpp"

namespace test {

using moe::Index;

/// Straddle every batch width and every unrolled width.
inline constexpr Index kSizes[] = {0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 1000};

/// xorshift64*: the same numbers on every standard library.
class Numbers {
 public:
  explicit Numbers(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 1) {}
  std::uint64_t bits() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545F4914F6CDD1Du;
  }
  /// Uniform in [low, high), both signs mixed where the range has them.
  double uniform(double low, double high) {
    return low + (high - low) * static_cast<double>(bits() >> 11) * 0x1p-53;
  }

 private:
  std::uint64_t state_;
};

/// n elements that start `shift` elements after an alignment boundary of the allocator, guarded on both
/// sides.
template <class T>
class GuardedRow {
 public:
  explicit GuardedRow(Index n, Index shift = 0) : n_(n), begin_(kGuard + shift) {
    cells_.assign(static_cast<std::size_t>(begin_ + n + kGuard), guard());
    for (Index j = 0; j < n; ++j) data()[j] = 0;
  }
  GuardedRow(Index n, Index shift, Numbers& numbers, double low = -2, double high = 2)
      : GuardedRow(n, shift) {
    for (Index j = 0; j < n; ++j) data()[j] = static_cast<T>(numbers.uniform(low, high));
  }
  /// The same values at another alignment.
  GuardedRow(const GuardedRow& other, Index shift) : GuardedRow(other.n_, shift) {
    for (Index j = 0; j < n_; ++j) data()[j] = other[j];
  }

  T* data() { return cells_.data() + begin_; }
  const T* data() const { return cells_.data() + begin_; }
  Index size() const { return n_; }
  T& operator[](Index j) { return data()[j]; }
  const T& operator[](Index j) const { return data()[j]; }

  bool guards_intact() const {
    const T expected = guard();
    for (std::size_t i = 0; i < cells_.size(); ++i) {
      const bool inside = i >= static_cast<std::size_t>(begin_) && i < static_cast<std::size_t>(begin_ + n_);
      if (!inside && std::memcmp(&cells_[i], &expected, sizeof(T)) != 0) return false;
    }
    return true;
  }

 private:
  static constexpr Index kGuard = 32;
  static T guard() { return static_cast<T>(-123456789.0); }

  Index n_, begin_;
  std::vector<T> cells_;
};

}  // namespace test
