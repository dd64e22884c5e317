// Cosine router: logits = cos(P x + b, s_e) * exp(min(temperature, ln 100)), P into a small space, s_e a
// direction per expert (X-MoE 2204.09179; Tutel and Swin-MoE).
#pragma once

#include <cmath>
#include <limits>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/random.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/math.hpp"
#include "moe/kernel/row.hpp"
#include "moe/product/projection.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

struct CosineScorerOptions {
  Index width = 0;        // D
  Index projected = 256;  // Dp
  Index outputs = 0;      // N
  bool bias = true;       // of P
  double largest = 100;   // exp(temperature) is at most this
};

/// Parameters "cosine_projector.weight" [Dp, D], "cosine_projector.bias" [Dp], "sim_matrix" [Dp, N] (columns
/// s_e), "temperature" [1, 1]. Zero until initialise(). Vectors shorter than 1e-12 count as that long.
template <class RealType>
class CosineScorer {
 public:
  using Real = RealType;
  using Options = CosineScorerOptions;
  struct Tape {
    Buffer<Real> projected;  // [T, Dp]
  };
  struct Gradients {
    typename Projection<Real>::Gradients projection;
    Buffer<Real> direction;    // [N, Dp]
    Buffer<Real> temperature;  // [1]
  };
  static constexpr const char* kName = "cosine";

  /// Throws config_error for sizes below 1 or a largest factor below 1 or not finite.
  explicit CosineScorer(const Options& options)
      : projection_(options.width, options.projected, options.bias),
        outputs_(options.outputs),
        largest_log_(std::log(options.largest)) {
    require_range("outputs", options.outputs, 1, INT32_MAX);
    if (!(options.largest >= 1 && options.largest <= 1e30)) {
      fail<config_error>("largest cosine factor: expected a value in [1, 1e30], got ", options.largest);
    }
    direction_.assign(checked_product("directions", outputs_, options.projected), Real{0});
    temperature_.assign(1, Real{0});
  }

  Index width() const noexcept { return projection_.in(); }
  Index projected() const noexcept { return projection_.out(); }
  Index outputs() const noexcept { return outputs_; }

  /// P uniform in +-1 / sqrt(D), directions normal, temperature ln 2 (factor 1 / 0.5, Tutel's start).
  void initialise(std::uint64_t seed) {
    projection_.initialise(seed);
    const KeyedRandom draw(seed, 1, DrawStream::initialise);
    for (Index i = 0; i < direction_.size(); ++i) {
      direction_[i] = static_cast<Real>(draw.normal(static_cast<std::uint64_t>(i), 0));
    }
    temperature_.fill(static_cast<Real>(0.69314718055994531));
  }

