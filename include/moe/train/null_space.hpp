// Router updates that change nothing for given rows: GRIP, Zhu et al. 2601.16905.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/view.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/product/right_singular.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

struct NullSpaceOptions {
  double tolerance = 1e-9;  // of the largest singular value: directions below it are rounding
  Index most = 0;           // directions that are kept, those of the largest values; 0: all
};

/// P = I - U U^T with U [D, r] orthonormal. W P x = 0 for every x in the span of U; r = D freezes W.
class NullSpaceProjector {
 public:
  /// Of rows of D entries, without any that are kept: P = I. Throws config_error for a width below 1.
  explicit NullSpaceProjector(Index width) : width_(width) { require_range("width", width, 1, INT32_MAX); }

  Index width() const noexcept { return width_; }
  Index rank() const noexcept { return basis_.size() / width_; }
  /// Row k of U^T [r, D].
  const double* direction(Index k) const noexcept { return basis_.data() + k * width_; }

  /// g = g P for one row [D].
  void project(double* g) const noexcept {
    for (Index k = 0; k < rank(); ++k) {
      double along = 0;
      for (Index i = 0; i < width_; ++i) along += g[i] * direction(k)[i];
      for (Index i = 0; i < width_; ++i) g[i] -= along * direction(k)[i];
    }
  }

 private:
  NullSpaceProjector(Index width, Buffer<double> basis) : width_(width), basis_(std::move(basis)) {}
  template <impl::MatrixOrView M>
  friend NullSpaceProjector null_space_projector(const M& rows, const NullSpaceOptions& options);

  Index width_;
  Buffer<double> basis_;  // [r, D]
};

/// Of the span of `rows` [R, D]: rows that the router shall go on treating as it does, as its scorer reads
/// them (router_x if the layer has one, behind a norm of the scorer's), or an orthonormal basis of them.
/// Throws config_error for options out of range, shape_error for no columns, numeric_error for numbers that
/// are not finite.
template <impl::MatrixOrView M>
NullSpaceProjector null_space_projector(const M& rows, const NullSpaceOptions& options) {
  const ConstMatrixView<std::remove_const_t<impl::ElementOf<M>>> kept(rows);
  if (!(options.tolerance >= 0 && options.tolerance < 1)) {
    fail<config_error>("null space: expected a tolerance in [0, 1), got ", options.tolerance);
  }
  require_range("directions of the null space", options.most, 0, INT32_MAX);
  if (kept.cols < 1) fail<shape_error>("null space: expected rows of at least 1 column, got ", kept.cols);
  const Index n = kept.cols;
  Buffer<double> a(checked_product("null space", kept.rows, n));
  double largest = 0;
  for (Index t = 0; t < kept.rows; ++t) {
    for (Index i = 0; i < n; ++i) {
      if (!is_finite(kept(t, i))) {
        fail<numeric_error>("null space: expected finite rows, got ", kept(t, i), " in row ", t);
      }
      a[t * n + i] = static_cast<double>(kept(t, i));
      largest = (std::max)(largest, std::abs(a[t * n + i]));
    }
  }
  if (largest == 0) return NullSpaceProjector(n);
  for (double& v : a) v /= largest;  // squares neither overflow nor vanish
  Buffer<double> scratch(n);
  if (kept.rows > n) impl::reduce_rows(a.data(), kept.rows, n, scratch.data());
  const Index m = (std::min)(kept.rows, n);
  double norm = 0;  // of the matrix
  for (Index i = 0; i < m * n; ++i) norm += a[i] * a[i];
  const double rounding = 0x1p-52 * static_cast<double>((std::max)(kept.rows, n)) * std::sqrt(norm);
  impl::orthogonalise_rows(a.data(), m, n, rounding);

  Buffer<double> value(m);  // singular values
  Buffer<Index> order(m);
  double top = 0;
  for (Index k = 0; k < m; ++k) {
    for (Index i = 0; i < n; ++i) value[k] += a[k * n + i] * a[k * n + i];
    value[k] = std::sqrt(value[k]);
    top = (std::max)(top, value[k]);
    order[k] = k;
  }
  std::stable_sort(order.begin(), order.end(), [&](Index x, Index y) { return value[x] > value[y]; });
  Index rank = 0;
  while (rank < m && value[order[rank]] > (std::max)(options.tolerance * top, rounding)) ++rank;
  if (options.most > 0 && rank > options.most) rank = options.most;
  Buffer<double> basis(rank * n);
  for (Index k = 0; k < rank; ++k) {
    for (Index i = 0; i < n; ++i) basis[k * n + i] = a[order[k] * n + i] / value[order[k]];
  }
  return {n, std::move(basis)};
}
template <impl::MatrixOrView M>
NullSpaceProjector null_space_projector(const M& rows) {
  return null_space_projector(rows, NullSpaceOptions{});
}

