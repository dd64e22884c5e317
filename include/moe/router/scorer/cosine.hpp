// Cosine router: logits = cos(P x + b, s_e) / tau, P into a small space, s_e a direction per expert. X-MoE
// 2204.09179; the codes that go by that name differ in what they norm and in tau
// (router/named/cosine_top_k.hpp).
#pragma once

#include <cmath>
#include <limits>
#include <optional>

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
#include "moe/router/vector_length.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

struct RouteStats;

struct CosineScorerOptions {
  Index width = 0;              // D
  Index projected = 256;        // Dp; 0: no P, the rows themselves, Dp = D
  Index outputs = 0;            // N
  bool bias = true;             // of P
  double largest = 100;         // 1 / tau is at most this
  double tau = 0.5;             // at initialise(); for good if it is not trained
  bool trained_tau = true;      // parameter "temperature", ln(1 / tau)
  bool unit_rows = true;        // false: the length of P x + b counts
  bool unit_directions = true;  // false: the length of s_e counts
  double direction_length = 0;  // > 0: of every s_e, at initialise() and again after every step
};

/// Parameters "cosine_projector.weight" [Dp, D], "cosine_projector.bias" [Dp], "sim_matrix" [Dp, N] (columns
/// s_e), "temperature" [1, 1]. Zero until initialise(). Vectors shorter than 1e-12 count as that long.
template <class RealType>
class CosineScorer {
 public:
  using Real = RealType;
  using Options = CosineScorerOptions;
  struct Tape {
    Buffer<Real> projected;  // [T, Dp], or empty without P
  };
  struct Gradients {
    typename Projection<Real>::Gradients projection;
    Buffer<Real> direction;    // [N, Dp]
    Buffer<Real> temperature;  // [1] or empty
  };
  static constexpr const char* kName = "cosine";

  /// Throws config_error for sizes below 1 (of P: below 0), a largest factor below 1, a tau that is not
  /// positive or a direction length below 0, or one of them that is not finite.
  explicit CosineScorer(const Options& options) : options_(options), largest_log_(std::log(options.largest)) {
    require_range("projected width", options.projected, 0, INT32_MAX);
    require_range("width", options.width, 1, INT32_MAX);
    require_range("outputs", options.outputs, 1, INT32_MAX);
    if (!(options.largest >= 1 && options.largest <= 1e30)) {
      fail<config_error>("largest cosine factor: expected a value in [1, 1e30], got ", options.largest);
    }
    if (!(options.tau >= 1e-30 && options.tau <= 1e30)) {
      fail<config_error>("cosine tau: expected a value in [1e-30, 1e30], got ", options.tau);
    }
    if (!(options.direction_length >= 0 && is_finite(options.direction_length))) {
      fail<config_error>("cosine direction length: expected a finite value >= 0, got ",
                         options.direction_length);
    }
    if (options.projected > 0) projection_.emplace(options.width, options.projected, options.bias);
    direction_.assign(checked_product("directions", outputs(), projected()), Real{0});
    temperature_.assign(options.trained_tau ? 1 : 0, Real{0});
  }

  Index width() const noexcept { return options_->width; }
  /// Dp.
  Index projected() const noexcept { return projection_ ? projection_->out() : width(); }
  Index outputs() const noexcept { return options_->outputs; }
  /// s [N, Dp], and their gradient, for losses over them.
  const Real* directions() const noexcept { return direction_.data(); }
  static Real* directions_of(Gradients& gradients) noexcept { return gradients.direction.data(); }

  /// P uniform in +-1 / sqrt(D), directions normal.
  void initialise(std::uint64_t seed) {
    if (projection_) projection_->initialise(seed);
    const KeyedRandom draw(seed, 1, DrawStream::initialise);
    for (Index i = 0; i < direction_.size(); ++i) {
      direction_[i] = static_cast<Real>(draw.normal(static_cast<std::uint64_t>(i), 0));
    }
    set_lengths();
    temperature_.fill(static_cast<Real>(-std::log(options_->tau)));
  }

  void measure(Arena& arena, Index tokens, Index) const {
    take_rows(arena, tokens);
    take_units(arena);
    if (projection_) projection_->measure(arena, tokens);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    take_rows(arena, tokens);
    take_units(arena);
    take_units(arena);
    arena.take<Real>(projected());
    if (projection_) projection_->measure_backward(arena, tokens, concurrency);
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    const Index tokens = in.tokens(), p = projected();
    ConstMatrixView<Real> rows = in.x;
    if (projection_) {
      const MatrixView<Real> z(tape == nullptr ? take_rows(arena, tokens)
                                               : tape->projected.resize(checked_product("tape", tokens, p)),
                               tokens, p);
      projection_->forward(in.x, z, arena, executor);
      rows = z;
    }
    const Real* const unit = directions_used(arena);
    executor.parallel_for(tokens, [&](Index t, Index) noexcept {
      const Real* const z = rows.row(t);
      const Real factor = this->factor() / size_of(z, options_->unit_rows);
      for (Index e = 0; e < outputs(); ++e) out.value(t, e) = dot(z, unit + e * p, p) * factor;
      impl::finite_or_spoiled(out.value.row(t), outputs());
    });
  }

