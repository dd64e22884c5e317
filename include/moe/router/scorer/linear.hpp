// logits = x W^T (+ b): the scorer of most routers, with Switch's multiplicative input jitter in training.
#pragma once

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/random.hpp"
#include "moe/product/projection.hpp"
#include "moe/router/logit_checks.hpp"
#include "moe/router/scorer/concept.hpp"

MOE_NAMESPACE_BEGIN

struct LinearScorerOptions {
  Index width = 0;    // D
  Index outputs = 0;  // N
  bool bias = false;
  double jitter = 0;  // training: x * U(1 - jitter, 1 + jitter) per element; Switch 2101.03961: 0.01
};

/// Parameters "gate.weight" [N, D], "gate.bias" [N]. Zero at first, so that ties decide until initialise().
template <class RealType>
class LinearScorer {
 public:
  using Real = RealType;
  using Gradients = typename Projection<Real>::Gradients;
  using Options = LinearScorerOptions;
  struct Tape {
    Buffer<Real> jittered;  // [T, D] what was multiplied; empty without jitter
  };
  static constexpr const char* kName = "linear";

  /// Throws config_error for sizes below 1 or a jitter outside [0, 1).
  explicit LinearScorer(Options options)
      : projection_(checked(options).width, options.outputs, options.bias), jitter_(options.jitter) {}

  Index width() const noexcept { return projection_.in(); }
  Index outputs() const noexcept { return projection_.out(); }

  /// A training call with jitter draws.
  void check_call(const RouterInput<Real>& in) const {
    if (jittered(in)) in.require_draws("a router with jitter");
  }

  void initialise(std::uint64_t seed, double scale = 1) { projection_.initialise(seed, 0, scale); }
  Projection<Real>& projection() noexcept { return projection_; }
  const Projection<Real>& projection() const noexcept { return projection_; }

  void measure(Arena& arena, Index tokens, Index) const {
    if (jitter_ > 0) arena.take<Real>(checked_product("jittered rows", tokens, width()));
    projection_.measure(arena, tokens);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    if (jitter_ > 0) arena.take<Real>(checked_product("jittered rows", tokens, width()));
    projection_.measure_backward(arena, tokens, concurrency);
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    ConstMatrixView<Real> x = in.x;
    if (jittered(in)) {
      const Index size = x.rows * x.cols;
      Real* const rows = tape != nullptr ? tape->jittered.resize(size) : arena.take<Real>(size);
      jitter_rows(in, x, MatrixView<Real>(rows, x.rows, x.cols), false, executor);
      x = MatrixView<Real>(rows, x.rows, x.cols);
    }
    projection_.forward(x, out.value, arena, executor);
    for (Index t = 0; t < in.tokens(); ++t) impl::finite_or_spoiled(out.value.row(t), outputs());
  }

  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    impl::check_gradients_of(*this, gradients);
    const Index count = dlogits.rows == nullptr ? in.tokens() : dlogits.row_count;
    if (!jittered(in)) {
      projection_.backward_rows(dlogits.rows, count, in.x, dlogits.value, dx, gradients, arena, executor);
      return;
    }
    const ConstMatrixView<Real> read(impl::taped(kName, tape.jittered, in.x.rows * in.x.cols), in.x.rows,
                                     in.x.cols);
    MatrixView<Real> djittered{};
    if (dx) {
      djittered = MatrixView<Real>(arena.take<Real>(in.x.rows * in.x.cols), in.x.rows, in.x.cols);
      fill_row(Real{0}, djittered.data, in.x.rows * in.x.cols);
    }
    projection_.backward_rows(dlogits.rows, count, read, dlogits.value, djittered, gradients, arena,
                              executor);
    if (dx) jitter_rows(in, djittered, dx, true, executor);
  }

  Gradients make_gradients() const { return projection_.make_gradients(); }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    projection_.visit_parameters("gate", gradients, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    projection_.visit_storage("gate", gradients, f);
  }

 private:
  static const Options& checked(const Options& options) {
    if (!(options.jitter >= 0 && options.jitter < 1)) {
      fail<config_error>("jitter: expected a value in [0, 1), got ", options.jitter);
    }
    return options;
  }
  bool jittered(const RouterInput<Real>& in) const noexcept { return in.training && jitter_ > 0; }

  /// to = from * factor, or to += from * factor; the factor is drawn per (row key, column).
  template <Executor X>
  void jitter_rows(const RouterInput<Real>& in, const ConstMatrixView<Real>& from, const MatrixView<Real>& to,
                   bool add, X& executor) const {
    const KeyedRandom draw = in.random(DrawStream::jitter);
    executor.parallel_for(from.rows, [&](Index t, Index) noexcept {
      for (Index j = 0; j < from.cols; ++j) {
        const double u = draw.uniform(in.key(t), static_cast<std::uint32_t>(j));
        const Real scaled = from(t, j) * static_cast<Real>(1 + jitter_ * (2 * u - 1));
        to(t, j) = add ? to(t, j) + scaled : scaled;
      }
    });
  }

  Projection<Real> projection_;
  double jitter_;
};

MOE_NAMESPACE_END
