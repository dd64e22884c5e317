// Experts stand where their tokens are: logits are similarities to means of the rows that went to each. No
// gradient. Online k-means routing ("Routers Learn the Geometry of Their Experts"); AdaptDHM, 2211.12105.
#pragma once

#include <cstdint>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/random.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/plan/route_table.hpp"
#include "moe/plan/statistics.hpp"
#include "moe/router/logit_checks.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/router/vector_length.hpp"

MOE_NAMESPACE_BEGIN

enum class Similarity : std::uint8_t { cosine, inner_product };

/// How a step that sent n rows of mean m to a centroid moves it.
enum class CentroidRule : std::uint8_t {
  moving_average,  // c += rate (m - c)
  running_mean,    // c += n / (all rows it ever got, n included) (m - c)
};

struct CentroidScorerOptions {
  Index width = 0;    // D
  Index outputs = 0;  // N
  Similarity similarity = Similarity::cosine;
  double tau = 1;  // logits are similarities over it
  CentroidRule rule = CentroidRule::moving_average;
  double rate = 0.05;
};

/// logit_e = similarity(x, c_e) / tau. What is learned arrives by collect() and is taken over by
/// on_step_end(); an expert without rows keeps its centroid. State "centroids" [N, D] and "centroid_rows"
/// [N]; zero until initialise(). Vectors shorter than 1e-12 count as that long. dx passes through the
/// similarity.
template <class RealType>
class CentroidScorer {
 public:
  using Real = RealType;
  using Options = CentroidScorerOptions;
  struct Tape {};
  struct Gradients {};
  static constexpr const char* kName = "centroid";

  /// Throws config_error for sizes below 1, a tau that is not positive and finite, or a rate outside [0, 1].
  explicit CentroidScorer(const Options& o) : options_(o) {
    require_range("width", o.width, 1, INT32_MAX);
    require_range("outputs", o.outputs, 1, INT32_MAX);
    if (!(o.tau > 0 && is_finite(o.tau))) {
      fail<config_error>("centroid tau: expected a finite value > 0, got ", o.tau);
    }
    if (!(o.rate >= 0 && o.rate <= 1)) {
      fail<config_error>("centroid rate: expected a value in [0, 1], got ", o.rate);
    }
    centroid_.assign(checked_product("centroids", o.outputs, o.width), 0);
    sum_.assign(centroid_.size(), 0);
    used_.assign(centroid_.size(), Real{0});
    rows_.assign(o.outputs, 0);
    new_rows_.assign(o.outputs, 0);
  }

  Index width() const noexcept { return options_->width; }
  Index outputs() const noexcept { return options_->outputs; }
  /// c_e [D].
  const double* centroid(Index e) const noexcept { return centroid_.data() + e * width(); }

  /// Random unit vectors that count no rows.
  void initialise(std::uint64_t seed) {
    const KeyedRandom draw(seed, 0, DrawStream::initialise);
    for (Index i = 0; i < centroid_.size(); ++i) centroid_[i] = draw.normal(static_cast<std::uint64_t>(i), 0);
    for (Index e = 0; e < outputs(); ++e) {
      const double size = impl::length_of(centroid(e), width());
      for (Index j = 0; j < width(); ++j) centroid_[e * width() + j] /= size;
    }
    rows_.fill(0);
    refresh();
  }
  /// [N, D]. Throws shape_error, numeric_error for values that are not finite.
  void set_centroids(const ConstMatrixView<double>& values) {
    require_shape("centroids", values, outputs(), width());
    Buffer<double> copy(centroid_.size());
    for (Index e = 0; e < outputs(); ++e) {
      for (Index j = 0; j < width(); ++j) copy[e * width() + j] = values(e, j);
    }
    take(std::move(copy), rows_);
  }

  /// Remembers which rows [T, D], those the router read, went where: after a call in training, by the caller
  /// or an observer of the layer. Of many calls all count. Throws shape_error for rows of another call.
  void collect(const ConstMatrixView<Real>& rows, const RouteTable<Real>& table) {
    require_shape("rows", rows, table.tokens, width());
    require_extent("route table", "experts", outputs(), table.experts);
    for (Index t = 0; t < table.tokens; ++t) {
      for (Index p = table.offsets[t]; p < table.offsets[t + 1]; ++p) {
        const Index e = table.expert[p];
        new_rows_[e] += 1;
        for (Index j = 0; j < width(); ++j) sum_[e * width() + j] += static_cast<double>(rows(t, j));
      }
    }
  }

