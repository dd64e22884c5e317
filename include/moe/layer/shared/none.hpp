// A layer without shared experts.
#pragma once

#include "moe/core/executor.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"

MOE_NAMESPACE_BEGIN

/// No shared experts.
struct NoShared {
  static constexpr const char* kName = "none";
  struct Tape {};
  struct Gradients {};

  Index width() const noexcept { return 0; }
  void measure(Arena&, Index, Index) const noexcept {}
  void measure_backward(Arena&, Index, Index) const noexcept {}
  template <class Real, Executor X>
  void forward(const ConstMatrixView<Real>&, const bool*, const MatrixView<Real>&, Tape*, Arena&,
               X&) const noexcept {}
  template <class Real, Executor X>
  void backward(const Tape&, const ConstMatrixView<Real>&, const ConstMatrixView<Real>&,
                const MatrixView<Real>&, Gradients*, Arena&, X&) const noexcept {}
  Gradients make_gradients() const noexcept { return {}; }
  template <class Visitor>
  void visit_parameters(Gradients*, Visitor&) noexcept {}
  template <class Visitor>
  void visit_storage(Gradients*, Visitor&) noexcept {}
};

MOE_NAMESPACE_END
