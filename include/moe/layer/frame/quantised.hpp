// A frame whose experts read normed rows drawn towards their codes, and whose sum is normed as well: the
// discrete path of VQMoE, Do et al. 2411.19402.
#pragma once

#include <cstdint>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/layer_norm.hpp"
#include "moe/kernel/row.hpp"
#include "moe/layer/frame/active_rows.hpp"
#include "moe/plan/route_table.hpp"
#include "moe/router/kind/codebook.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

/// x_inner = LN(xq), y = LN(y_inner), one LN for both, with scale and shift. xq = (1 - c) x + c sg(v - x), v
/// the code of x, of several levels their sum: its value is (1 - 2 c) x + c v, its gradient 1 - c to x and
/// none to v. (Not the straight-through x + sg(v - x).) The codebook lives elsewhere, and is the layer's
/// router, which has found the codes already. Parameters "norm.scale"
/// [D, 1], 1 at first, "norm.shift" [D, 1], 0 at first. What the methods are for: layer/frame/concept.hpp.
template <class RealType = float>
class QuantisedFrame {
 public:
  static constexpr const char* kName = "quantised";
  using Real = RealType;
  struct Tape {
    Buffer<Real> drawn;          // [T, D] xq
    Buffer<Real> x_inner;        // [T, D]
    Buffer<Real> y_inner;        // [T, D]
    Buffer<std::int32_t> token;  // rows that take part, ascending
  };
  struct Gradients {
    Buffer<Real> scale;  // [D]
    Buffer<Real> shift;  // [D]
  };

  /// Throws config_error for a contribution c outside [0, 1] or an eps below 0 or not finite.
  explicit QuantisedFrame(const CodebookRouter<Real>& codebook, double contribution = 0.05, double eps = 1e-5)
      : codebook_(&codebook),
        width_(codebook.width()),
        contribution_(static_cast<Real>(contribution)),
        eps_(static_cast<Real>(eps)) {
    if (!(contribution >= 0 && contribution <= 1)) {
      fail<config_error>("contribution of codes: expected a value in [0, 1], got ", contribution);
    }
    if (!(eps >= 0 && is_finite(eps))) {
      fail<config_error>("norm eps: expected a finite value >= 0, got ", eps);
    }
    scale_.assign(width_, Real{1});
    shift_.assign(width_, Real{0});
  }

  const CodebookRouter<Real>& codebook() const noexcept { return *codebook_; }
  Index inner_width(Index) const noexcept { return width_; }
  Index outer_width(Index) const noexcept { return width_; }

  void measure(Arena& arena, Index tokens, Index concurrency) const {
    take(arena, tokens);
    take(arena, tokens);
    arena.take<std::int32_t>(checked_product("codes", concurrency, codebook_->levels()));
    take(arena, concurrency);
    take(arena, tokens);
  }
  void measure_backward(Arena& arena, Index tokens, Index) const {
    take(arena, tokens);
    arena.take<Real>(2 * width_);
    arena.take<Real>(width_);
    take(arena, tokens);
    arena.take<Real>(2 * width_);
  }

  /// Rows without a code take no part; what becomes of them nobody reads. Codes are looked up unless `table`
  /// has them of this codebook.
  template <Executor X>
  ConstMatrixView<Real> before(const ConstMatrixView<Real>& x, const RouteTable<Real>& table, Tape* tape,
                               Arena& arena, X& executor) const {
    if (table.coded_by != codebook_) return before(x, tape, arena, executor);
    return draw(x, table.code, tape, arena, executor);
  }
  template <Executor X>
  ConstMatrixView<Real> before(const ConstMatrixView<Real>& x, Tape* tape, Arena& arena, X& executor) const {
    return draw(x, nullptr, tape, arena, executor);
  }
  MatrixView<Real> inner_y(const MatrixView<Real>& y, Arena& arena) const {
    Real* const rows = take(arena, y.rows);
    return arena.measuring() ? MatrixView<Real>{} : MatrixView<Real>(rows, y.rows, width_);
  }
  template <Executor X>
  void after(const MatrixView<Real>& inner, const MatrixView<Real>& y, const bool* active, Tape* tape, Arena&,
             X& executor) const {
    if (tape != nullptr) {
      tape->y_inner.copy_from(inner.data, inner.rows * inner.cols);  // contiguous, from inner_y
      impl::list_active(active, y.rows, tape->token);
    }
    executor.parallel_for(y.rows, [&](Index t, Index) noexcept {
      if (active[t]) {
        layer_norm_row(inner.row(t), scale_.data(), shift_.data(), eps_, y.row(t), width_);
      } else {
        fill_row(Real{0}, y.row(t), width_);
      }
    });
  }

