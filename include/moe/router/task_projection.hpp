// A linear map of a row for each task: what the gates of multi-task routers have in common.
#pragma once

#include <cmath>
#include <cstdint>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/random.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/kernel/row.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

/// out = W_i x + b_i for a row of task i. Only its own task's map is computed, an output being one dot
/// product; gradients of a task are added up row by row, ascending. Parameters prefix + ".weight" [tasks * n,
/// D], task by task, and prefix + ".bias" [tasks * n, 1], zero until initialise().
template <class RealType>
class TaskProjection {
 public:
  using Real = RealType;
  struct Gradients {
    Buffer<Real> weight;  // [tasks * n, D]
    Buffer<Real> bias;    // [tasks * n]
  };

  /// Throws config_error for sizes below 1.
  TaskProjection(Index width, Index outputs, Index tasks)
      : sizes_(
            Sizes{checked("width", width), checked("outputs of a task", outputs), checked("tasks", tasks)}) {
    const Index rows = checked_product("outputs of all tasks", tasks, outputs);
    weight_.assign(checked_product("gates of all tasks", rows, width), Real{0});
    bias_.assign(rows, Real{0});
  }

  Index width() const noexcept { return sizes_->width; }
  /// n, of each task.
  Index outputs() const noexcept { return sizes_->outputs; }
  Index tasks() const noexcept { return sizes_->tasks; }

  /// Weights uniform in +-scale / sqrt(D), no bias. `stream`: draws apart from those of another map.
  void initialise(std::uint64_t seed, std::uint64_t stream, double scale = 1) {
    const KeyedRandom draw(seed, stream, DrawStream::initialise);
    const double bound = scale / std::sqrt(static_cast<double>(width()));
    for (Index i = 0; i < weight_.size(); ++i) {
      weight_[i] = static_cast<Real>((2 * draw.uniform(static_cast<std::uint64_t>(i), 0) - 1) * bound);
    }
    bias_.fill(0);
  }

  /// Output k of task i.
  Real output(Index i, Index k, const Real* x) const noexcept {
    const Index at = i * outputs() + k;
    return dot(weight_.data() + at * width(), x, width()) + bias_[at];
  }

  /// rows(f) calls f(t, i, d) for the rows that count, ascending: row t of `x`, its task and the gradient of
  /// its outputs [n]. Adds to dx [T, D], which may be absent, and to the gradients (null: frozen).
  template <class Rows>
  void backward(const ConstMatrixView<Real>& x, const Rows& rows, const MatrixView<Real>& dx,
                Gradients* gradients) const {
    rows([&](Index t, Index i, const Real* d) noexcept {
      for (Index k = 0; k < outputs(); ++k) {
        const Index at = i * outputs() + k;
        if (dx) axpy_row(d[k], weight_.data() + at * width(), dx.row(t), width());
        if (gradients == nullptr) continue;
        axpy_row(d[k], x.row(t), gradients->weight.data() + at * width(), width());
        gradients->bias[at] += d[k];
      }
    });
  }

  Gradients make_gradients() const { return {Buffer<Real>(weight_.size()), Buffer<Real>(bias_.size())}; }
  template <class Visitor>
  void visit_parameters(const char* prefix, Gradients* gradients, Visitor&& f) {
    const auto show = [&](const char* kind, Buffer<Real>& values, Buffer<Real> Gradients::*own,
                          Index columns) {
      const auto view = [&](Buffer<Real>& of) {
        return ParameterView<Real>{of.data(), bias_.size(), columns, 1, columns, 1};
      };
      f(Parameter<Real>{ParameterName(prefix, kind).c_str(), view(values),
                        gradients == nullptr ? ParameterView<Real>{} : view(gradients->*own)});
    };
    show(".weight", weight_, &Gradients::weight, width());
    show(".bias", bias_, &Gradients::bias, 1);
  }
  template <class Visitor>
  void visit_storage(const char* prefix, Gradients* gradients, Visitor&& f) {
    visit_buffer(f, ParameterName(prefix, ".weight").c_str(), weight_, gradients, &Gradients::weight);
    visit_buffer(f, ParameterName(prefix, ".bias").c_str(), bias_, gradients, &Gradients::bias);
  }

 private:
  struct Sizes {
    Index width = 0, outputs = 0, tasks = 0;
  };
  static Index checked(const char* what, Index value) {
    require_range(what, value, 1, INT32_MAX);
    return value;
  }

  impl::Movable<Sizes> sizes_;
  Buffer<Real> weight_;  // [tasks * n, D]
  Buffer<Real> bias_;    // [tasks * n]
};

MOE_NAMESPACE_END