namespace impl {
template <class T>
void require_projectors(const ParameterView<T>& w, std::span<const NullSpaceProjector> of) {
  const auto count = static_cast<Index>(of.size());
  if (count != 1 && count != w.rows) {
    fail<shape_error>("null space: expected one projector, or one for each of ", w.rows, " experts, got ",
                      count);
  }
  for (const NullSpaceProjector& one : of) require_extent("null space", "columns", w.cols, one.width());
}
}  // namespace impl

/// gradient [N, D] = gradient P, row e by projector e or all by the only one. Then a step that is a sum of
/// gradients changes no W x of the kept rows but for rounding, in any number of steps: plain SGD, and SGD
/// with momentum, without weight decay. AdamW divides by its second moments and shrinks W: for it see
/// NullSpaceAnchor. A bias of the router must be frozen. Throws shape_error for projectors of another number
/// or width.
template <class Real>
void project_gradient(const ParameterView<Real>& gradient, std::span<const NullSpaceProjector> of) {
  impl::require_projectors(gradient, of);
  Buffer<double> row(gradient.cols);
  for (Index e = 0; e < gradient.rows; ++e) {
    for (Index i = 0; i < gradient.cols; ++i) row[i] = static_cast<double>(gradient(e, i));
    of[of.size() == 1 ? 0 : static_cast<std::size_t>(e)].project(row.data());
    for (Index i = 0; i < gradient.cols; ++i) gradient(e, i) = static_cast<Real>(row[i]);
  }
}

/// The weights of a router as they were. `hold` after each step of any optimiser projects what came of them:
/// W = W0 + (W - W0) P, so that W x is W0 x to the rounding of W itself, however many the steps.
template <class Real>
class NullSpaceAnchor {
 public:
  /// Copies w [N, D].
  explicit NullSpaceAnchor(const ParameterView<const Real>& w)
      : rows_(w.rows), cols_(w.cols), start_(checked_product("anchor", w.rows, w.cols)) {
    for (Index e = 0; e < rows_; ++e) {
      for (Index i = 0; i < cols_; ++i) start_[e * cols_ + i] = w(e, i);
    }
  }

  /// Projectors as of project_gradient. Throws shape_error for weights or projectors of another shape.
  void hold(const ParameterView<Real>& w, std::span<const NullSpaceProjector> of) const {
    require_extent("anchored weights", "rows", rows_, w.rows);
    require_extent("anchored weights", "columns", cols_, w.cols);
    impl::require_projectors(w, of);
    Buffer<double> row(cols_);
    for (Index e = 0; e < rows_; ++e) {
      const Real* const start = start_.data() + e * cols_;
      for (Index i = 0; i < cols_; ++i) row[i] = static_cast<double>(w(e, i)) - static_cast<double>(start[i]);
      of[of.size() == 1 ? 0 : static_cast<std::size_t>(e)].project(row.data());
      for (Index i = 0; i < cols_; ++i) {
        w(e, i) = static_cast<Real>(static_cast<double>(start[i]) + row[i]);
      }
    }
  }

 private:
  Index rows_, cols_;
  Buffer<Real> start_;  // [N, D]
};

MOE_NAMESPACE_END