  void measure(Arena& arena, Index tokens, Index) const {
    take_rows(arena, tokens);
    take_units(arena);
    projection_.measure(arena, tokens);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    take_rows(arena, tokens);
    take_units(arena);
    take_units(arena);
    arena.take<Real>(projected());
    projection_.measure_backward(arena, tokens, concurrency);
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    const Index tokens = in.tokens(), p = projected();
    Real* const rows = tape == nullptr ? take_rows(arena, tokens)
                                       : tape->projected.resize(checked_product("tape", tokens, p));
    projection_.forward(in.x, MatrixView<Real>(rows, tokens, p), arena, executor);
    Real* const unit = unit_directions(arena);
    executor.parallel_for(tokens, [&](Index t, Index) noexcept {
      const Real* const z = rows + t * p;
      const Real factor = this->factor() / length(z);
      for (Index e = 0; e < outputs_; ++e) out.value(t, e) = dot(z, unit + e * p, p) * factor;
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
    const Real* const projected_rows = impl::taped(kName, tape.projected, tokens * p);
    if (count == 0) return;  // what is not finite spoiled them all
    const MatrixView<Real> dz(take_rows(arena, tokens), tokens, p);
    const Real* const unit = unit_directions(arena);
    Real* const dunit = take_units(arena);
    Real* const u = arena.take<Real>(p);
    fill_row(Real{0}, dz.data, tokens * p);
    fill_row(Real{0}, dunit, outputs_ * p);
    Real dtemperature = 0;
    const Real f = factor();
    for (Index a = 0; a < count; ++a) {  // ascending: sums over rows have one order
      const Index t = dlogits.rows == nullptr ? a : Index{dlogits.rows[a]};
      const Real* const z = projected_rows + t * p;
      const Real size = length(z);
      scale_row(1 / size, z, u, p);
      for (Index e = 0; e < outputs_; ++e) {
        const Real d = dlogits.value(t, e) * f;
        dtemperature += d * dot(u, unit + e * p, p);
        axpy_row(d, unit + e * p, dz.row(t), p);
        axpy_row(d, u, dunit + e * p, p);
      }
      through_length(u, size, dz.row(t));
    }
    if (gradients != nullptr) {
      for (Index e = 0; e < outputs_; ++e) {
        through_length(unit + e * p, length(direction_.data() + e * p), dunit + e * p);
        add_row(dunit + e * p, gradients->direction.data() + e * p, p);
      }
      if (static_cast<double>(temperature_[0]) < largest_log_) gradients->temperature[0] += dtemperature;
    }
    projection_.backward_rows(dlogits.rows, count, in.x, dz, dx,
                              gradients == nullptr ? nullptr : &gradients->projection, arena, executor);
  }

  Gradients make_gradients() const {
    return {projection_.make_gradients(), Buffer<Real>(direction_.size()), Buffer<Real>(1)};
  }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    const bool with = gradients != nullptr;
    projection_.visit_parameters("cosine_projector", with ? &gradients->projection : nullptr, f);
    f(Parameter<Real>{"sim_matrix", direction_view(direction_),
                      with ? direction_view(gradients->direction) : ParameterView<Real>{}});
    f(Parameter<Real>{
        "temperature",
        {temperature_.data(), 1, 1},
        with ? ParameterView<Real>{gradients->temperature.data(), 1, 1} : ParameterView<Real>{}});
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    projection_.visit_storage("cosine_projector", gradients == nullptr ? nullptr : &gradients->projection, f);
    visit_buffer(f, "sim_matrix", direction_, gradients, &Gradients::direction);
    visit_buffer(f, "temperature", temperature_, gradients, &Gradients::temperature);
  }

 private:
  static constexpr double kShortest = 1e-12;

  Real* take_rows(Arena& arena, Index tokens) const {
    return arena.take<Real>(checked_product("projected rows", tokens, projected()));
  }
  Real* take_units(Arena& arena) const { return arena.take<Real>(direction_.size()); }
  /// [N, Dp] as stored is the transpose of [Dp, N] as published.
  ParameterView<Real> direction_view(Buffer<Real>& values) const noexcept {
    return {values.data(), projected(), outputs_, projected(), 0, projected()};
  }

  /// NaN of a vector that is not finite, or too long.
  Real length(const Real* v) const noexcept {
    const Real squares = squared_norm(v, projected());
    const Real size = is_finite(squares) ? math::square_root(squares)
                                         : static_cast<Real>(::sqrt(wide_squared_norm(v, projected())));
    if (!is_finite(size)) return std::numeric_limits<Real>::quiet_NaN();
    return size > static_cast<Real>(kShortest) ? size : static_cast<Real>(kShortest);
  }
  /// NaN for a temperature that is not finite: the largest factor would hide it.
  Real factor() const noexcept {
    const double t = static_cast<double>(temperature_[0]);
    if (!is_finite(t)) return std::numeric_limits<Real>::quiet_NaN();
    return static_cast<Real>(::exp(t < largest_log_ ? t : largest_log_));
  }
  Real* unit_directions(Arena& arena) const {
    Real* const unit = take_units(arena);
    for (Index e = 0; e < outputs_; ++e) {
      const Real* const s = direction_.data() + e * projected();
      scale_row(1 / length(s), s, unit + e * projected(), projected());
    }
    return unit;
  }
  /// d = the gradient of a vector whose unit vector is u and whose length is `size`, from that of u.
  void through_length(const Real* u, Real size, Real* d) const noexcept {
    if (size > static_cast<Real>(kShortest)) axpy_row(-dot(u, d, projected()), u, d, projected());
    scale_row(1 / size, d, d, projected());
  }

  Projection<Real> projection_;  // D to Dp
  impl::Movable<Index> outputs_;
  double largest_log_;
  Buffer<Real> direction_;    // [N, Dp]
  Buffer<Real> temperature_;  // [1] log of the factor
};

MOE_NAMESPACE_END
