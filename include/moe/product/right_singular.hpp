// Right singular vectors of a matrix that comes in blocks of rows, in double: what null spaces of routers and
// factors of experts are made of. Once in a while, on one thread.
#pragma once

#include <algorithm>
#include <cmath>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// a [m, n], m > n, becomes its triangular factor in the first n rows: Householder's reflections from the
/// left, which leave the right singular vectors alone. `w` [n].
inline void reduce_rows(double* a, Index m, Index n, double* w) noexcept {
  for (Index j = 0; j < n; ++j) {
    double norm = 0;
    for (Index r = j; r < m; ++r) norm += a[r * n + j] * a[r * n + j];
    norm = std::sqrt(norm);
    if (norm == 0) continue;
    double& pivot = a[j * n + j];
    const double becomes = pivot > 0 ? -norm : norm, square = 2 * norm * (norm + std::abs(pivot));
    pivot -= becomes;  // the column is now the reflection's vector, of this square
    for (Index c = j + 1; c < n; ++c) w[c] = 0;
    for (Index r = j; r < m; ++r) {
      for (Index c = j + 1; c < n; ++c) w[c] += a[r * n + j] * a[r * n + c];
    }
    for (Index r = j; r < m; ++r) {
      const double factor = 2 * a[r * n + j] / square;
      for (Index c = j + 1; c < n; ++c) a[r * n + c] -= factor * w[c];
      a[r * n + j] = 0;
    }
    pivot = becomes;
  }
}

/// Rotates the rows of a [m, n] until they are orthogonal: they are then the right singular vectors times the
/// singular values (Hestenes 1958). Rows below `floor` are rounding and let alone.
inline void orthogonalise_rows(double* a, Index m, Index n, double floor) noexcept {
  constexpr double kClose = 0x1p-50;  // of the product of two norms: as orthogonal as rounding allows
  constexpr int kSweeps = 60;         // they converge quadratically; ten are many
  bool rotated = true;
  for (int sweep = 0; rotated && sweep < kSweeps; ++sweep) {
    rotated = false;
    for (Index i = 0; i < m; ++i) {
      for (Index j = i + 1; j < m; ++j) {
        double* const p = a + i * n;
        double* const q = a + j * n;
        double pp = 0, qq = 0, pq = 0;
        for (Index c = 0; c < n; ++c) pp += p[c] * p[c], qq += q[c] * q[c], pq += p[c] * q[c];
        if (std::sqrt((std::min)(pp, qq)) <= floor ||
            std::abs(pq) <= kClose * std::sqrt(pp) * std::sqrt(qq)) {
          continue;
        }
        rotated = true;
        const double zeta = (qq - pp) / (2 * pq);
        const double tangent = (zeta < 0 ? -1 : 1) / (std::abs(zeta) + std::hypot(1.0, zeta));
        const double cosine = 1 / std::hypot(1.0, tangent), sine = cosine * tangent;
        for (Index c = 0; c < n; ++c) {
          const double old = p[c];
          p[c] = cosine * old - sine * q[c];
          q[c] = sine * old + cosine * q[c];
        }
      }
    }
  }
}

}  // namespace impl

/// Of a matrix [M, D], whose rows are added a block at a time: singular values, descending, and the right
/// singular vectors to them. Memory for D + the longest block's rows of D.
class RightSingular {
 public:
  /// Throws config_error for a width below 1, size_error.
  explicit RightSingular(Index width) : width_(width) {
    require_range("width", width, 1, INT32_MAX);
    rows_.assign(checked_product("singular vectors", width, width), 0.0);
  }

  Index width() const noexcept { return width_; }

  /// Another `count` rows; value(r, i) is number i of row r.
  template <class Value>
  void add(Index count, const Value& value) {
    const Index m = width_ + count;
    Buffer<double> a(checked_product("singular vectors", m, width_));
    for (Index i = 0; i < width_ * width_; ++i) a[i] = rows_[i];
    for (Index r = 0; r < count; ++r) {
      for (Index i = 0; i < width_; ++i) a[(width_ + r) * width_ + i] = static_cast<double>(value(r, i));
    }
    Buffer<double> scratch(width_);
    if (count > 0) impl::reduce_rows(a.data(), m, width_, scratch.data());
    for (Index i = 0; i < width_ * width_; ++i) rows_[i] = a[i];
    done_ = false;
  }

  /// After the last block, before what follows is read.
  void finish() {
    double squares = 0;
    for (const double v : rows_) squares += v * v;
    impl::orthogonalise_rows(rows_.data(), width_, width_,
                             0x1p-52 * static_cast<double>(width_) * std::sqrt(squares));
    value_.assign(width_, 0.0);
    order_.assign(width_, Index{0});
    for (Index k = 0; k < width_; ++k) {
      for (Index i = 0; i < width_; ++i) value_[k] += rows_[k * width_ + i] * rows_[k * width_ + i];
      value_[k] = std::sqrt(value_[k]);
      order_[k] = k;
    }
    std::sort(order_.begin(), order_.end(), [this](Index a, Index b) noexcept {
      return value_[a] != value_[b] ? value_[a] > value_[b] : a < b;
    });
    done_ = true;
  }

  /// k-th largest, 0 where the matrix has fewer.
  double value(Index k) const noexcept {
    MOE_ASSERT(done_);
    return value_[order_[k]];
  }
  /// Number i of the vector to value(k), of length 1; 0 if that value is 0.
  double vector(Index k, Index i) const noexcept {
    const double size = value(k);
    return size == 0 ? 0 : rows_[order_[k] * width_ + i] / size;
  }

 private:
  Index width_;
  bool done_ = false;
  Buffer<double> rows_;   // [D, D] triangular, then orthogonal: vectors times values
  Buffer<double> value_;  // [D]
  Buffer<Index> order_;   // [D] of the values, descending
};

MOE_NAMESPACE_END
