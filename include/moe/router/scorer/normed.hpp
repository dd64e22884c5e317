// A scorer that reads rows after a root-mean-square norm: x / rms(x) * scale * factor (Gemma 4's router).
#pragma once

#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/rms_norm.hpp"
#include "moe/kernel/row.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/router/scorer/inner.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

struct InputNorm {
  bool enabled = true;  // false: rows go to the inner scorer as they are
  double eps = 1e-6;    // rms(x)^2 = mean(x^2) + eps
  double factor = 1;    // Gemma 4: 1 / sqrt(D)
};

/// Inner's logits of the normed rows. Parameters "norm.scale" [D, 1], 1 at first, and Inner's.
template <Scorer Inner>
class NormedScorer : public impl::InnerScorer<NormedScorer<Inner>, Inner> {
  using Base = impl::InnerScorer<NormedScorer<Inner>, Inner>;

 public:
  using Base::inner;
  using Base::width;
  using Real = typename Inner::Real;
  struct Tape {
    typename Inner::Tape inner;
    Buffer<Real> normed;  // [T, D] what Inner read; empty if not enabled
  };
  struct Gradients {
    typename Inner::Gradients inner;
    Buffer<Real> scale;  // [D]
  };

  /// Throws config_error for an eps below 0, or an eps or factor that is not finite.
  NormedScorer(Inner scorer, InputNorm norm) : Base(std::move(scorer)), norm_(norm) {
    if (!(norm.eps >= 0 && is_finite(norm.eps))) {
      fail<config_error>("norm eps: expected a finite value >= 0, got ", norm.eps);
    }
    if (!is_finite(norm.factor)) {
      fail<config_error>("norm factor: expected a finite value, got ", norm.factor);
    }
    scale_.assign(norm.enabled ? width() : 0, Real{1});
  }

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    if (norm_.enabled) f("rows", "rms_norm");
    impl::visit_names_of(role, inner(), f);
  }

  void measure(Arena& arena, Index tokens, Index concurrency) const {
    take_rows(arena, tokens);
    inner().measure(arena, tokens, concurrency);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    take_rows(arena, tokens);
    inner().measure_backward(arena, tokens, concurrency);
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    auto* const inner_tape = tape == nullptr ? nullptr : &tape->inner;
    if (!norm_.enabled) {
      inner().logits(in, out, inner_tape, arena, executor);
      return;
    }
    const Index tokens = in.tokens();
    Real* const normed = tape == nullptr ? take_rows(arena, tokens)
                                         : tape->normed.resize(checked_product("tape", tokens, width()));
    executor.parallel_for(tokens, [&](Index t, Index) noexcept {
      rms_norm_row(in.x.row(t), scale_.data(), static_cast<Real>(norm_.factor), static_cast<Real>(norm_.eps),
                   normed + t * width(), width());
    });
    inner().logits(inner_input(in, normed), out, inner_tape, arena, executor);
  }

  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    impl::check_gradients_of(*this, gradients);
    auto* const inner_gradients = gradients == nullptr ? nullptr : &gradients->inner;
    if (!norm_.enabled) {
      inner().backward(in, tape.inner, dlogits, dx, inner_gradients, arena, executor);
      return;
    }
    const Index tokens = in.tokens();
    const Real* const normed = impl::taped("normed scorer", tape.normed, tokens * width());
    const MatrixView<Real> dnormed(take_rows(arena, tokens), tokens, width());
    fill_row(Real{0}, dnormed.data, tokens * width());
    inner().backward(inner_input(in, normed), tape.inner, dlogits, dnormed, inner_gradients, arena, executor);
    const Index count = dlogits.rows == nullptr ? tokens : dlogits.row_count;
    for (Index a = 0; a < count; ++a) {  // ascending: the sum's bits depend on the rows alone
      const Index t = dlogits.rows == nullptr ? a : Index{dlogits.rows[a]};
      rms_norm_backward_row(in.x.row(t), scale_.data(), static_cast<Real>(norm_.factor),
                            static_cast<Real>(norm_.eps), dnormed.row(t),
                            gradients == nullptr ? nullptr : gradients->scale.data(),
                            dx ? dx.row(t) : nullptr, width());
    }
  }

  Gradients make_gradients() const { return {inner().make_gradients(), Buffer<Real>(scale_.size())}; }

  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    if (norm_.enabled) {
      f(Parameter<Real>{"norm.scale", view(scale_),
                        gradients == nullptr ? ParameterView<Real>{} : view(gradients->scale)});
    }
    inner().visit_parameters(gradients == nullptr ? nullptr : &gradients->inner, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    visit_buffer(f, "norm.scale", scale_, gradients, &Gradients::scale);
    inner().visit_storage(gradients == nullptr ? nullptr : &gradients->inner, f);
  }

 private:
  Real* take_rows(Arena& arena, Index tokens) const {
    return norm_.enabled ? arena.take<Real>(checked_product("normed rows", tokens, width())) : nullptr;
  }
  static ParameterView<Real> view(Buffer<Real>& values) noexcept { return {values.data(), values.size(), 1}; }
  RouterInput<Real> inner_input(const RouterInput<Real>& in, const Real* rows) const noexcept {
    RouterInput<Real> of_normed = in;
    of_normed.x.data = rows;
    of_normed.x.stride = width();
    return of_normed;
  }
  InputNorm norm_;
  Buffer<Real> scale_;  // [D]
};

MOE_NAMESPACE_END