  void on_step_end(const RouteStats&) noexcept {
    for (Index e = 0; e < outputs(); ++e) {
      const double n = new_rows_[e];
      if (n == 0) continue;
      rows_[e] += n;
      const double rate = options_->rule == CentroidRule::running_mean ? n / rows_[e] : options_->rate;
      for (Index i = e * width(); i < (e + 1) * width(); ++i)
        centroid_[i] += rate * (sum_[i] / n - centroid_[i]);
    }
    sum_.fill(0);
    new_rows_.fill(0);
    refresh();
  }
  /// f gets copies, taken over if all they hold afterwards is finite, otherwise numeric_error. What is
  /// collected of a step that is not over is not saved.
  template <class Visitor>
  void visit_state(Visitor& f) {
    Buffer<double> centroids = centroid_, rows = rows_;
    f("centroids", centroids.data(), centroids.size());
    f("centroid_rows", rows.data(), rows.size());
    take(std::move(centroids), std::move(rows));
  }
  template <class Visitor>
  void visit_state(Visitor& f) const {
    f("centroids", centroid_.data(), centroid_.size());
    f("centroid_rows", rows_.data(), rows_.size());
  }

  void measure(Arena&, Index, Index) const noexcept {}
  void measure_backward(Arena&, Index, Index) const noexcept {}

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape*, Arena&, X& executor) const {
    executor.parallel_for(in.tokens(), [&](Index t, Index) noexcept {
      const Real factor = this->factor(normed() ? impl::length_of(in.x.row(t), width()) : Real{1});
      for (Index e = 0; e < outputs(); ++e) out.value(t, e) = dot(in.x.row(t), used(e), width()) * factor;
      impl::finite_or_spoiled(out.value.row(t), outputs());
    });
  }

  /// With f = 1 / (tau |x|): dx = f (sum_e dL_e v_e - u <u, sum_e dL_e v_e>), u = x / |x|; without norms the
  /// sum.
  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape&, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients*, Arena&, X& executor) const {
    const Index count = dlogits.rows == nullptr ? in.tokens() : dlogits.row_count;
    executor.parallel_for(dx ? count : 0, [&](Index a, Index) noexcept {
      const Index t = dlogits.rows == nullptr ? a : Index{dlogits.rows[a]};
      const Real* const x = in.x.row(t);
      const Real size = impl::length_of(x, width());
      const Real factor = this->factor(size);
      Real along = 0;
      for (Index e = 0; e < outputs(); ++e) {
        axpy_row(dlogits.value(t, e) * factor, used(e), dx.row(t), width());
        along += dlogits.value(t, e) * factor * dot(x, used(e), width());
      }
      if (normed() && size > static_cast<Real>(impl::kShortestLength)) {
        axpy_row(-along / size / size, x, dx.row(t), width());
      }
    });
  }

  Gradients make_gradients() const noexcept { return {}; }

 private:
  bool normed() const noexcept { return options_->similarity == Similarity::cosine; }
  /// What products of a row of that length with used() are multiplied by.
  Real factor(Real length) const noexcept {
    const Real inverse = static_cast<Real>(1 / options_->tau);
    return normed() ? inverse / length : inverse;
  }
  const Real* used(Index e) const noexcept { return used_.data() + e * width(); }

  void take(Buffer<double> centroids, Buffer<double> rows) {
    for (const double v : centroids) {
      if (!is_finite(v)) fail<numeric_error>("centroids: expected finite values, got ", v);
    }
    for (const double n : rows) {
      if (!(n >= 0 && is_finite(n))) fail<numeric_error>("centroid rows: expected counts, got ", n);
    }
    centroid_ = std::move(centroids);
    rows_ = std::move(rows);
    refresh();
  }
  void refresh() noexcept {
    for (Index e = 0; e < outputs(); ++e) {
      const double size = normed() ? impl::length_of(centroid(e), width()) : 1;
      for (Index j = 0; j < width(); ++j) used_[e * width() + j] = static_cast<Real>(centroid(e)[j] / size);
    }
  }

  impl::Movable<Options> options_;
  Buffer<double> centroid_;  // [N, D]
  Buffer<double> rows_;      // [N] that it ever got
  Buffer<double> sum_;       // [N, D] of the step's rows
  Buffer<double> new_rows_;  // [N] of the step
  Buffer<Real> used_;        // [N, D] centroids, of length 1 for cosines
};

MOE_NAMESPACE_END
