// A frame chosen at run time.
#pragma once

#include "moe/core/executor.hpp"
#include "moe/core/one_of.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/layer/frame/list.hpp"

MOE_NAMESPACE_BEGIN

/// One frame of the list.
template <class RealType = float>
class AnyFrame : public FromList<OneOf, Frames<RealType>> {
  using Base = FromList<OneOf, Frames<RealType>>;

 public:
  using Base::Base;
  using Real = RealType;
  using typename Base::Gradients;
  using typename Base::Tape;

  // Not inlined: g++ 12 otherwise warns of the alternatives that the variant does not hold.
  MOE_NOINLINE Index inner_width(Index width) const {
    return this->visit([&](const auto& frame) { return frame.inner_width(width); });
  }
  MOE_NOINLINE Index outer_width(Index width) const {
    return this->visit([&](const auto& frame) { return frame.outer_width(width); });
  }
  void measure(Arena& arena, Index tokens, Index concurrency) const {
    this->visit([&](const auto& frame) { frame.measure(arena, tokens, concurrency); });
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    this->visit([&](const auto& frame) { frame.measure_backward(arena, tokens, concurrency); });
  }
  template <Executor X>
  ConstMatrixView<Real> before(const ConstMatrixView<Real>& x, Tape* tape, Arena& arena, X& executor) const {
    return this->visit(
        [&](const auto& frame) { return frame.before(x, this->tape_of(frame, tape), arena, executor); });
  }
  MatrixView<Real> inner_y(const MatrixView<Real>& y, Arena& arena) const {
    return this->visit([&](const auto& frame) { return frame.inner_y(y, arena); });
  }
  template <Executor X>
  void after(const MatrixView<Real>& inner, const MatrixView<Real>& y, const bool* active, Tape* tape,
             Arena& arena, X& executor) const {
    this->visit([&](const auto& frame) {
      frame.after(inner, y, active, this->tape_of(frame, tape), arena, executor);
    });
  }
  ConstMatrixView<Real> inner_x(const Tape& tape, const ConstMatrixView<Real>& x) const {
    return this->visit([&](const auto& frame) { return frame.inner_x(this->tape_of(frame, tape), x); });
  }
  template <Executor X>
  ConstMatrixView<Real> after_backward(const Tape& tape, const ConstMatrixView<Real>& dy,
                                       Gradients* gradients, Arena& arena, X& executor) const {
    return this->visit([&](const auto& frame) {
      return frame.after_backward(this->tape_of(frame, tape), dy, this->own(frame, gradients), arena,
                                  executor);
    });
  }
  MatrixView<Real> inner_dx(const MatrixView<Real>& dx, Index tokens, Arena& arena) const {
    return this->visit([&](const auto& frame) { return frame.inner_dx(dx, tokens, arena); });
  }
  template <Executor X>
  void before_backward(const Tape& tape, const ConstMatrixView<Real>& x, const MatrixView<Real>& inner,
                       const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    this->visit([&](const auto& frame) {
      frame.before_backward(this->tape_of(frame, tape), x, inner, dx, this->own(frame, gradients), arena,
                            executor);
    });
  }
};

MOE_NAMESPACE_END
