// A frame with one feed-forward layer behind the sum of all experts, and one gated layer in front of them:
// what modulating experts (expert/bank/film.hpp) share. MoFME, Zhang et al. 2312.16610 (released code).
#pragma once

#include <cstdint>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/kernel/row.hpp"
#include "moe/layer/frame/active_rows.hpp"
#include "moe/product/projection.hpp"

MOE_NAMESPACE_BEGIN

struct FeedForwardFrameOptions {
  Index width = 0;   // D
  Index hidden = 0;  // F of the layer behind
  bool base = true;  // the gated layer in front
};

/// y = W2 gelu(W1 s + b1) + b2 of the experts' sum s; with a base they read gelu(V1 x + c1) * (V2 x + c2)
/// instead of x. Router and shared experts see x. Parameters "base.gate" V1, "base.up" V2 [D, D],
/// "adapter.fc1" [F, D] and "adapter.fc2" [D, F], each ".weight" and ".bias", 0 at first. What the methods
/// are for: layer/frame/concept.hpp.
template <class RealType = float>
class FeedForwardFrame {
 public:
  static constexpr const char* kName = "feed_forward";
  using Real = RealType;
  using Options = FeedForwardFrameOptions;
  struct Tape {
    Buffer<Real> gate, up, x_inner;  // [T, D], empty without a base
    Buffer<Real> sum;                // [T, D]
    Buffer<Real> pre, hidden;        // [T, F]
    Buffer<std::int32_t> token;      // rows that take part, ascending
  };
  struct Gradients {
    typename Projection<Real>::Gradients gate, up, fc1, fc2;
  };

  /// Throws config_error for sizes below 1.
  explicit FeedForwardFrame(const Options& o)
      : gate_(o.width, o.width, true),
        up_(o.width, o.width, true),
        fc1_(o.width, o.hidden, true),
        fc2_(o.hidden, o.width, true),
        base_(o.base) {}

  Index inner_width(Index) const noexcept { return fc1_.in(); }
  Index outer_width(Index) const noexcept { return fc1_.in(); }
  Index hidden() const noexcept { return fc1_.out(); }
  bool has_base() const noexcept { return base_; }

  /// Uniform in +-1 / sqrt(inputs), biases 0.
  void initialise(std::uint64_t seed) {
    std::uint64_t stream = 18;  // 16 and 17: LatentFrame; routers use lower ones
    for (Projection<Real>* map : {&gate_, &up_, &fc1_, &fc2_}) map->initialise(seed, stream++);
  }

  void measure(Arena& arena, Index tokens, Index) const {
    if (base_) {
      for (int i = 0; i < 3; ++i) take(arena, tokens, width());
      gate_.measure(arena, tokens);
      up_.measure(arena, tokens);
    }
    take(arena, tokens, width());
    for (int i = 0; i < 2; ++i) take(arena, tokens, hidden());
    fc1_.measure(arena, tokens);
    fc2_.measure(arena, tokens);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    take(arena, tokens, hidden());
    take(arena, tokens, width());
    fc2_.measure_backward(arena, tokens, concurrency);
    fc1_.measure_backward(arena, tokens, concurrency);
    if (!base_) return;
    for (int i = 0; i < 3; ++i) take(arena, tokens, width());
    gate_.measure_backward(arena, tokens, concurrency);
    up_.measure_backward(arena, tokens, concurrency);
  }

  /// Rows that take no part are mapped as well; nobody reads them.
  template <Executor X>
  ConstMatrixView<Real> before(const ConstMatrixView<Real>& x, Tape* tape, Arena& arena, X& executor) const {
    if (!base_) return x;
    const MatrixView<Real> g = rows_of(tape, &Tape::gate, arena, x.rows, width()),
                           u = rows_of(tape, &Tape::up, arena, x.rows, width()),
                           h = rows_of(tape, &Tape::x_inner, arena, x.rows, width());
    gate_.forward(x, g, arena, executor);
    up_.forward(x, u, arena, executor);
    executor.parallel_for(x.rows, [&](Index t, Index) noexcept {
      gated_row(GeluErf{}, g.row(t), u.row(t), h.row(t), width());
    });
    return h;
  }
  MatrixView<Real> inner_y(const MatrixView<Real>& y, Arena& arena) const {
    return take(arena, y.rows, width());
  }
  template <Executor X>
  void after(const MatrixView<Real>& inner, const MatrixView<Real>& y, const bool* active, Tape* tape,
             Arena& arena, X& executor) const {
    if (tape != nullptr) {
      tape->sum.copy_from(inner.data, inner.rows * inner.cols);  // contiguous, from inner_y
      impl::list_active(active, y.rows, tape->token);
    }
    const MatrixView<Real> pre = rows_of(tape, &Tape::pre, arena, y.rows, hidden()),
                           h = rows_of(tape, &Tape::hidden, arena, y.rows, hidden());
    fc1_.forward(inner, pre, arena, executor);
    executor.parallel_for(
        y.rows, [&](Index t, Index) noexcept { activate_row(GeluErf{}, pre.row(t), h.row(t), hidden()); });
    fc2_.forward(h, y, arena, executor);
    for (Index t = 0; t < y.rows; ++t) {
      if (!active[t]) fill_row(Real{0}, y.row(t), y.cols);
    }
  }

