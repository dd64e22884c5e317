// What some routers do to a row of logits before the score function: soft caps, a fixed spread. A scorer with
// such a map behind it is a MappedScorer.
#pragma once

#include <concepts>
#include <cstdint>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/router/scorer.hpp"

MOE_NAMESPACE_BEGIN

/// Rows of n logits. `backward` turns the gradient of the mapped row into that of the raw one, in place.
template <class M>
concept LogitMap = std::copy_constructible<M> &&
    requires(const M& m, const double* raw, double* row, Index n) {
  m.forward(row, n);
  m.backward(raw, row, n);
};

/// cap tanh(h / cap): Grok 1 as served (30), Laguna.
class SoftCap {
 public:
  /// Throws config_error for a cap that is not positive and finite.
  explicit SoftCap(double cap) : cap_(cap) {
    if (!(cap > 0 && is_finite(cap))) fail<config_error>("soft cap: expected a finite value > 0, got ", cap);
  }

  template <class Real>
  void forward(Real* row, Index n) const noexcept {
    scale_row(static_cast<Real>(1 / cap_), row, row, n);
    activate_row(Tanh{}, row, row, n);
    scale_row(static_cast<Real>(cap_), row, row, n);
  }
  template <class Real>
  void backward(const Real* raw, Real* drow, Index n) const noexcept {
    const Real inverse = static_cast<Real>(1 / cap_);
    for (Index i = 0; i < n; ++i) drow[i] *= Tanh{}.derivative(Real(raw[i] * inverse));
  }

 private:
  double cap_;
};

/// h times spread / std(h), the standard deviation over the n >= 2 outputs with divisor n - 1 (Skywork-MoE
/// 2406.06563, MoE++). A row of equal logits stays as it is.
class LogitSpread {
 public:
  /// Throws config_error for a spread that is not positive and finite.
  explicit LogitSpread(double spread) : spread_(spread) {
    if (!(spread > 0 && is_finite(spread))) {
      fail<config_error>("logit spread: expected a finite value > 0, got ", spread);
    }
  }

  template <class Real>
  void forward(Real* row, Index n) const noexcept {
    const Moments<Real> m(row, n);
    if (m.deviation > 0) scale_row(static_cast<Real>(spread_) / m.deviation, row, row, n);
  }
  /// dh_j = f (d_j - <d, h> (h_j - mean) / ((n - 1) std^2)), f = spread / std.
  template <class Real>
  void backward(const Real* raw, Real* drow, Index n) const noexcept {
    const Moments<Real> m(raw, n);
    if (!(m.deviation > 0)) return;
    const Real factor = static_cast<Real>(spread_) / m.deviation;
    const Real through = dot(drow, raw, n) / (static_cast<Real>(n - 1) * m.deviation * m.deviation);
    for (Index i = 0; i < n; ++i) drow[i] = factor * (drow[i] - through * (raw[i] - m.mean));
  }

 private:
  template <class Real>
  struct Moments {
    Real mean = 0, deviation = 0;
    Moments(const Real* row, Index n) noexcept {
      if (n < 2) return;
      mean = sum_row(row, n) / static_cast<Real>(n);
      Real squares = 0;
      for (Index i = 0; i < n; ++i) squares += (row[i] - mean) * (row[i] - mean);
      deviation = math::square_root(Real(squares / static_cast<Real>(n - 1)));
    }
  };

  double spread_;
};

/// One of the maps, or none, chosen at run time.
class AnyLogitMap {
 public:
  AnyLogitMap() = default;
  AnyLogitMap(SoftCap map) : kind_(Kind::cap), cap_(map) {}            // NOLINT(google-explicit-constructor)
  AnyLogitMap(LogitSpread map) : kind_(Kind::spread), spread_(map) {}  // NOLINT(google-explicit-constructor)

  template <class Real>
  void forward(Real* row, Index n) const noexcept {
    if (kind_ == Kind::cap) cap_.forward(row, n);
    if (kind_ == Kind::spread) spread_.forward(row, n);
  }
  template <class Real>
  void backward(const Real* raw, Real* drow, Index n) const noexcept {
    if (kind_ == Kind::cap) cap_.backward(raw, drow, n);
    if (kind_ == Kind::spread) spread_.backward(raw, drow, n);
  }

 private:
  enum class Kind : std::uint8_t { none, cap, spread };
  Kind kind_ = Kind::none;
  SoftCap cap_{1};
  LogitSpread spread_{1};
};

/// Inner's logits through the map. Parameters are Inner's.
template <Scorer Inner, LogitMap Map>
class MappedScorer {
  static_assert(!Inner::kNoisy, "moe: a noisy scorer has three matrices of logits; map its inputs instead");

 public:
  using Real = typename Inner::Real;
  using Gradients = typename Inner::Gradients;
  struct Tape {
    typename Inner::Tape inner;
    Buffer<Real> raw;  // [T, N] logits before the map
  };
  static constexpr bool kNoisy = false;

  MappedScorer(Inner inner, Map map) : inner_(std::move(inner)), map_(std::move(map)) {}

  Index width() const noexcept { return inner_.width(); }
  Index outputs() const noexcept { return inner_.outputs(); }
  Inner& inner() noexcept { return inner_; }

  void measure(Arena& arena, Index tokens, Index concurrency) const {
    inner_.measure(arena, tokens, concurrency);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    inner_.measure_backward(arena, tokens, concurrency);
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    inner_.logits(in, out, tape == nullptr ? nullptr : &tape->inner, arena, executor);
    const Index n = outputs();
    Real* const raw = tape == nullptr ? nullptr : tape->raw.resize(checked_product("tape", in.tokens(), n));
    executor.parallel_for(in.tokens(), [&](Index t, Index) noexcept {
      if (raw != nullptr) copy_row(out.value.row(t), raw + t * n, n);
      if (in.takes_part(t)) map_.forward(out.value.row(t), n);
    });
  }

  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    const Index count = dlogits.rows == nullptr ? in.tokens() : dlogits.row_count;
    executor.parallel_for(count, [&](Index a, Index) noexcept {
      const Index t = dlogits.rows == nullptr ? a : Index{dlogits.rows[a]};
      map_.backward(tape.raw.data() + t * outputs(), dlogits.value.row(t), outputs());
    });
    inner_.backward(in, tape.inner, dlogits, dx, gradients, arena, executor);
  }

  Gradients make_gradients() const { return inner_.make_gradients(); }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    inner_.visit_parameters(gradients, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    inner_.visit_storage(gradients, f);
  }

 private:
  Inner inner_;
  Map map_;
};

MOE_NAMESPACE_END
