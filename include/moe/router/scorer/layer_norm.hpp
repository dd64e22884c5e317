// A scorer that reads rows after a layer norm, (x - mean) / deviation * scale + shift (Ba et al. 1607.06450).
#pragma once

#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/layer_norm.hpp"
#include "moe/kernel/row.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/router/scorer/inner.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

/// Inner's logits of the normed rows. Parameters "norm.scale" [D, 1], 1 at first, "norm.shift" [D, 1], 0 at
/// first, and Inner's.
template <Scorer Inner>
class LayerNormScorer : public impl::InnerScorer<LayerNormScorer<Inner>, Inner> {
  using Base = impl::InnerScorer<LayerNormScorer<Inner>, Inner>;

 public:
  using Base::inner;
  using Base::width;
  using Real = typename Inner::Real;
  struct Tape {
    typename Inner::Tape inner;
    Buffer<Real> normed;  // [T, D] what Inner read
  };
  struct Gradients {
    typename Inner::Gradients inner;
    Buffer<Real> scale;  // [D]
    Buffer<Real> shift;  // [D]
  };

  /// deviation^2 = variance + eps. Throws config_error for an eps below 0 or not finite.
  explicit LayerNormScorer(Inner scorer, double eps = 1e-5) : Base(std::move(scorer)), eps_(eps) {
    if (!(eps >= 0 && is_finite(eps))) {
      fail<config_error>("norm eps: expected a finite value >= 0, got ", eps);
    }
    scale_.assign(width(), Real{1});
    shift_.assign(width(), Real{0});
  }
  void initialise(std::uint64_t seed) { inner().initialise(seed); }

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    f("rows", "layer_norm");
    impl::visit_names_of(role, inner(), f);
  }

  void measure(Arena& arena, Index tokens, Index concurrency) const {
    take_rows(arena, tokens);
    inner().measure(arena, tokens, concurrency);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    take_rows(arena, tokens), arena.take<Real>(2 * width());
    inner().measure_backward(arena, tokens, concurrency);
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    const Index tokens = in.tokens(), n = width();
    Real* const normed =
        tape == nullptr ? take_rows(arena, tokens) : tape->normed.resize(checked_product("tape", tokens, n));
    executor.parallel_for(tokens, [&](Index t, Index) noexcept {
      layer_norm_row(in.x.row(t), scale_.data(), shift_.data(), static_cast<Real>(eps_), normed + t * n, n);
    });
    inner().logits(inner_input(in, normed), out, tape == nullptr ? nullptr : &tape->inner, arena, executor);
  }

  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    impl::check_gradients_of(*this, gradients);
    const Index tokens = in.tokens(), n = width();
    const Real* const normed = impl::taped("layer norm", tape.normed, tokens * n);
    const MatrixView<Real> dnormed(take_rows(arena, tokens), tokens, n);
    Real* const scratch = arena.take<Real>(2 * n);
    fill_row(Real{0}, dnormed.data, tokens * n);
    inner().backward(inner_input(in, normed), tape.inner, dlogits, dnormed,
                     gradients == nullptr ? nullptr : &gradients->inner, arena, executor);
    const Index count = dlogits.rows == nullptr ? tokens : dlogits.row_count;
    for (Index a = 0; a < count; ++a) {  // ascending: the sum's bits depend on the rows alone
      const Index t = dlogits.rows == nullptr ? a : Index{dlogits.rows[a]};
      layer_norm_backward_row(in.x.row(t), scale_.data(), static_cast<Real>(eps_), dnormed.row(t),
                              gradients == nullptr ? nullptr : gradients->scale.data(),
                              gradients == nullptr ? nullptr : gradients->shift.data(),
                              dx ? dx.row(t) : nullptr, scratch, n);
    }
  }

  Gradients make_gradients() const {
    return {inner().make_gradients(), Buffer<Real>(scale_.size()), Buffer<Real>(shift_.size())};
  }

  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    const auto show = [&](const char* name, Buffer<Real>& values, Buffer<Real> Gradients::*member) {
      f(Parameter<Real>{name, view(values),
                        gradients == nullptr ? ParameterView<Real>{} : view(gradients->*member)});
    };
    show("norm.scale", scale_, &Gradients::scale);
    show("norm.shift", shift_, &Gradients::shift);
    inner().visit_parameters(gradients == nullptr ? nullptr : &gradients->inner, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    visit_buffer(f, "norm.scale", scale_, gradients, &Gradients::scale);
    visit_buffer(f, "norm.shift", shift_, gradients, &Gradients::shift);
    inner().visit_storage(gradients == nullptr ? nullptr : &gradients->inner, f);
  }

 private:
  Real* take_rows(Arena& arena, Index tokens) const {
    return arena.take<Real>(checked_product("normed rows", tokens, width()));
  }
  static ParameterView<Real> view(Buffer<Real>& values) noexcept { return {values.data(), values.size(), 1}; }
  RouterInput<Real> inner_input(const RouterInput<Real>& in, const Real* rows) const noexcept {
    RouterInput<Real> of_normed = in;
    of_normed.x.data = rows;
    of_normed.x.stride = width();
    return of_normed;
  }

  double eps_;
  Buffer<Real> scale_;  // [D]
  Buffer<Real> shift_;  // [D]
};

MOE_NAMESPACE_END
