// A frame whose experts read rows times a factor (MoE++'s published code: K); router and shared experts do
// not.
#pragma once

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"

MOE_NAMESPACE_BEGIN

/// x_inner = factor x. What the methods are for: layer/frame/concept.hpp.
template <class RealType = float>
class ScaledFrame {
 public:
  static constexpr const char* kName = "scaled";
  using Real = RealType;
  struct Tape {
    Buffer<Real> x_inner;  // [T, D]
  };
  struct Gradients {};

  /// Throws config_error for a width below 1 or a factor that is not finite in Real.
  ScaledFrame(Index width, double factor) : width_(width), factor_(static_cast<Real>(factor)) {
    require_range("width", width, 1, INT32_MAX);
    if (!is_finite(factor_)) fail<config_error>("row factor: expected a finite value, got ", factor);
  }

  Index inner_width(Index) const noexcept { return width_; }
  Index outer_width(Index) const noexcept { return width_; }

  void measure(Arena& arena, Index tokens, Index) const { take(arena, tokens); }
  void measure_backward(Arena& arena, Index tokens, Index) const { take(arena, tokens); }

  template <Executor X>
  ConstMatrixView<Real> before(const ConstMatrixView<Real>& x, Tape* tape, Arena& arena, X& executor) const {
    Real* const rows = tape == nullptr ? take(arena, x.rows)
                                       : tape->x_inner.resize(checked_product("scaled rows", x.rows, width_));
    executor.parallel_for(
        x.rows, [&](Index t, Index) noexcept { scale_row(factor_, x.row(t), rows + t * width_, width_); });
    return view(rows, x.rows);
  }
  MatrixView<Real> inner_y(const MatrixView<Real>& y, Arena&) const noexcept { return y; }
  template <Executor X>
  void after(const MatrixView<Real>&, const MatrixView<Real>&, const bool*, Tape*, Arena&,
             X&) const noexcept {}

  ConstMatrixView<Real> inner_x(const Tape& tape, const ConstMatrixView<Real>& x) const {
    return view(impl::taped(kName, tape.x_inner, x.rows * width_), x.rows);
  }
  template <Executor X>
  ConstMatrixView<Real> after_backward(const Tape&, const ConstMatrixView<Real>& dy, Gradients*, Arena&,
                                       X&) const noexcept {
    return dy;
  }
  MatrixView<Real> inner_dx(const MatrixView<Real>& dx, Index tokens, Arena& arena) const {
    if (!dx) return {};
    Real* const rows = take(arena, tokens);
    return arena.measuring() ? MatrixView<Real>{} : MatrixView<Real>(rows, tokens, width_);
  }
  template <Executor X>
  void before_backward(const Tape&, const ConstMatrixView<Real>&, const MatrixView<Real>& dinner,
                       const MatrixView<Real>& dx, Gradients*, Arena&, X& executor) const {
    if (!dx) return;
    executor.parallel_for(
        dx.rows, [&](Index t, Index) noexcept { scale_row(factor_, dinner.row(t), dx.row(t), width_); });
  }

  Gradients make_gradients() const noexcept { return {}; }
  template <class Visitor>
  void visit_parameters(Gradients*, Visitor&) noexcept {}
  template <class Visitor>
  void visit_storage(Gradients*, Visitor&) noexcept {}

 private:
  Real* take(Arena& arena, Index tokens) const {
    return arena.take<Real>(checked_product("scaled rows", tokens, width_));
  }
  /// Of no rows, data may be null.
  ConstMatrixView<Real> view(const Real* rows, Index count) const {
    ConstMatrixView<Real> v;
    v.data = rows;
    v.rows = count;
    v.cols = v.stride = width_;
    return v;
  }

  Index width_;
  Real factor_;
};

MOE_NAMESPACE_END
