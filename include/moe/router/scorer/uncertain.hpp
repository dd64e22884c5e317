// Logits over their own uncertainty: the mean of a linear map over dropped-out rows, divided by its standard
// deviation, so that an expert which only a few columns speak for weighs less. MoFME's uncertainty-aware
// router, Zhang et al. 2312.16610.
#pragma once

#include <cmath>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/random.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/product/projection.hpp"
#include "moe/router/logit_checks.hpp"
#include "moe/router/scorer/concept.hpp"

MOE_NAMESPACE_BEGIN

struct UncertainScorerOptions {
  Index width = 0;       // D
  Index outputs = 0;     // N
  double dropout = 0.1;  // p: each number of a row is 0, or over 1 - p
  Index passes = 8;      // M >= 2 draws of it in training; 0: their limit there too
  double eps = 1e-6;     // beside the variance
};

/// logit_e = mean_e / sqrt(variance_e + eps) of a = W (x * m / (1 - p)) + b, m a row of zeros and ones: in
/// training over M drawn m (variance with M - 1), by (seed, call, row key, pass, column); in inference what
/// that tends to, W x + b over p / (1 - p) sum_j (W_ej x_j)^2. Parameters "gate.weight" [N, D] and
/// "gate.bias".
template <class RealType>
class UncertainScorer {
 public:
  using Real = RealType;
  using Options = UncertainScorerOptions;
  using Gradients = typename Projection<Real>::Gradients;
  struct Tape {
    Buffer<Real> logit;  // [M, T, N] of the passes, or [2, T, N] mean and variance of the limit
  };
  static constexpr const char* kName = "uncertain";

  /// Throws config_error for sizes below 1, a dropout outside (0, 1), one pass, or an eps that is not
  /// positive and finite.
  explicit UncertainScorer(const Options& o) : map_(o.width, o.outputs, true), options_(o) {
    if (!(o.dropout > 0 && o.dropout < 1)) {
      fail<config_error>("router dropout: expected a rate in (0, 1), got ", o.dropout);
    }
    if (o.passes != 0) require_range("passes of the router (or 0)", o.passes, 2, INT32_MAX);
    if (!(o.eps > 0 && is_finite(o.eps))) {
      fail<config_error>("eps of the router's variance: expected a finite value > 0, got ", o.eps);
    }
    if (o.passes > INT32_MAX / o.width) {
      fail<config_error>("passes of the router: expected at most ", INT32_MAX / o.width, " of rows of ",
                         o.width, " columns, got ", o.passes);
    }
  }

  Index width() const noexcept { return map_.in(); }
  Index outputs() const noexcept { return map_.out(); }
  void initialise(std::uint64_t seed, double scale = 1) { map_.initialise(seed, 0, scale); }
  Projection<Real>& projection() noexcept { return map_; }
  const Projection<Real>& projection() const noexcept { return map_; }

  void check_call(const RouterInput<Real>& in) const {
    if (draws(in)) in.require_draws("a router with dropout");
  }

