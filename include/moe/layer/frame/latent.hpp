// A frame of two projections: the experts work in a latent space of Dl < D columns (Nemotron 3's latent
// experts; Kimi K3), x_inner = x Win^T before them, y = y_inner Wout^T after their sum, or with a norm of the
// sum (Kimi K3) y = norm(y_inner) Wout^T.
#pragma once

#include <cstdint>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/rms_norm.hpp"
#include "moe/kernel/row.hpp"
#include "moe/layer/frame/active_rows.hpp"
#include "moe/product/projection.hpp"

MOE_NAMESPACE_BEGIN

/// Root-mean-square norm of the latent sum, with a weight per column.
struct LatentNorm {
  bool enabled = false;
  double eps = 1e-6;  // rms^2 = mean of squares + eps
};

/// Router and shared experts see the full rows. Parameters "latent_in.weight" [Dl, D] and "latent_out.weight"
/// [D, Dl], 0 at first, with a norm "latent_norm.weight" [Dl, 1], 1 at first. What the methods are for:
/// layer/frame/concept.hpp.
template <class RealType = float>
class LatentFrame {
 public:
  static constexpr const char* kName = "latent";
  using Real = RealType;
  struct Tape {
    Buffer<Real> x_inner;        // [T, Dl]
    Buffer<Real> y_inner;        // [T, Dl]
    Buffer<Real> y_normed;       // [T, Dl] what Wout read; empty without a norm
    Buffer<std::int32_t> token;  // rows that take part, ascending
  };
  struct Gradients {
    typename Projection<Real>::Gradients in;
    typename Projection<Real>::Gradients out;
    Buffer<Real> norm;  // [Dl] or empty
  };

  /// Throws config_error for a width below 1 or an eps below 0 or not finite.
  LatentFrame(Index width, Index latent, LatentNorm norm = {})
      : in_(width, latent, false), out_(latent, width, false), norm_(norm) {
    if (!(norm.eps >= 0 && is_finite(norm.eps))) {
      fail<config_error>("latent norm eps: expected a finite value >= 0, got ", norm.eps);
    }
    norm_scale_.assign(norm.enabled ? latent : 0, Real{1});
  }

  Index inner_width(Index) const noexcept { return in_.out(); }
  Index outer_width(Index) const noexcept { return in_.in(); }

  /// Uniform in +-1 / sqrt(inputs).
  void initialise(std::uint64_t seed) {
    constexpr std::uint64_t kInStream = 16, kOutStream = 17;  // routers use lower ones
    in_.initialise(seed, kInStream);
    out_.initialise(seed, kOutStream);
  }

  void measure(Arena& arena, Index tokens, Index) const {
    take_inner(arena, tokens);
    in_.measure(arena, tokens);
    take_inner(arena, tokens);
    if (norm_.enabled) take_inner(arena, tokens);
    out_.measure(arena, tokens);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    take_inner(arena, tokens);
    if (norm_.enabled) take_inner(arena, tokens);
    out_.measure_backward(arena, tokens, concurrency);
    take_inner(arena, tokens);
    in_.measure_backward(arena, tokens, concurrency);
  }

  /// Rows that take no part are projected as well; nobody reads them.
  template <Executor X>
  ConstMatrixView<Real> before(const ConstMatrixView<Real>& x, Tape* tape, Arena& arena, X& executor) const {
    const MatrixView<Real> inner =
        tape == nullptr
            ? take_inner(arena, x.rows)
            : MatrixView<Real>(tape->x_inner.resize(checked_product("latent rows", x.rows, latent())), x.rows,
                               latent());
    in_.forward(x, inner, arena, executor);
    return inner;
  }
  MatrixView<Real> inner_y(const MatrixView<Real>& y, Arena& arena) const {
    return take_inner(arena, y.rows);
  }

  template <Executor X>
  void after(const MatrixView<Real>& inner, const MatrixView<Real>& y, const bool* active, Tape* tape,
             Arena& arena, X& executor) const {
    if (tape != nullptr) {
      tape->y_inner.copy_from(inner.data, inner.rows * inner.cols);  // contiguous, from inner_y
      impl::list_active(active, y.rows, tape->token);
    }
    ConstMatrixView<Real> sum = inner;
    if (norm_.enabled) {
      const MatrixView<Real> normed =
          tape == nullptr ? take_inner(arena, y.rows)
                          : MatrixView<Real>(tape->y_normed.resize(y.rows * latent()), y.rows, latent());
      executor.parallel_for(y.rows, [&](Index t, Index) noexcept {
        rms_norm_row(inner.row(t), norm_scale_.data(), Real{1}, static_cast<Real>(norm_.eps), normed.row(t),
                     latent());
      });
      sum = normed;
    }
    out_.forward(sum, y, arena, executor);
    for (Index t = 0; t < y.rows; ++t) {
      if (!active[t]) fill_row(Real{0}, y.row(t), y.cols);
    }
  }

