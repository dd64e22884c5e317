// A frame with one bias for the sum of all experts, added once to every row that takes part (Nomic Embed v2
// MoE).
#pragma once

#include <cstdint>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/kernel/panel.hpp"
#include "moe/kernel/row.hpp"
#include "moe/layer/frame/active_rows.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

/// y[t] += b for active t. Parameter "output.bias" [D, 1], 0 at first. What the methods are for:
/// layer/frame/concept.hpp.
template <class RealType = float>
class OutputBias {
 public:
  static constexpr const char* kName = "output_bias";
  using Real = RealType;
  struct Tape {
    Buffer<std::int32_t> token;  // rows that take part, ascending
  };
  struct Gradients {
    Buffer<Real> bias;  // [D]
  };

  /// Throws config_error for a width below 1.
  explicit OutputBias(Index width) {
    require_range("width", width, 1, INT32_MAX);
    bias_.assign(width, Real{0});
  }
  /// Of this bias [D]. Throws config_error for an empty one.
  explicit OutputBias(Buffer<Real> bias) : bias_(std::move(bias)) {
    require_range("width", bias_.size(), 1, INT32_MAX);
  }

  Index inner_width(Index) const noexcept { return bias_.size(); }
  Index outer_width(Index) const noexcept { return bias_.size(); }

  void measure(Arena&, Index, Index) const noexcept {}
  void measure_backward(Arena&, Index, Index) const noexcept {}

  template <Executor X>
  ConstMatrixView<Real> before(const ConstMatrixView<Real>& x, Tape*, Arena&, X&) const noexcept {
    return x;
  }
  MatrixView<Real> inner_y(const MatrixView<Real>& y, Arena&) const noexcept { return y; }

  template <Executor X>
  void after(const MatrixView<Real>&, const MatrixView<Real>& y, const bool* active, Tape* tape, Arena&,
             X& executor) const {
    if (tape != nullptr) impl::list_active(active, y.rows, tape->token);
    executor.parallel_for(y.rows, [&](Index t, Index) noexcept {
      if (active[t]) add_row(bias_.data(), y.row(t), bias_.size());
    });
  }

  ConstMatrixView<Real> inner_x(const Tape&, const ConstMatrixView<Real>& x) const noexcept { return x; }

  /// gradients (unless null) += the sum of dy over active rows, ascending.
  template <Executor X>
  ConstMatrixView<Real> after_backward(const Tape& tape, const ConstMatrixView<Real>& dy,
                                       Gradients* gradients, Arena&, X& executor) const {
    if (gradients == nullptr) return dy;
    impl::check_gradients_of(*this, gradients);
    impl::require_active(kName, tape.token, dy.rows);
    constexpr Index kBlock = 8 * kPanel<Real>;  // columns of a task
    executor.parallel_for(ceil_div(bias_.size(), kBlock), [&](Index block, Index) noexcept {
      const Index column = block * kBlock;
      const Index count = bias_.size() - column < kBlock ? bias_.size() - column : kBlock;
      for (const std::int32_t t : tape.token) {
        add_row(dy.row(Index{t}) + column, gradients->bias.data() + column, count);
      }
    });
    return dy;
  }
  MatrixView<Real> inner_dx(const MatrixView<Real>& dx, Index, Arena&) const noexcept { return dx; }
  template <Executor X>
  void before_backward(const Tape&, const ConstMatrixView<Real>&, const MatrixView<Real>&,
                       const MatrixView<Real>&, Gradients*, Arena&, X&) const noexcept {}

  Gradients make_gradients() const { return {Buffer<Real>(bias_.size())}; }

  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor&& f) {
    const Index d = bias_.size();
    f(Parameter<Real>{
        "output.bias",
        {bias_.data(), d, 1},
        gradients == nullptr ? ParameterView<Real>{} : ParameterView<Real>{gradients->bias.data(), d, 1}});
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor&& f) {
    visit_buffer(f, "output.bias", bias_, gradients, &Gradients::bias);
  }

 private:
  Buffer<Real> bias_;  // [D]
};

MOE_NAMESPACE_END
