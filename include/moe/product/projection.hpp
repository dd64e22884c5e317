// A dense map of rows, y = x W^T (+ b), on the kernels of the experts: routers and latent frames are made of
// it.
#pragma once

#include <cmath>
#include <cstdint>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/random.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/kernel/row.hpp"
#include "moe/product/grouped.hpp"
#include "moe/product/grouped_outer.hpp"
#include "moe/product/grouped_transposed.hpp"
#include "moe/storage/packed_matrix.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

/// W [out, in], packed; bias [out] optional. Each output element is one chain over `in`, then the bias: its
/// bits depend on its row alone.
template <class RealType>
class Projection {
 public:
  using Real = RealType;
  struct Gradients {
    Buffer<Real> weight;       // packed as the weights
    Buffer<Real> bias;         // [out] or empty
    impl::Movable<Index> out;  // which packing leaves open
  };

  /// Zero weights. Throws config_error for sizes below 1.
  Projection(Index in, Index out, bool bias) : in_(in), out_(out) {
    require_range("input width", in, 1, INT32_MAX);
    require_range("output width", out, 1, INT32_MAX);
    checked_product("projection", in, round_up(out, kPanel<Real>), Index{sizeof(Real)});
    weight_.assign(packed_size<Real>(in, panels()), 0);
    bias_.assign(bias ? out : 0, 0);
  }

  Index in() const noexcept { return in_; }
  Index out() const noexcept { return out_; }
  bool has_bias() const noexcept { return !bias_.empty(); }
  /// W [out, in], and its gradient, for who reads the map: losses over a router's weights.
  ParameterView<const Real> weight() const noexcept {
    return {weight_.data(), out_, in_, kPanel<Real>, in_ * kPanel<Real>, kPanel<Real>};
  }
  ParameterView<Real> weight_of(Gradients& gradients) const noexcept {
    return weight_view(gradients.weight.data());
  }

  /// W and its gradient as the grouped products read them, for who has rows by pointers.
  PackedView<const Real> packed() const noexcept { return {weight_.data(), in_, panels()}; }
  PackedMatrices<Real> packed_of(Gradients& gradients) const noexcept {
    return {gradients.weight.data(), 0, in_, panels()};
  }

  /// U(-1/sqrt(in), 1/sqrt(in)), zero bias. `stream` tells apart projections that share a seed.
  void initialise(std::uint64_t seed, std::uint64_t stream = 0, double scale = 1) {
    const KeyedRandom draw(seed, stream, DrawStream::initialise);
    const double bound = scale / std::sqrt(static_cast<double>(in_));
    const ParameterView<Real> weight = weight_view(weight_.data());
    for (Index o = 0; o < out_; ++o) {
      for (Index i = 0; i < in_; ++i) {
        const double u = draw.uniform(static_cast<std::uint64_t>(o), static_cast<std::uint32_t>(i));
        weight(o, i) = static_cast<Real>(bound * (2 * u - 1));
      }
    }
    bias_.fill(0);
  }

  void measure(Arena& arena, Index rows) const { ForwardScratch{arena, rows}; }
  void measure_backward(Arena& arena, Index rows, Index concurrency) const {
    BackwardScratch{arena, rows, concurrency};
  }

  /// y [T, out] = x [T, in] W^T + b.
  template <Executor X>
  void forward(const ConstMatrixView<Real>& x, const MatrixView<Real>& y, Arena& arena, X& executor) const {
    const ForwardScratch scratch(arena, x.rows);
    scratch.point_at(x, nullptr, x.rows);
    grouped_gemm<native_arch>(
        scratch.row, scratch.offsets, Index{1}, [this](Index) noexcept { return packed(); },
        [&](Index, Index first, Index m, Index panel, const Real* tile) noexcept {
          const Index column = panel * kPanel<Real>;
          const Index count = out_ - column < kPanel<Real> ? out_ - column : kPanel<Real>;
          for (Index i = 0; i < m; ++i) {
            Real* const to = y.row(first + i) + column;
            copy_row(tile + i * kPanel<Real>, to, count);
            if (has_bias()) add_row(bias_.data() + column, to, count);
          }
        },
        scratch.tasks, executor);
  }

  /// From dy [T, out]: dx [T, in] += dy W (if there), gradients += (if not null). Sums over rows ascend.
  template <Executor X>
  void backward(const ConstMatrixView<Real>& x, const ConstMatrixView<Real>& dy, const MatrixView<Real>& dx,
                Gradients* gradients, Arena& arena, X& executor) const {
    backward_rows(nullptr, x.rows, x, dy, dx, gradients, arena, executor);
  }