  ConstMatrixView<Real> inner_x(const Tape& tape, const ConstMatrixView<Real>& x) const {
    return {impl::taped(kName, tape.x_inner, x.rows * latent()), x.rows, latent()};
  }

  template <Executor X>
  ConstMatrixView<Real> after_backward(const Tape& tape, const ConstMatrixView<Real>& dy,
                                       Gradients* gradients, Arena& arena, X& executor) const {
    impl::check_gradients_of(*this, gradients);
    impl::require_active(kName, tape.token, dy.rows);
    const ConstMatrixView<Real> inner(impl::taped(kName, tape.y_inner, dy.rows * latent()), dy.rows,
                                      latent());
    const ConstMatrixView<Real> read =
        norm_.enabled
            ? ConstMatrixView<Real>(impl::taped(kName, tape.y_normed, dy.rows * latent()), dy.rows, latent())
            : inner;
    const MatrixView<Real> dinner = take_inner(arena, dy.rows);
    fill_row(Real{0}, dinner.data, dinner.rows * dinner.cols);
    out_.backward_rows(tape.token.data(), tape.token.size(), read, dy, dinner,
                       gradients == nullptr ? nullptr : &gradients->out, arena, executor);
    if (!norm_.enabled) return dinner;
    const MatrixView<Real> dsum = take_inner(arena, dy.rows);
    fill_row(Real{0}, dsum.data, dsum.rows * dsum.cols);
    for (const std::int32_t t : tape.token) {  // ascending: sums over rows have one order
      rms_norm_backward_row(inner.row(Index{t}), norm_scale_.data(), Real{1}, static_cast<Real>(norm_.eps),
                            dinner.row(Index{t}), gradients == nullptr ? nullptr : gradients->norm.data(),
                            dsum.row(Index{t}), latent());
    }
    return dsum;
  }
  /// Even without dx: the gradient of Win comes from it.
  MatrixView<Real> inner_dx(const MatrixView<Real>&, Index tokens, Arena& arena) const {
    return take_inner(arena, tokens);
  }
  template <Executor X>
  void before_backward(const Tape& tape, const ConstMatrixView<Real>& x, const MatrixView<Real>& dinner,
                       const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    for (Index t = 0; t < dx.rows; ++t) fill_row(Real{0}, dx.row(t), dx.cols);
    in_.backward_rows(tape.token.data(), tape.token.size(), x, dinner, dx,
                      gradients == nullptr ? nullptr : &gradients->in, arena, executor);
  }

  Gradients make_gradients() const {
    return {in_.make_gradients(), out_.make_gradients(), Buffer<Real>(norm_scale_.size())};
  }

  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor&& f) {
    in_.visit_parameters("latent_in", gradients == nullptr ? nullptr : &gradients->in, f);
    out_.visit_parameters("latent_out", gradients == nullptr ? nullptr : &gradients->out, f);
    if (!norm_.enabled) return;
    f(Parameter<Real>{"latent_norm.weight",
                      {norm_scale_.data(), latent(), 1},
                      gradients == nullptr ? ParameterView<Real>{}
                                           : ParameterView<Real>{gradients->norm.data(), latent(), 1}});
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor&& f) {
    in_.visit_storage("latent_in", gradients == nullptr ? nullptr : &gradients->in, f);
    out_.visit_storage("latent_out", gradients == nullptr ? nullptr : &gradients->out, f);
    visit_buffer(f, "latent_norm.weight", norm_scale_, gradients, &Gradients::norm);
  }

 private:
  Index latent() const noexcept { return in_.out(); }

  MatrixView<Real> take_inner(Arena& arena, Index rows) const {
    Real* const data = arena.take<Real>(checked_product("latent rows", rows, latent()));
    return arena.measuring() ? MatrixView<Real>{} : MatrixView<Real>(data, rows, latent());
  }

  Projection<Real> in_;   // D to Dl
  Projection<Real> out_;  // Dl to D
  LatentNorm norm_;
  Buffer<Real> norm_scale_;  // [Dl] or empty
};

MOE_NAMESPACE_END
