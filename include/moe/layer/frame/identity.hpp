// What happens to rows before the experts and to their sum after them. Identity here; a bias of the sum
// (layer/frame/output_bias.hpp) and latent projections (layer/frame/latent.hpp) have the same shape.
#pragma once

#include "moe/core/executor.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"

MOE_NAMESPACE_BEGIN

/// The experts read X and their sum is Y.
struct IdentityFrame {
  static constexpr const char* kName = "identity";
  struct Tape {};
  struct Gradients {};

  Index inner_width(Index expert_width) const noexcept { return expert_width; }
  Index outer_width(Index expert_width) const noexcept { return expert_width; }

  void measure(Arena&, Index, Index) const noexcept {}
  void measure_backward(Arena&, Index, Index) const noexcept {}

  template <class Real, Executor X>
  ConstMatrixView<Real> before(const ConstMatrixView<Real>& x, Tape*, Arena&, X&) const noexcept {
    return x;
  }
  template <class Real>
  MatrixView<Real> inner_y(const MatrixView<Real>& y, Arena&) const noexcept {
    return y;
  }
  /// `active` [T]: rows that take part; the rest of y stays 0.
  template <class Real, Executor X>
  void after(const MatrixView<Real>&, const MatrixView<Real>&, const bool*, Tape*, Arena&,
             X&) const noexcept {}

  /// The rows `before` returned, for the backward.
  template <class Real>
  ConstMatrixView<Real> inner_x(const Tape&, const ConstMatrixView<Real>& x) const noexcept {
    return x;
  }

  template <class Real, Executor X>
  ConstMatrixView<Real> after_backward(const Tape&, const ConstMatrixView<Real>& dy, Gradients*, Arena&,
                                       X&) const noexcept {
    return dy;
  }
  template <class Real>
  MatrixView<Real> inner_dx(const MatrixView<Real>& dx, Index, Arena&) const noexcept {
    return dx;
  }
  template <class Real, Executor X>
  void before_backward(const Tape&, const ConstMatrixView<Real>&, const MatrixView<Real>&,
                       const MatrixView<Real>&, Gradients*, Arena&, X&) const noexcept {}

  Gradients make_gradients() const noexcept { return {}; }
  template <class Visitor>
  void visit_parameters(Gradients*, Visitor&) noexcept {}
  template <class Visitor>
  void visit_storage(Gradients*, Visitor&) noexcept {}
};

MOE_NAMESPACE_END