  /// The same of the rows listed in `rows` [count], ascending; null: the first `count`. What the other rows
  /// hold, NaN included, does not matter.
  template <Executor X>
  void backward_rows(const std::int32_t* rows, Index count, const ConstMatrixView<Real>& x,
                     const ConstMatrixView<Real>& dy, const MatrixView<Real>& dx, Gradients* gradients,
                     Arena& arena, X& executor) const {
    const auto row_of = [rows](Index a) noexcept { return rows == nullptr ? a : Index{rows[a]}; };
    const BackwardScratch scratch(arena, x.rows, executor.concurrency());
    if (dx) {
      scratch.forward.point_at(dy, rows, count);
      grouped_gemm_transposed<native_arch>(
          scratch.forward.row, out_, scratch.forward.offsets, Index{1},
          [this](Index) noexcept { return packed(); },
          [&](Index, Index first, Index m, Index block, const Real* tile) noexcept {
            const Index column = block * kPanel<Real>;
            const Index n = in_ - column < kPanel<Real> ? in_ - column : kPanel<Real>;
            for (Index i = 0; i < m; ++i) {
              add_row(tile + i * kPanel<Real>, dx.row(row_of(first + i)) + column, n);
            }
          },
          scratch.forward.tasks, scratch.panels, executor);
    }
    if (gradients == nullptr) return;
    scratch.forward.point_at(x, rows, count);
    for (Index a = 0; a < count; ++a) scratch.dy_row[a] = dy.row(row_of(a));
    grouped_outer<native_arch>(scratch.forward.row, in_, scratch.dy_row, out_, scratch.forward.offsets,
                               Index{1}, packed_of(*gradients), scratch.forward.tasks, scratch.panels,
                               executor);
    for (Index a = 0; has_bias() && a < count; ++a) {
      add_row(scratch.dy_row[a], gradients->bias.data(), out_);
    }
  }

  Gradients make_gradients() const {
    return {Buffer<Real>(weight_.size()), Buffer<Real>(bias_.size()), out()};
  }

  template <class Visitor>
  void visit_parameters(const char* name, Gradients* gradients, Visitor& f) {
    f(Parameter<Real>{ParameterName(name, ".weight").c_str(), weight_view(weight_.data()),
                      weight_view(gradients == nullptr ? nullptr : gradients->weight.data())});
    if (has_bias()) {
      f(Parameter<Real>{ParameterName(name, ".bias").c_str(), bias_view(bias_.data()),
                        bias_view(gradients == nullptr ? nullptr : gradients->bias.data())});
    }
  }
  /// Throws shape_error for gradients of another map.
  template <class Visitor>
  void visit_storage(const char* name, Gradients* gradients, Visitor& f) {
    if (gradients != nullptr && gradients->out != out()) {
      fail<shape_error>("gradients of ", name, ": expected ", out(), " outputs (ask make_gradients()), got ",
                        gradients->out.get());
    }
    visit_buffer(f, ParameterName(name, ".weight").c_str(), weight_, gradients, &Gradients::weight);
    visit_buffer(f, ParameterName(name, ".bias").c_str(), bias_, gradients, &Gradients::bias);
  }

 private:
  struct ForwardScratch {
    const Real** row;  // [T]
    Index* offsets;    // [2]
    Index* tasks;
    ForwardScratch(Arena& arena, Index rows)
        : row(arena.take<const Real*>(rows)),
          offsets(arena.take<Index>(2)),
          tasks(arena.take<Index>(task_list_size(1))) {}
    void point_at(const ConstMatrixView<Real>& x, const std::int32_t* rows, Index count) const noexcept {
      offsets[0] = 0;
      offsets[1] = count;
      for (Index a = 0; a < count; ++a) row[a] = x.row(rows == nullptr ? a : Index{rows[a]});
    }
  };
  struct BackwardScratch {
    ForwardScratch forward;
    const Real** dy_row;  // [T]
    Real* panels;         // per worker
    BackwardScratch(Arena& arena, Index rows, Index concurrency)
        : forward(arena, rows),
          dy_row(arena.take<const Real*>(rows)),
          panels(arena.take<Real>(concurrency * grouped_scratch<Real>())) {}
  };

  Index panels() const noexcept { return plain_panels<Real>(out_); }
  ParameterView<Real> weight_view(Real* data) const noexcept {
    return {data, out_, in_, kPanel<Real>, in_ * kPanel<Real>, kPanel<Real>};
  }
  ParameterView<Real> bias_view(Real* data) const noexcept { return {data, out_, 1, out_, out_, 1}; }

  impl::Movable<Index> in_;
  impl::Movable<Index> out_;
  Buffer<Real> weight_;
  Buffer<Real> bias_;
};

MOE_NAMESPACE_END
