// logits = x W^T + eps * softplus(x Wn^T), eps ~ N(0, 1): noise whose size every token learns. Shazeer et al.
// 1701.06538 eq. 4; in training only.
#pragma once

#include <limits>

#include "moe/core/buffer.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/random.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/product/projection.hpp"
#include "moe/router/logit_checks.hpp"
#include "moe/router/scorer/concept.hpp"

MOE_NAMESPACE_BEGIN

struct NoisyScorerOptions {
  Index width = 0;    // D
  Index outputs = 0;  // N
};

/// Parameters "gate.weight" and "noise_gate.weight" [N, D], both zero at first as in the paper: the noise,
/// then of standard deviation ln 2, spreads the load. Draws are keyed by (seed, call, row key, output).
template <class RealType>
class NoisyScorer {
 public:
  using Real = RealType;
  using Options = NoisyScorerOptions;
  struct Gradients {
    typename Projection<Real>::Gradients gate;
    typename Projection<Real>::Gradients noise;
  };
  struct Tape {
    Buffer<Real> noise_scale;  // [T, N]
  };
  static constexpr const char* kName = "noisy";

  /// Throws config_error for sizes below 1.
  explicit NoisyScorer(Options options)
      : gate_(options.width, options.outputs, false), noise_(options.width, options.outputs, false) {}

  bool noisy() const noexcept { return true; }
  Index width() const noexcept { return gate_.in(); }
  Index outputs() const noexcept { return gate_.out(); }
  void check_call(const RouterInput<Real>& in) const {
    if (in.training) in.require_draws("a noisy router");
  }
  /// Both matrices as a linear scorer's.
  void initialise(std::uint64_t seed, double scale = 1) {
    gate_.initialise(seed, 0, scale);
    noise_.initialise(seed, 1, scale);
  }
  Projection<Real>& gate() noexcept { return gate_; }
  const Projection<Real>& gate() const noexcept { return gate_; }
  Projection<Real>& noise() noexcept { return noise_; }

  void measure(Arena& arena, Index tokens, Index) const { gate_.measure(arena, tokens); }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    gate_.measure_backward(arena, tokens, concurrency);
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    const Index n = outputs();
    if (!in.training) {
      gate_.forward(in.x, out.value, arena, executor);
      for (Index t = 0; t < in.tokens(); ++t) impl::finite_or_spoiled(out.value.row(t), n);
      return;
    }
    const Index mark = arena.mark();
    gate_.forward(in.x, out.clean, arena, executor);
    arena.rewind(mark);
    noise_.forward(in.x, out.noise_scale, arena, executor);
    const KeyedRandom draw = noise_of(in);
    executor.parallel_for(in.tokens(), [&](Index t, Index) noexcept {
      Real* const scale = out.noise_scale.row(t);
      const bool finite = impl::finite_or_spoiled(out.clean.row(t), n) && all_finite(scale, n);
      activate_row(Softplus{}, scale, scale, n);
      for (Index e = 0; e < n; ++e) out.value(t, e) = fma(eps(draw, in, t, e), scale[e], out.clean(t, e));
      if (!finite) fill_row(std::numeric_limits<Real>::quiet_NaN(), out.value.row(t), n);
      impl::finite_or_spoiled(out.value.row(t), n);
    });
    if (tape == nullptr) return;
    tape->noise_scale.resize(in.tokens() * n);
    for (Index t = 0; t < in.tokens(); ++t) {
      copy_row(out.noise_scale.row(t), tape->noise_scale.data() + t * n, n);
    }
  }

  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    impl::check_gradients_of(*this, gradients);
    auto* const dgate = gradients == nullptr ? nullptr : &gradients->gate;
    auto* const dnoise = gradients == nullptr ? nullptr : &gradients->noise;
    const Index count = dlogits.rows == nullptr ? in.tokens() : dlogits.row_count;
    if (!in.training) {
      gate_.backward_rows(dlogits.rows, count, in.x, dlogits.value, dx, dgate, arena, executor);
      return;
    }
    const Index n = outputs();
    const Real* const scales = impl::taped(kName, tape.noise_scale, in.tokens() * n);
    const KeyedRandom draw = noise_of(in);
    executor.parallel_for(count, [&](Index a, Index) noexcept {
      const Index t = dlogits.rows == nullptr ? a : Index{dlogits.rows[a]};
      const Real* const scale = scales + t * n;
      Real* const dscale = dlogits.noise_scale.row(t);
      add_row(dlogits.value.row(t), dlogits.clean.row(t), n);
      for (Index e = 0; e < n; ++e) {
        dscale[e] = fma(eps(draw, in, t, e), dlogits.value(t, e), dscale[e]);
        dscale[e] *= -math::expm1_nonpositive(-scale[e]);  // softplus' = sigmoid = 1 - e^-softplus
      }
    });
    const Index mark = arena.mark();
    gate_.backward_rows(dlogits.rows, count, in.x, dlogits.clean, dx, dgate, arena, executor);
    arena.rewind(mark);
    noise_.backward_rows(dlogits.rows, count, in.x, dlogits.noise_scale, dx, dnoise, arena, executor);
  }

  Gradients make_gradients() const { return {gate_.make_gradients(), noise_.make_gradients()}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    gate_.visit_parameters("gate", gradients == nullptr ? nullptr : &gradients->gate, f);
    noise_.visit_parameters("noise_gate", gradients == nullptr ? nullptr : &gradients->noise, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    gate_.visit_storage("gate", gradients == nullptr ? nullptr : &gradients->gate, f);
    noise_.visit_storage("noise_gate", gradients == nullptr ? nullptr : &gradients->noise, f);
  }

 private:
  static KeyedRandom noise_of(const RouterInput<Real>& in) noexcept {
    return in.random(DrawStream::logit_noise);
  }
  static Real eps(const KeyedRandom& draw, const RouterInput<Real>& in, Index t, Index e) noexcept {
    return static_cast<Real>(draw.normal(in.key(t), static_cast<std::uint32_t>(e)));
  }

  Projection<Real> gate_;
  Projection<Real> noise_;
};

MOE_NAMESPACE_END
