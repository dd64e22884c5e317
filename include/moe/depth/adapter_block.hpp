// A small network in a block's place: an adapter for rows that skip it, a forecaster of what it would have
// returned.
#pragma once

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/depth/row_block.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/rms_norm.hpp"
#include "moe/kernel/row.hpp"
#include "moe/product/projection.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

struct AdapterOptions {
  Index width = 0;    // D
  Index hidden = 0;   // H
  bool norm = false;  // x / rms(x) * scale before the first layer
  double eps = 1e-6;  // rms(x)^2 = mean(x^2) + eps
  bool bias = false;  // of both layers
};

/// f(x) = W2 a(W1 norm(x)), each row for itself; with Identity the rank of W2 W1 is H at most. Parameters
/// "norm.scale" [D, 1], 1 at first, "in.weight" [H, D], "out.weight" [D, H] and their biases, zero until
/// initialise().
template <class Activation, class RealType>
class AdapterBlock {
 public:
  using Real = RealType;
  using Options = AdapterOptions;
  static constexpr const char* kName = "adapter";
  struct Tape {
    Buffer<Real> normed;  // [n, D], empty without a norm
    Buffer<Real> pre;     // [n, H]
    Buffer<Real> hidden;  // [n, H]
  };
  struct Gradients {
    Buffer<Real> scale;  // [D] or empty
    typename Projection<Real>::Gradients in, out;
  };

  /// Throws config_error for sizes below 1 and an eps below 0 or not finite.
  explicit AdapterBlock(const Options& options)
      : in_(options.width, options.hidden, options.bias),
        out_(options.hidden, options.width, options.bias),
        eps_(options.eps) {
    if (!(eps_ >= 0 && is_finite(eps_))) {
      fail<config_error>("norm eps: expected a finite value >= 0, got ", eps_);
    }
    scale_.assign(options.norm ? options.width : 0, Real{1});
  }

  Index width() const noexcept { return in_.in(); }
  Index hidden() const noexcept { return in_.out(); }
  static constexpr Coupling coupling(bool) noexcept { return Coupling::row_independent; }
  /// W2 stays 0, so that f is 0 at first, unless `out` is told to be drawn too.
  void initialise(std::uint64_t seed, bool out = false) {
    in_.initialise(seed, 0);
    if (out) out_.initialise(seed, 1);
  }