  ConstMatrixView<Real> inner_x(const Tape& tape, const ConstMatrixView<Real>& x) const {
    return view(impl::taped(kName, tape.x_inner, x.rows * width_), x.rows);
  }
  template <Executor X>
  ConstMatrixView<Real> after_backward(const Tape& tape, const ConstMatrixView<Real>& dy,
                                       Gradients* gradients, Arena& arena, X&) const {
    impl::check_gradients_of(*this, gradients);
    impl::require_active(kName, tape.token, dy.rows);
    const Real* const inner = impl::taped(kName, tape.y_inner, dy.rows * width_);
    Real* const dinner = take(arena, dy.rows);
    Real* const scratch = arena.take<Real>(2 * width_);
    Real* const row = arena.take<Real>(width_);
    fill_row(Real{0}, dinner, dy.rows * width_);
    for (const std::int32_t t : tape.token) {  // ascending: sums over rows have one order
      copy_row(dy.row(Index{t}), row, width_);
      norm_backward(inner + t * width_, row, gradients, dinner + t * width_, scratch);
    }
    return view(dinner, dy.rows);
  }
  /// Even without dx: gradients of the norm come from it.
  MatrixView<Real> inner_dx(const MatrixView<Real>&, Index tokens, Arena& arena) const {
    Real* const rows = take(arena, tokens);
    return arena.measuring() ? MatrixView<Real>{} : MatrixView<Real>(rows, tokens, width_);
  }
  template <Executor X>
  void before_backward(const Tape& tape, const ConstMatrixView<Real>& x, const MatrixView<Real>& dinner,
                       const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X&) const {
    const Real* const drawn = impl::taped(kName, tape.drawn, x.rows * width_);
    Real* const scratch = arena.take<Real>(2 * width_);
    for (Index t = 0; t < dx.rows; ++t) fill_row(Real{0}, dx.row(t), width_);
    for (const std::int32_t t : tape.token) {
      Real* const to = dx ? dx.row(Index{t}) : nullptr;
      norm_backward(drawn + t * width_, dinner.row(Index{t}), gradients, to, scratch);
      if (dx) scale_row(Real(1 - contribution_), to, to, width_);
    }
  }

  Gradients make_gradients() const { return {Buffer<Real>(width_), Buffer<Real>(width_)}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor&& f) {
    const auto show = [&](const char* name, Buffer<Real>& values, Buffer<Real> Gradients::*member) {
      const auto of = [](Buffer<Real>& all) { return ParameterView<Real>{all.data(), all.size(), 1}; };
      f(Parameter<Real>{name, of(values),
                        gradients == nullptr ? ParameterView<Real>{} : of(gradients->*member)});
    };
    show("norm.scale", scale_, &Gradients::scale);
    show("norm.shift", shift_, &Gradients::shift);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor&& f) {
    visit_buffer(f, "norm.scale", scale_, gradients, &Gradients::scale);
    visit_buffer(f, "norm.shift", shift_, gradients, &Gradients::shift);
  }

 private:
  /// `code` [T, K], or null: they are looked up.
  template <Executor X>
  ConstMatrixView<Real> draw(const ConstMatrixView<Real>& x, const std::int32_t* code, Tape* tape,
                             Arena& arena, X& executor) const {
    const Index size = checked_product("quantised rows", x.rows, width_), levels = codebook_->levels();
    Real* const drawn = tape == nullptr ? take(arena, x.rows) : tape->drawn.resize(size);
    Real* const normed = tape == nullptr ? take(arena, x.rows) : tape->x_inner.resize(size);
    std::int32_t* const looked_up = arena.take<std::int32_t>(executor.concurrency() * levels);
    Real* const residual = take(arena, executor.concurrency());
    executor.parallel_for(x.rows, [&](Index t, Index worker) noexcept {
      Real* const row = drawn + t * width_;
      const std::int32_t* const found = code == nullptr ? looked_up + worker * levels : code + t * levels;
      if (code == nullptr) {
        codebook_->find(x.row(t), looked_up + worker * levels, residual + worker * width_);
      }
      scale_row(Real(1 - 2 * contribution_), x.row(t), row, width_);
      for (Index l = 0; found[0] >= 0 && l < levels; ++l) {
        axpy_row(contribution_, codebook_->code(found[l], l), row, width_);
      }
      layer_norm_row(row, scale_.data(), shift_.data(), eps_, normed + t * width_, width_);
    });
    return view(normed, x.rows);
  }
  /// dy is overwritten; dx (unless null) added to.
  void norm_backward(const Real* x, Real* dy, Gradients* gradients, Real* dx, Real* scratch) const noexcept {
    layer_norm_backward_row(x, scale_.data(), eps_, dy,
                            gradients == nullptr ? nullptr : gradients->scale.data(),
                            gradients == nullptr ? nullptr : gradients->shift.data(), dx, scratch, width_);
  }
  Real* take(Arena& arena, Index tokens) const {
    return arena.take<Real>(checked_product("quantised rows", tokens, width_));
  }
  /// Of no rows, data may be null.
  ConstMatrixView<Real> view(const Real* rows, Index count) const {
    ConstMatrixView<Real> v;
    v.data = rows;
    v.rows = count;
    v.cols = v.stride = width_;
    return v;
  }

  const CodebookRouter<Real>* codebook_;
  Index width_;
  Real contribution_;
  Real eps_;
  Buffer<Real> scale_;  // [D]
  Buffer<Real> shift_;  // [D]
};

MOE_NAMESPACE_END
