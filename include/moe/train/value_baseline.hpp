// What a row is expected to cost: a linear value head, whose value is the baseline of REINFORCE. RL-R of
// Clark et al. 2202.01169.
#pragma once

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/column.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

struct ValueBaselineOptions {
  Index width = 0;         // D of the rows it reads: the router's
  double coefficient = 1;  // c of its loss
};

/// V(x) = <v, x> + b, both 0 at first; parameters "value.weight" [1, D] and "value.bias" [1, 1]. Its loss is
/// c / 2 * mean over rows of (V(x) - cost)^2, and its own: neither policy nor rows get a gradient of it. A
/// TrainedLayer of a head and its gradients is what optimisers work on.
///
///   const double loss = head.advantages(x, cost, valid, advantage);  // behind the forward
///   layer.backward(tape, {.. advantage ..}, workspace);
///   head.backward(x, advantage, valid, 1, gradients);
template <class RealType>
class ValueBaseline {
 public:
  using Real = RealType;
  using Options = ValueBaselineOptions;
  struct Gradients {
    Buffer<Real> weight;  // [D]
    Buffer<Real> bias;    // [1]
  };

  /// Throws config_error for a width below 1 or a coefficient that is not finite.
  explicit ValueBaseline(Options options) : coefficient_(options.coefficient) {
    require_range("width", options.width, 1, INT32_MAX);
    if (!is_finite(options.coefficient)) {
      fail<config_error>("value baseline: expected a finite coefficient, got ", options.coefficient);
    }
    weight_.assign(options.width, Real{0});
    bias_.assign(1, Real{0});
  }

  Index width() const noexcept { return weight_.size(); }
  double value(const Real* row) const noexcept {
    return static_cast<double>(dot(row, weight_.data(), width()) + bias_[0]);
  }

  /// advantage[t] = cost[t] - V(x[t]) [T], 0 for rows with valid[t] false (all take part if `valid` is
  /// empty). Returns the loss. Throws shape_error, numeric_error for a cost that is not finite.
  double advantages(const ConstMatrixView<Real>& x, const Column<double>& cost, const Column<bool>& valid,
                    double* advantage) const {
    check(x, cost, "cost", valid);
    double sum = 0;
    for (Index t = 0; t < x.rows; ++t) {
      advantage[t] = takes_part(valid, t) ? cost[t] - value(x.row(t)) : 0.0;
      sum += advantage[t] * advantage[t];
    }
    return factor(x, valid) / 2 * sum;
  }

  /// Adds scale * the loss's gradient, from what advantages() gave; rows ascend. Throws shape_error,
  /// numeric_error for an advantage that is not finite, config_error for such a scale.
  void backward(const ConstMatrixView<Real>& x, const Column<double>& advantage, const Column<bool>& valid,
                double scale, Gradients& gradients) const {
    check(x, advantage, "advantage", valid);
    if (!is_finite(scale)) fail<config_error>("scale: expected a finite factor of the loss, got ", scale);
    impl::check_gradients_of(*this, &gradients);
    for (Index t = 0; t < x.rows; ++t) {
      if (!takes_part(valid, t)) continue;
      const auto dvalue = static_cast<Real>(-scale * factor(x, valid) * advantage[t]);
      axpy_row(dvalue, x.row(t), gradients.weight.data(), width());
      gradients.bias[0] += dvalue;
    }
  }

  Gradients make_gradients() const { return {Buffer<Real>(width()), Buffer<Real>(bias_.size())}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor&& f) {
    const auto view = [](Real* data, Index n) noexcept {
      return data == nullptr ? ParameterView<Real>{} : ParameterView<Real>{data, 1, n, 1, n, 1};
    };
    f(Parameter<Real>{"value.weight", view(weight_.data(), width()),
                      view(gradients == nullptr ? nullptr : gradients->weight.data(), width())});
    f(Parameter<Real>{"value.bias", view(bias_.data(), 1),
                      view(gradients == nullptr ? nullptr : gradients->bias.data(), 1)});
  }
  template <class Visitor>
  void visit_parameters(Visitor&& f) {
    visit_parameters(static_cast<Gradients*>(nullptr), f);
  }
  /// Throws shape_error for gradients of another width.
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor&& f) {
    visit_buffer(f, "value.weight", weight_, gradients, &Gradients::weight);
    visit_buffer(f, "value.bias", bias_, gradients, &Gradients::bias);
  }
  template <class Visitor>
  void visit_storage(Gradients& gradients, Visitor&& f) {
    visit_storage(&gradients, f);
  }

 private:
  void check(const ConstMatrixView<Real>& x, const Column<double>& numbers, const char* name,
             const Column<bool>& valid) const {
    impl::require_there("value baseline", !weight_.empty());
    require_shape("x", x, x.rows, width());
    require_extent(name, "entries", x.rows, static_cast<Index>(numbers.size()));
    if (!valid.empty()) require_extent("valid", "entries", x.rows, static_cast<Index>(valid.size()));
    for (Index t = 0; t < x.rows; ++t) {
      if (takes_part(valid, t) && !is_finite(numbers[t])) {
        fail<numeric_error>(name, ": expected finite values, got ", numbers[t], " for row ", t);
      }
    }
  }
  static bool takes_part(const Column<bool>& valid, Index t) noexcept { return valid.empty() || valid[t]; }
  /// c over the number of rows.
  double factor(const ConstMatrixView<Real>& x, const Column<bool>& valid) const noexcept {
    Index count = 0;
    for (Index t = 0; t < x.rows; ++t) count += takes_part(valid, t) ? 1 : 0;
    return count == 0 ? 0.0 : coefficient_ / static_cast<double>(count);
  }

  double coefficient_;
  Buffer<Real> weight_;  // [D]
  Buffer<Real> bias_;    // [1]
};

MOE_NAMESPACE_END