  void measure(Arena& arena, const CallShape& shape, Index) const {
    take(arena, shape.tokens);
    const Index mark = arena.mark();
    in_.measure(arena, shape.tokens);
    arena.rewind(mark);
    out_.measure(arena, shape.tokens);
  }
  void measure_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    take(arena, shape.tokens);
    const Index mark = arena.mark();
    out_.measure_backward(arena, shape.tokens, concurrency);
    arena.rewind(mark);
    in_.measure_backward(arena, shape.tokens, concurrency);
  }

  template <Executor X>
  void forward(const BlockCall& call, const ConstMatrixView<Real>& x, const MatrixView<Real>& y, Tape* tape,
               Arena& arena, X& executor) const {
    const Index n = call.count, inner = checked_product("hidden rows", n, hidden());
    Scratch scratch = take(arena, n);
    if (tape != nullptr) {
      if (normed()) scratch.normed = tape->normed.resize(n * width());
      scratch.hidden = tape->hidden.resize(inner);
    }
    ConstMatrixView<Real> read = x;
    if (normed()) {
      executor.parallel_for(n, [&](Index i, Index) noexcept {
        rms_norm_row(x.row(i), scale_.data(), Real{1}, static_cast<Real>(eps_), scratch.normed + i * width(),
                     width());
      });
      read = ConstMatrixView<Real>(scratch.normed, n, width());
    }
    const MatrixView<Real> h(scratch.hidden, n, hidden());
    const Index mark = arena.mark();
    in_.forward(read, h, arena, executor);
    arena.rewind(mark);
    if (tape != nullptr) tape->pre.copy_from(scratch.hidden, inner);
    executor.parallel_for(
        n, [&](Index i, Index) noexcept { activate_row(Activation{}, h.row(i), h.row(i), hidden()); });
    out_.forward(h, y, arena, executor);
  }

  template <Executor X>
  void backward(const BlockCall& call, const Tape& tape, const ConstMatrixView<Real>& x,
                const ConstMatrixView<Real>& dy, const MatrixView<Real>& dx, Gradients* gradients,
                Arena& arena, X& executor) const {
    impl::check_gradients_of(*this, gradients);
    const Index n = call.count;
    const ConstMatrixView<Real> h(impl::taped(kName, tape.hidden, n * hidden()), n, hidden());
    const Real* const pre = impl::taped(kName, tape.pre, n * hidden());
    const Scratch scratch = take(arena, n);
    const MatrixView<Real> dh(scratch.hidden, n, hidden());
    const MatrixView<Real> dread = normed() ? MatrixView<Real>(scratch.normed, n, width()) : dx;
    for (Index i = 0; i < n; ++i) {
      fill_row(Real{0}, dh.row(i), hidden());
      fill_row(Real{0}, dx.row(i), width());
      if (normed()) fill_row(Real{0}, dread.row(i), width());
    }
    const Index mark = arena.mark();
    out_.backward(h, dy, dh, gradients == nullptr ? nullptr : &gradients->out, arena, executor);
    arena.rewind(mark);
    executor.parallel_for(n, [&](Index i, Index) noexcept {
      activate_backward_row(Activation{}, pre + i * hidden(), dh.row(i), dh.row(i), hidden());
    });
    const ConstMatrixView<Real> read =
        normed() ? ConstMatrixView<Real>(impl::taped(kName, tape.normed, n * width()), n, width()) : x;
    in_.backward(read, dh, dread, gradients == nullptr ? nullptr : &gradients->in, arena, executor);
    for (Index i = 0; normed() && i < n; ++i) {  // ascending: the sum's bits depend on the rows alone
      rms_norm_backward_row(x.row(i), scale_.data(), Real{1}, static_cast<Real>(eps_), dread.row(i),
                            gradients == nullptr ? nullptr : gradients->scale.data(), dx.row(i), width());
    }
  }

  Gradients make_gradients() const {
    return {Buffer<Real>(scale_.size()), in_.make_gradients(), out_.make_gradients()};
  }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    if (normed()) {
      const auto view = [](Buffer<Real>& b) { return ParameterView<Real>{b.data(), b.size(), 1}; };
      f(Parameter<Real>{"norm.scale", view(scale_),
                        gradients == nullptr ? ParameterView<Real>{} : view(gradients->scale)});
    }
    in_.visit_parameters("in", gradients == nullptr ? nullptr : &gradients->in, f);
    out_.visit_parameters("out", gradients == nullptr ? nullptr : &gradients->out, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    visit_buffer(f, "norm.scale", scale_, gradients, &Gradients::scale);
    in_.visit_storage("in", gradients == nullptr ? nullptr : &gradients->in, f);
    out_.visit_storage("out", gradients == nullptr ? nullptr : &gradients->out, f);
  }

 private:
  struct Scratch {
    Real* normed;  // [n, D], null without a norm
    Real* hidden;  // [n, H]
  };
  bool normed() const noexcept { return !scale_.empty(); }
  Scratch take(Arena& arena, Index n) const {
    Real* const rows = normed() ? arena.take<Real>(checked_product("normed rows", n, width())) : nullptr;
    return {rows, arena.take<Real>(checked_product("hidden rows", n, hidden()))};
  }

  Projection<Real> in_;   // D to H
  Projection<Real> out_;  // H to D
  double eps_;
  Buffer<Real> scale_;  // [D] or empty
};

MOE_NAMESPACE_END