  ConstMatrixView<Real> inner_x(const Tape& tape, const ConstMatrixView<Real>& x) const {
    return base_ ? taped(tape.x_inner, x.rows, width()) : x;
  }

  template <Executor X>
  ConstMatrixView<Real> after_backward(const Tape& tape, const ConstMatrixView<Real>& dy,
                                       Gradients* gradients, Arena& arena, X& executor) const {
    impl::check_gradients_of(*this, gradients);
    impl::require_active(kName, tape.token, dy.rows);
    const ConstMatrixView<Real> sum = taped(tape.sum, dy.rows, width()),
                                pre = taped(tape.pre, dy.rows, hidden()),
                                h = taped(tape.hidden, dy.rows, hidden());
    const MatrixView<Real> dh = zeros(arena, dy.rows, hidden()), dsum = zeros(arena, dy.rows, width());
    const std::int32_t* const rows = tape.token.data();
    const Index count = tape.token.size();
    fc2_.backward_rows(rows, count, h, dy, dh, gradients == nullptr ? nullptr : &gradients->fc2, arena,
                       executor);
    executor.parallel_for(count, [&](Index a, Index) noexcept {
      const Index t = rows[a];
      activate_backward_row(GeluErf{}, pre.row(t), dh.row(t), dh.row(t), hidden());
    });
    fc1_.backward_rows(rows, count, sum, dh, dsum, gradients == nullptr ? nullptr : &gradients->fc1, arena,
                       executor);
    return dsum;
  }
  /// Even without dx, with a base: its gradients come from it.
  MatrixView<Real> inner_dx(const MatrixView<Real>& dx, Index tokens, Arena& arena) const {
    return base_ ? take(arena, tokens, width()) : dx;
  }
  template <Executor X>
  void before_backward(const Tape& tape, const ConstMatrixView<Real>& x, const MatrixView<Real>& dinner,
                       const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    if (!base_) return;
    for (Index t = 0; t < dx.rows; ++t) fill_row(Real{0}, dx.row(t), dx.cols);
    const ConstMatrixView<Real> g = taped(tape.gate, x.rows, width()), u = taped(tape.up, x.rows, width());
    const MatrixView<Real> dg = take(arena, x.rows, width()), du = take(arena, x.rows, width());
    const std::int32_t* const rows = tape.token.data();
    const Index count = tape.token.size();
    executor.parallel_for(count, [&](Index a, Index) noexcept {
      const Index t = rows[a];
      gated_backward_row(GeluErf{}, g.row(t), u.row(t), dinner.row(t), dg.row(t), du.row(t), width());
    });
    gate_.backward_rows(rows, count, x, dg, dx, gradients == nullptr ? nullptr : &gradients->gate, arena,
                        executor);
    up_.backward_rows(rows, count, x, du, dx, gradients == nullptr ? nullptr : &gradients->up, arena,
                      executor);
  }

  Gradients make_gradients() const {
    return {gate_.make_gradients(), up_.make_gradients(), fc1_.make_gradients(), fc2_.make_gradients()};
  }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor&& f) {
    each(gradients,
         [&](const char* name, Projection<Real>& map, auto* own) { map.visit_parameters(name, own, f); });
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor&& f) {
    each(gradients,
         [&](const char* name, Projection<Real>& map, auto* own) { map.visit_storage(name, own, f); });
  }

 private:
  Index width() const noexcept { return fc1_.in(); }

  template <class F>
  void each(Gradients* gradients, const F& f) {
    const auto own = [&](auto Gradients::*of) { return gradients == nullptr ? nullptr : &(gradients->*of); };
    if (base_) {
      f("base.gate", gate_, own(&Gradients::gate));
      f("base.up", up_, own(&Gradients::up));
    }
    f("adapter.fc1", fc1_, own(&Gradients::fc1));
    f("adapter.fc2", fc2_, own(&Gradients::fc2));
  }

  static MatrixView<Real> take(Arena& arena, Index rows, Index cols) {
    Real* const data = arena.take<Real>(checked_product("rows of a feed-forward frame", rows, cols));
    return arena.measuring() ? MatrixView<Real>{} : MatrixView<Real>(data, rows, cols);
  }
  static MatrixView<Real> zeros(Arena& arena, Index rows, Index cols) {
    const MatrixView<Real> all = take(arena, rows, cols);
    fill_row(Real{0}, all.data, rows * cols);
    return all;
  }
  static MatrixView<Real> rows_of(Tape* tape, Buffer<Real> Tape::*of, Arena& arena, Index rows, Index cols) {
    if (tape == nullptr) return take(arena, rows, cols);
    const Index size = checked_product("rows of a feed-forward frame", rows, cols);
    return {(tape->*of).resize(size), rows, cols};
  }
  static ConstMatrixView<Real> taped(const Buffer<Real>& of, Index rows, Index cols) {
    return {impl::taped(kName, of, rows * cols), rows, cols};
  }

  Projection<Real> gate_, up_;  // V1, V2; without a base nobody reads them
  Projection<Real> fc1_, fc2_;
  bool base_;
};

MOE_NAMESPACE_END
