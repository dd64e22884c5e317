// logits = W2 tanh(W1 x + b1) + b2: the two-layer router of MoE++ (published code: H = 8 N hidden units).
#pragma once

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/product/projection.hpp"
#include "moe/router/logit_checks.hpp"
#include "moe/router/scorer/concept.hpp"

MOE_NAMESPACE_BEGIN

struct TwoLayerScorerOptions {
  Index width = 0;    // D
  Index hidden = 0;   // H
  Index outputs = 0;  // N
  bool bias = false;  // of both layers
};

/// Parameters "gate.0.weight" [H, D], "gate.2.weight" [N, H] and their biases. Zero until initialise().
template <class RealType>
class TwoLayerScorer {
 public:
  using Real = RealType;
  using Options = TwoLayerScorerOptions;
  struct Tape {
    Buffer<Real> pre;     // [T, H]
    Buffer<Real> hidden;  // [T, H]
  };
  struct Gradients {
    typename Projection<Real>::Gradients first, second;
  };
  static constexpr const char* kName = "two_layer";

  /// Throws config_error for sizes below 1.
  explicit TwoLayerScorer(const Options& options)
      : first_(options.width, options.hidden, options.bias),
        second_(options.hidden, options.outputs, options.bias) {}

  Index width() const noexcept { return first_.in(); }
  Index hidden() const noexcept { return first_.out(); }
  Index outputs() const noexcept { return second_.out(); }
  void initialise(std::uint64_t seed, double scale = 1) {
    first_.initialise(seed, 0, scale);
    second_.initialise(seed, 1, scale);
  }

  void measure(Arena& arena, Index tokens, Index) const {
    take(arena, tokens);
    first_.measure(arena, tokens);
    second_.measure(arena, tokens);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    take(arena, tokens);
    second_.measure_backward(arena, tokens, concurrency);
    first_.measure_backward(arena, tokens, concurrency);
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    const Index tokens = in.tokens(), size = tokens * hidden();
    Real* const rows = tape == nullptr ? take(arena, tokens) : tape->hidden.resize(size);
    const MatrixView<Real> h(rows, tokens, hidden());
    first_.forward(in.x, h, arena, executor);
    if (tape != nullptr) tape->pre.copy_from(rows, size);
    executor.parallel_for(tokens, [&](Index t, Index) noexcept {
      if (impl::finite_or_spoiled(h.row(t), hidden())) activate_row(Tanh{}, h.row(t), h.row(t), hidden());
    });
    second_.forward(h, out.value, arena, executor);
    for (Index t = 0; t < tokens; ++t) impl::finite_or_spoiled(out.value.row(t), outputs());
  }

  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    impl::check_gradients_of(*this, gradients);
    const Index tokens = in.tokens();
    const Index count = dlogits.rows == nullptr ? tokens : dlogits.row_count;
    const MatrixView<Real> dh(take(arena, tokens), tokens, hidden());
    fill_row(Real{0}, dh.data, tokens * hidden());
    const ConstMatrixView<Real> h(impl::taped(kName, tape.hidden, tokens * hidden()), tokens, hidden());
    const Real* const pre = impl::taped(kName, tape.pre, tokens * hidden());
    second_.backward_rows(dlogits.rows, count, h, dlogits.value, dh,
                          gradients == nullptr ? nullptr : &gradients->second, arena, executor);
    executor.parallel_for(count, [&](Index a, Index) noexcept {
      const Index t = dlogits.rows == nullptr ? a : Index{dlogits.rows[a]};
      activate_backward_row(Tanh{}, pre + t * hidden(), dh.row(t), dh.row(t), hidden());
    });
    first_.backward_rows(dlogits.rows, count, in.x, dh, dx,
                         gradients == nullptr ? nullptr : &gradients->first, arena, executor);
  }

  Gradients make_gradients() const { return {first_.make_gradients(), second_.make_gradients()}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    first_.visit_parameters("gate.0", gradients == nullptr ? nullptr : &gradients->first, f);
    second_.visit_parameters("gate.2", gradients == nullptr ? nullptr : &gradients->second, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    first_.visit_storage("gate.0", gradients == nullptr ? nullptr : &gradients->first, f);
    second_.visit_storage("gate.2", gradients == nullptr ? nullptr : &gradients->second, f);
  }

 private:
  Real* take(Arena& arena, Index tokens) const {
    return arena.take<Real>(checked_product("router hidden rows", tokens, hidden()));
  }

  Projection<Real> first_;
  Projection<Real> second_;
};

MOE_NAMESPACE_END