  /// With z = P x + b, u = z / |z|, v_e = s_e / |s_e| and the factor f: dL/du = f sum_e dL_e v_e, and a unit
  /// vector's gradient passes on what is perpendicular to it, over the length.
  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    impl::check_gradients_of(*this, gradients);
    const Index tokens = in.tokens(), p = projected();
    const Index count = dlogits.rows == nullptr ? tokens : dlogits.row_count;
    const ConstMatrixView<Real> rows =
        projection_ ? ConstMatrixView<Real>(impl::taped(kName, tape.projected, tokens * p), tokens, p) : in.x;
    if (count == 0) return;  // what is not finite spoiled them all
    const MatrixView<Real> dz(take_rows(arena, tokens), tokens, p);
    const Real* const unit = directions_used(arena);
    Real* const dunit = take_units(arena);
    Real* const u = arena.take<Real>(p);
    fill_row(Real{0}, dz.data, tokens * p);
    fill_row(Real{0}, dunit, outputs() * p);
    Real dtemperature = 0;
    const Real f = factor();
    for (Index a = 0; a < count; ++a) {  // ascending: sums over rows have one order
      const Index t = dlogits.rows == nullptr ? a : Index{dlogits.rows[a]};
      const Real* const z = rows.row(t);
      const Real size = size_of(z, options_->unit_rows);
      scale_row(1 / size, z, u, p);
      for (Index e = 0; e < outputs(); ++e) {
        const Real d = dlogits.value(t, e) * f;
        dtemperature += d * dot(u, unit + e * p, p);
        axpy_row(d, unit + e * p, dz.row(t), p);
        axpy_row(d, u, dunit + e * p, p);
      }
      if (options_->unit_rows) through_length(u, size, dz.row(t));
      if (!projection_ && dx) add_row(dz.row(t), dx.row(t), p);
    }
    if (gradients != nullptr) {
      for (Index e = 0; e < outputs(); ++e) {
        if (options_->unit_directions) {
          through_length(unit + e * p, length(direction_.data() + e * p), dunit + e * p);
        }
        add_row(dunit + e * p, gradients->direction.data() + e * p, p);
      }
      if (options_->trained_tau && static_cast<double>(temperature_[0]) < largest_log_) {
        gradients->temperature[0] += dtemperature;
      }
    }
    if (projection_) {
      projection_->backward_rows(dlogits.rows, count, in.x, dz, dx,
                                 gradients == nullptr ? nullptr : &gradients->projection, arena, executor);
    }
  }

  void on_step_end(const RouteStats&) noexcept { set_lengths(); }

  Gradients make_gradients() const {
    Gradients gradients{{}, Buffer<Real>(direction_.size()), Buffer<Real>(temperature_.size())};
    if (projection_) gradients.projection = projection_->make_gradients();
    return gradients;
  }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    const bool with = gradients != nullptr;
    if (projection_) {
      projection_->visit_parameters("cosine_projector", with ? &gradients->projection : nullptr, f);
    }
    f(Parameter<Real>{"sim_matrix", direction_view(direction_),
                      with ? direction_view(gradients->direction) : ParameterView<Real>{}});
    if (!options_->trained_tau) return;
    f(Parameter<Real>{
        "temperature",
        {temperature_.data(), 1, 1},
        with ? ParameterView<Real>{gradients->temperature.data(), 1, 1} : ParameterView<Real>{}});
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    if (projection_) {
      projection_->visit_storage("cosine_projector", gradients == nullptr ? nullptr : &gradients->projection,
                                 f);
    }
    visit_buffer(f, "sim_matrix", direction_, gradients, &Gradients::direction);
    visit_buffer(f, "temperature", temperature_, gradients, &Gradients::temperature);
  }

 private:
  Real* take_rows(Arena& arena, Index tokens) const {
    return arena.take<Real>(checked_product("projected rows", tokens, projected()));
  }
  Real* take_units(Arena& arena) const { return arena.take<Real>(direction_.size()); }
  /// [N, Dp] as stored is the transpose of [Dp, N] as published.
  ParameterView<Real> direction_view(Buffer<Real>& values) const noexcept {
    return {values.data(), projected(), outputs(), projected(), 0, projected()};
  }

  Real length(const Real* v) const noexcept { return impl::length_of(v, projected()); }
  /// What v is divided by.
  Real size_of(const Real* v, bool unit) const noexcept { return unit ? length(v) : Real{1}; }
  /// NaN for a temperature that is not finite: the largest factor would hide it.
  Real factor() const noexcept {
    const double t = options_->trained_tau ? static_cast<double>(temperature_[0]) : -std::log(options_->tau);
    if (!is_finite(t)) return std::numeric_limits<Real>::quiet_NaN();
    return static_cast<Real>(::exp(t < largest_log_ ? t : largest_log_));
  }
  /// v_e.
  Real* directions_used(Arena& arena) const {
    Real* const unit = take_units(arena);
    for (Index e = 0; e < outputs(); ++e) {
      const Real* const s = direction_.data() + e * projected();
      scale_row(1 / size_of(s, options_->unit_directions), s, unit + e * projected(), projected());
    }
    return unit;
  }
  void set_lengths() noexcept {
    for (Index e = 0; options_->direction_length > 0 && e < outputs(); ++e) {
      Real* const s = direction_.data() + e * projected();
      scale_row(static_cast<Real>(options_->direction_length) / length(s), s, s, projected());
    }
  }
  /// d = the gradient of a vector whose unit vector is u and whose length is `size`, from that of u.
  void through_length(const Real* u, Real size, Real* d) const noexcept {
    if (size > static_cast<Real>(impl::kShortestLength)) axpy_row(-dot(u, d, projected()), u, d, projected());
    scale_row(1 / size, d, d, projected());
  }

  impl::Movable<Options> options_;
  std::optional<Projection<Real>> projection_;  // D to Dp
  double largest_log_;
  Buffer<Real> direction_;    // [N, Dp]
  Buffer<Real> temperature_;  // [1] log of the factor, or empty
};

MOE_NAMESPACE_END
