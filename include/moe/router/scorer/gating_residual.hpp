// Logits that take over those of the layer below, through a trained map: the gating residual of MoE++, Jin et
// al. 2410.07348.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/kernel/row.hpp"
#include "moe/product/projection.hpp"
#include "moe/router/logit_checks.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/router/scorer/inner.hpp"

MOE_NAMESPACE_BEGIN

/// logits = Inner's + W_g carry. Hands these logits on, R = N: with their own residual, before noise, mask,
/// temperature and a map that stands around this scorer. What hides outputs (MaskedScorer) goes around it
/// too. Without a carry, in the first layer, they are Inner's. Parameters: Inner's and "gate_map.weight" W_g
/// [N, N], 0 at first.
template <Scorer Inner>
class GatingResidual : public impl::InnerScorer<GatingResidual<Inner>, Inner> {
  using Base = impl::InnerScorer<GatingResidual<Inner>, Inner>;

 public:
  using Base::inner;
  using Base::outputs;
  using Real = typename Inner::Real;
  using Tape = typename Inner::Tape;
  struct Gradients {
    typename Inner::Gradients inner;
    typename Projection<Real>::Gradients map{};
  };

  /// Not enabled it is Inner, and hands nothing on. Throws config_error for an Inner that hands something on.
  explicit GatingResidual(Inner scorer, bool enabled = true) : Base(std::move(scorer)) {
    if (impl::carry_width_of(inner()) > 0) {
      fail<config_error>("gating residual: expected a scorer that hands nothing on, got one that carries");
    }
    if (enabled) map_.emplace(outputs(), outputs(), false);
  }

  bool enabled() const noexcept { return map_.has_value(); }
  Index carry_width() const noexcept { return enabled() ? outputs() : 0; }
  /// W_g stays 0.
  void initialise(std::uint64_t seed, double scale = 1) { inner().initialise(seed, scale); }

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    impl::visit_names_of(role, inner(), f);
    if (enabled()) f("logits", "gating_residual");
  }

  void measure(Arena& arena, Index tokens, Index concurrency) const {
    const Index mark = arena.mark();
    if (enabled()) take_rows(arena, tokens), map_->measure(arena, tokens);
    arena.rewind(mark);
    inner().measure(arena, tokens, concurrency);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    const Index mark = arena.mark();
    if (enabled()) take_rows(arena, tokens), map_->measure_backward(arena, tokens, concurrency);
    arena.rewind(mark);
    inner().measure_backward(arena, tokens, concurrency);
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    Logits<Real> own = out;
    own.carry = {};
    const Index mark = arena.mark();
    inner().logits(in, own, tape, arena, executor);
    arena.rewind(mark);
    if (!enabled()) return;
    MatrixView<Real> residual{};
    if (in.carry) {
      residual = take_rows(arena, in.tokens());
      map_->forward(in.carry, residual, arena, executor);
    }
    const MatrixView<Real>& last = out.clean.empty() ? out.value : out.clean;
    executor.parallel_for(in.tokens(), [&](Index t, Index) noexcept {
      if (residual) {
        for (const MatrixView<Real>& m : {out.value, out.clean}) {
          if (m.empty()) continue;
          add_row(residual.row(t), m.row(t), outputs());
          impl::finite_or_spoiled(m.row(t), outputs());
        }
      }
      copy_row(last.row(t), out.carry.row(t), outputs());
    });
    arena.rewind(mark);
  }

  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    impl::check_gradients_of(*this, gradients);
    Logits<Real> own = dlogits;
    own.dcarry_out = {};
    own.dcarry = {};
    const Index mark = arena.mark();
    if (enabled()) add_carried(in, dlogits, gradients, arena, executor);
    arena.rewind(mark);
    inner().backward(in, tape, own, dx, gradients == nullptr ? nullptr : &gradients->inner, arena, executor);
  }

  Gradients make_gradients() const {
    Gradients all{inner().make_gradients()};
    if (enabled()) all.map = map_->make_gradients();
    return all;
  }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    inner().visit_parameters(gradients == nullptr ? nullptr : &gradients->inner, f);
    if (enabled()) map_->visit_parameters("gate_map", gradients == nullptr ? nullptr : &gradients->map, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    inner().visit_storage(gradients == nullptr ? nullptr : &gradients->inner, f);
    if (enabled()) map_->visit_storage("gate_map", gradients == nullptr ? nullptr : &gradients->map, f);
  }

 private:
  MatrixView<Real> take_rows(Arena& arena, Index tokens) const {
    MatrixView<Real> view;
    view.data = arena.take<Real>(checked_product("gating residual", tokens, outputs()));
    view.rows = tokens;
    view.cols = view.stride = outputs();
    return view;
  }

  /// What was handed on came from the logits; they and it are the residual's.
  template <Executor X>
  void add_carried(const RouterInput<Real>& in, const Logits<Real>& dlogits, Gradients* gradients,
                   Arena& arena, X& executor) const {
    // A noisy scorer forms clean logits in training alone, and there its value is theirs and the noise.
    const bool noisy = in.training && impl::is_noisy(inner());
    const MatrixView<Real>& last = noisy ? dlogits.clean : dlogits.value;
    const MatrixView<Real> residual = take_rows(arena, in.tokens());
    const Index count = dlogits.rows == nullptr ? in.tokens() : dlogits.row_count;
    executor.parallel_for(count, [&](Index a, Index) noexcept {
      const Index t = dlogits.rows == nullptr ? a : Index{dlogits.rows[a]};
      if (dlogits.dcarry_out) add_row(dlogits.dcarry_out.row(t), last.row(t), outputs());
      copy_row(last.row(t), residual.row(t), outputs());
      if (noisy) add_row(dlogits.value.row(t), residual.row(t), outputs());
    });
    if (!in.carry) return;
    map_->backward_rows(dlogits.rows, count, in.carry, residual, dlogits.dcarry,
                        gradients == nullptr ? nullptr : &gradients->map, arena, executor);
  }

  std::optional<Projection<Real>> map_;
};

MOE_NAMESPACE_END