  void measure(Arena& arena, Index tokens, Index) const {
    Scratch{arena, tokens, *this};
    arena.take<Real>(checked_product("logits of passes", kept(), tokens, outputs()));
    map_.measure(arena, tokens);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    Scratch{arena, tokens, *this};
    arena.take<Real>(checked_product("gradients of logits", tokens, outputs()));
    arena.take<Real>(checked_product("dropped rows", tokens, width()));
    map_.measure_backward(arena, tokens, concurrency);
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    const Index tokens = in.tokens(), n = outputs(), size = tokens * n;
    const Scratch scratch(arena, tokens, *this);
    Real* const taken = arena.take<Real>(kept() * size);
    const Index rows = draws(in) ? options_->passes : 2;
    Real* const kept_rows = tape == nullptr ? taken : tape->logit.resize(rows * size);
    const MatrixView<Real> x(scratch.rows, tokens, width());
    const Index mark = arena.mark();
    const auto map = [&](const ConstMatrixView<Real>& from, Index m) {
      map_.forward(from, MatrixView<Real>(kept_rows + m * size, tokens, n), arena, executor);
      arena.rewind(mark);
    };
    if (draws(in)) {
      for (Index m = 0; m < rows; ++m) {
        drop_rows(in, in.x, x, m, false, executor);
        map(x, m);
      }
    } else {
      square_weights(scratch.squares);
      map(in.x, 0);
      executor.parallel_for(tokens, [&](Index t, Index) noexcept {
        square_row(in.x.row(t), x.row(t));
        for (Index e = 0; e < n; ++e)
          kept_rows[size + t * n + e] = ratio() * dot(x.row(t), scratch.squares + e * width(), width());
      });
    }
    executor.parallel_for(tokens, [&](Index t, Index) noexcept {
      for (Index e = 0; e < n; ++e) {
        const Moments of = moments(kept_rows + t * n + e, size, draws(in));
        out.value(t, e) = of.mean / of.deviation;
      }
      // A number that is not finite may have been dropped in every pass.
      if (!all_finite(in.x.row(t), width())) {
        fill_row(std::numeric_limits<Real>::quiet_NaN(), out.value.row(t), n);
      }
      impl::finite_or_spoiled(out.value.row(t), n);
    });
  }

  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    impl::check_gradients_of(*this, gradients);
    const Index tokens = in.tokens(), n = outputs(), d = width(), size = tokens * n;
    const bool drawn = draws(in);
    const Index passes = drawn ? options_->passes : 2;
    const Real* const kept_rows = impl::taped(kName, tape.logit, passes * size);
    const Index count = dlogits.rows == nullptr ? tokens : dlogits.row_count;
    const auto row_of = [&](Index a) noexcept {
      return dlogits.rows == nullptr ? a : Index{dlogits.rows[a]};
    };
    const Scratch scratch(arena, tokens, *this);
    const MatrixView<Real> da(arena.take<Real>(size), tokens, n), x(scratch.rows, tokens, d),
        dpass(arena.take<Real>(tokens * d), tokens, d);
    const Index mark = arena.mark();
    if (drawn) {
      for (Index m = 0; m < passes; ++m) {
        executor.parallel_for(count, [&](Index a, Index) noexcept {
          const Index t = row_of(a);
          for (Index e = 0; e < n; ++e) {
            const Real* const first = kept_rows + t * n + e;
            const Moments of = moments(first, size, true);
            const Real off = first[m * size] - of.mean;
            // d mean = 1 / M, d deviation = off / ((M - 1) deviation).
            const Real by_mean = 1 / (static_cast<Real>(passes) * of.deviation);
            const Real by_deviation =
                of.mean * off / (static_cast<Real>(passes - 1) * of.deviation * of.deviation * of.deviation);
            da(t, e) = dlogits.value(t, e) * (by_mean - by_deviation);
          }
          fill_row(Real{0}, dpass.row(t), d);
        });
        drop_rows(in, in.x, x, m, false, executor);
        map_.backward_rows(dlogits.rows, count, x, da, dx ? dpass : MatrixView<Real>{}, gradients, arena,
                           executor);
        arena.rewind(mark);
        if (!dx) continue;
        executor.parallel_for(count, [&](Index a, Index) noexcept {
          const Index t = row_of(a);
          drop_row(in, dpass.row(t), dx.row(t), t, m, true);
        });
      }
      return;
    }
    square_weights(scratch.squares);
    executor.parallel_for(count, [&](Index a, Index) noexcept {
      const Index t = row_of(a);
      Real* const along = dpass.row(t);
      fill_row(Real{0}, along, d);
      for (Index e = 0; e < n; ++e) {
        const Moments of = moments(kept_rows + t * n + e, size, false);
        da(t, e) = dlogits.value(t, e) / of.deviation;
        // Of the variance, twice; -> dx = ratio x sum_e dv_e W_e^2, dW_e = ratio W_e sum_t dv_te x_t^2.
        const Real dv =
            -dlogits.value(t, e) * of.mean / (of.deviation * of.deviation * of.deviation) * ratio();
        dlogits.value(t, e) = dv;
        axpy_row(dv, scratch.squares + e * d, along, d);
      }
      square_row(in.x.row(t), x.row(t));
      if (dx) fma_row(in.x.row(t), along, dx.row(t), d);
    });
    map_.backward_rows(dlogits.rows, count, in.x, da, dx, gradients, arena, executor);
    arena.rewind(mark);
    if (gradients == nullptr || count == 0) return;  // of no row: W may not be finite
    const ParameterView<const Real> w = map_.weight();
    const ParameterView<Real> dw = map_.weight_of(*gradients);
    executor.parallel_for(n, [&](Index e, Index) noexcept {
      Real* const sum = scratch.squares + e * d;
      fill_row(Real{0}, sum, d);
      for (Index a = 0; a < count; ++a) axpy_row(dlogits.value(row_of(a), e), x.row(row_of(a)), sum, d);
      for (Index j = 0; j < d; ++j) dw(e, j) = moe::fma(w(e, j), sum[j], dw(e, j));
    });
  }

  Gradients make_gradients() const { return map_.make_gradients(); }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    map_.visit_parameters("gate", gradients, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    map_.visit_storage("gate", gradients, f);
  }

 private:
  struct Scratch {
    Real* rows;     // [T, D] dropped, or squared
    Real* squares;  // [N, D] of W
    Scratch(Arena& arena, Index tokens, const UncertainScorer& of)
        : rows(arena.take<Real>(checked_product("dropped rows", tokens, of.width()))),
          squares(arena.take<Real>(checked_product("squared weights", of.outputs(), of.width()))) {}
  };
  struct Moments {
    Real mean, deviation;
  };

  bool draws(const RouterInput<Real>& in) const noexcept { return in.training && options_->passes > 0; }
  /// Most rows [T, N] that a call keeps.
  Index kept() const noexcept { return options_->passes > 2 ? options_->passes : 2; }
  Real ratio() const noexcept { return static_cast<Real>(options_->dropout / (1 - options_->dropout)); }

  /// Of the passes of one logit, `pitch` apart; or mean and variance themselves.
  Moments moments(const Real* first, Index pitch, bool drawn) const noexcept {
    Real mean = first[0], variance = first[pitch];
    if (drawn) {
      const Index passes = options_->passes;
      mean = 0;
      for (Index m = 0; m < passes; ++m) mean += first[m * pitch];
      mean /= static_cast<Real>(passes);
      variance = 0;
      for (Index m = 0; m < passes; ++m) {
        const Real off = first[m * pitch] - mean;
        variance = moe::fma(off, off, variance);
      }
      variance /= static_cast<Real>(passes - 1);
    }
    return {mean, std::sqrt(variance + static_cast<Real>(options_->eps))};
  }

  void square_weights(Real* squares) const noexcept {
    const ParameterView<const Real> w = map_.weight();
    for (Index e = 0; e < outputs(); ++e) {
      for (Index j = 0; j < width(); ++j) squares[e * width() + j] = w(e, j) * w(e, j);
    }
  }
  void square_row(const Real* x, Real* to) const noexcept {
    for (Index j = 0; j < width(); ++j) to[j] = x[j] * x[j];
  }

  /// to = from * m / (1 - p) of row t and pass m, or added to it.
  void drop_row(const RouterInput<Real>& in, const Real* from, Real* to, Index t, Index m,
                bool add) const noexcept {
    const KeyedRandom draw = in.random(DrawStream::jitter);
    const auto scale = static_cast<Real>(1 / (1 - options_->dropout));
    for (Index j = 0; j < width(); ++j) {
      const double u = draw.uniform(in.key(t), static_cast<std::uint32_t>(m * width() + j));
      const Real kept_value = u >= options_->dropout ? from[j] * scale : Real{0};
      to[j] = add ? to[j] + kept_value : kept_value;
    }
  }
  template <Executor X>
  void drop_rows(const RouterInput<Real>& in, const ConstMatrixView<Real>& from, const MatrixView<Real>& to,
                 Index m, bool add, X& executor) const noexcept {
    executor.parallel_for(from.rows,
                          [&](Index t, Index) noexcept { drop_row(in, from.row(t), to.row(t), t, m, add); });
  }

  Projection<Real> map_;
  impl::Movable<Options> options_;
};

MOE_NAMESPACE_END
