// A frame, a shared part and a layer that have what their concepts ask for and nothing else.
#pragma once

#include "moe/core/buffer.hpp"
#include "moe/layer/concept.hpp"
#include "moe/layer/frame/concept.hpp"
#include "moe/layer/shared/concept.hpp"

namespace test {

using moe::Arena;
using moe::Index;

/// Frame: the experts read 2 x, and y = 3 * their sum.
class FrameArchetype {
 public:
  using View = moe::MatrixView<double>;
  using ConstView = moe::ConstMatrixView<double>;
  struct Tape {
    moe::Buffer<double> x;
  };
  struct Gradients {};
  struct Width {
    Index width;
    operator Index() const { return width; }  // NOLINT(google-explicit-constructor)
  };

  FrameArchetype() = default;
  FrameArchetype(FrameArchetype&&) = default;
  FrameArchetype& operator=(FrameArchetype&&) = delete;

  Width inner_width(Index width) const { return {width}; }
  Width outer_width(Index width) const { return {width}; }
  void measure(Arena& arena, Index tokens, Index) const {
    arena.take<double>(kMost * tokens);
    arena.take<double>(kMost * tokens);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    measure(arena, tokens, concurrency);
  }
  template <moe::Executor X>
  ConstView before(const ConstView& x, Tape* tape, Arena& arena, X&) const {
    double* const rows =
        tape == nullptr ? arena.take<double>(x.rows * x.cols) : tape->x.resize(x.rows * x.cols);
    return scaled(2, x, View(rows, x.rows, x.cols));
  }
  View inner_y(const View& y, Arena& arena) const {
    double* const rows = arena.take<double>(y.rows * y.cols);
    return arena.measuring() ? View{} : View(rows, y.rows, y.cols);
  }
  template <moe::Executor X>
  void after(const View& inner, const View& y, const bool*, Tape*, Arena&, X&) const {
    scaled(3, inner, y);
  }
  ConstView inner_x(const Tape& tape, const ConstView& x) const { return {tape.x.data(), x.rows, x.cols}; }
  template <moe::Executor X>
  ConstView after_backward(const Tape&, const ConstView& dy, Gradients*, Arena& arena, X&) const {
    return scaled(3, dy, View(arena.take<double>(dy.rows * dy.cols), dy.rows, dy.cols));
  }
  View inner_dx(const View& dx, Index, Arena&) const { return dx; }
  template <moe::Executor X>
  void before_backward(const Tape&, const ConstView&, const View& dinner, const View& dx, Gradients*, Arena&,
                       X&) const {
    scaled(2, dinner, dx);
  }
  Gradients make_gradients() const { return {}; }

 private:
  static constexpr Index kMost = 8;  // columns
  static ConstView scaled(double factor, const ConstView& from, const View& to) {
    for (Index t = 0; t < from.rows; ++t) {
      for (Index j = 0; j < from.cols; ++j) to(t, j) = factor * from(t, j);
    }
    return to;
  }
};
static_assert(moe::Frame<FrameArchetype, double>);

/// Shared: y[t] += x[t] * factor, the factor learned.
class SharedArchetype {
 public:
  using View = moe::MatrixView<double>;
  using ConstView = moe::ConstMatrixView<double>;
  struct Tape {
    moe::Buffer<bool> active;
  };
  struct Gradients {
    double factor = 0;
  };

  SharedArchetype(Index width, double factor) : width_(width), factor_(factor) {}
  SharedArchetype(SharedArchetype&&) = default;
  SharedArchetype& operator=(SharedArchetype&&) = delete;

  Index width() const { return width_; }
  void measure(Arena& arena, Index tokens, Index) const { arena.take<double>(tokens); }
  void measure_backward(Arena& arena, Index tokens, Index) const { arena.take<double>(tokens); }
  template <moe::Executor X>
  void forward(const ConstView& x, const bool* active, const View& y, Tape* tape, Arena& arena, X&) const {
    double* const own = arena.take<double>(x.rows);
    for (Index t = 0; t < x.rows; ++t) own[t] = active[t] ? factor_ : 0;
    if (tape != nullptr) tape->active.copy_from(active, x.rows);
    for (Index t = 0; t < x.rows; ++t) {
      for (Index j = 0; j < x.cols; ++j) y(t, j) += own[t] * x(t, j);
    }
  }
  template <moe::Executor X>
  void backward(const Tape& tape, const ConstView& x, const ConstView& dy, const View& dx,
                Gradients* gradients, Arena& arena, X&) const {
    double* const along = arena.take<double>(x.rows);
    for (Index t = 0; t < x.rows; ++t) {
      along[t] = 0;
      for (Index j = 0; tape.active[t] && j < x.cols; ++j) {
        along[t] += dy(t, j) * x(t, j);
        if (dx) dx(t, j) += factor_ * dy(t, j);
      }
      if (gradients != nullptr) gradients->factor += along[t];
    }
  }
  Gradients make_gradients() const { return {}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    using Number = moe::ParameterView<double>;
    f(moe::Parameter<double>{"factor", Number{&factor_, 1, 1},
                             gradients == nullptr ? Number{} : Number{&gradients->factor, 1, 1}});
  }

 private:
  Index width_;
  double factor_;
};
static_assert(moe::Shared<SharedArchetype, double>);

/// TokenLayer: y = 2 x.
class LayerArchetype {
 public:
  using Real = double;
  class Tape {
    friend class LayerArchetype;
    explicit Tape(Index tokens) : tokens_(tokens) {}
    Index tokens_;
  };
  struct LayerGradients {
    moe::ConstMatrixView<double> dy{};
    moe::MatrixView<double> dx{}, router_dx{};
    double auxiliary_scale = 1;
  };

  explicit LayerArchetype(Index width) : width_(width) {}
  LayerArchetype(LayerArchetype&&) = default;
  LayerArchetype& operator=(LayerArchetype&&) = delete;

  moe::Coupling coupling(bool) const { return moe::Coupling::row_independent; }
  Index width() const { return width_; }
  Index workspace_bytes(const moe::CallShape&, moe::Mode, Index) const { return 0; }
  Tape make_tape() const { return Tape(0); }
  template <moe::Executor X>
  void forward(const moe::LayerInput<double>& in, moe::LayerOutput<double>& out, moe::Workspace&, X&) const {
    twice(in.x, out.y);
  }
  template <moe::Executor X>
  void forward_train(const moe::LayerInput<double>& in, moe::LayerOutput<double>& out, Tape& tape,
                     moe::Workspace&, X&) const {
    tape.tokens_ = in.x.rows;
    twice(in.x, out.y);
  }
  template <moe::Executor X>
  void backward(const Tape&, LayerGradients& gradients, moe::Workspace&, X&) const {
    if (gradients.dx) twice(gradients.dy, gradients.dx);
  }

 private:
  static void twice(const moe::ConstMatrixView<double>& from, const moe::MatrixView<double>& to) {
    for (Index t = 0; t < from.rows; ++t) {
      for (Index j = 0; j < from.cols; ++j) to(t, j) = 2 * from(t, j);
    }
  }
  Index width_;
};
static_assert(moe::TokenLayer<LayerArchetype>);

}  // namespace test
