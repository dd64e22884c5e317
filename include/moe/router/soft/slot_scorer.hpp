// Soft MoE's logits: cosines of rows and slots, times a trained scale, which stands at the slots alone. The
// unit lengths keep the softmaxes from collapsing as D grows. Puigcerver et al. 2308.00951, section 2.3.
#pragma once

#include <math.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/panel.hpp"
#include "moe/kernel/row.hpp"
#include "moe/product/projection.hpp"
#include "moe/router/logit_checks.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/router/vector_length.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

struct SlotScorerOptions {
  Index width = 0;  // D
  Index slots = 0;  // N
};

/// logits = scale * <x / |x|, phi_n / |phi_n|>. Parameters "phi.weight" [N, D], zero until initialise(),
/// "scale" [1, 1], 1 at first. Vectors shorter than 1e-12 count as that long.
template <class RealType>
class SlotScorer {
 public:
  using Real = RealType;
  using Options = SlotScorerOptions;
  struct Tape {
    Buffer<Real> cosine;  // [T, N]
  };
  struct Gradients {
    typename Projection<Real>::Gradients phi;
    Buffer<Real> scale;  // [1]
  };
  static constexpr const char* kName = "slots";

  /// Throws config_error for sizes below 1.
  explicit SlotScorer(const Options& options) : phi_(options.width, options.slots, false), scale_(1) {
    scale_[0] = 1;
  }

  Index width() const noexcept { return phi_.in(); }
  Index outputs() const noexcept { return phi_.out(); }
  Projection<Real>& phi() noexcept { return phi_; }
  Real scale() const noexcept { return scale_[0]; }
  void set_scale(Real scale) noexcept { scale_[0] = scale; }

  /// Directions at random; their lengths do not count.
  void initialise(std::uint64_t seed) { phi_.initialise(seed); }

  void measure(Arena& arena, Index tokens, Index) const {
    arena.take<Real>(outputs());
    phi_.measure(arena, tokens);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    arena.take<Real>(outputs());
    arena.take<Real>(outputs());
    phi_.measure_backward(arena, tokens, concurrency);
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    const Index tokens = in.tokens(), n = outputs();
    const Real* const inverse = inverse_lengths(arena, executor);
    phi_.forward(in.x, out.value, arena, executor);
    Real* const kept = tape == nullptr ? nullptr : tape->cosine.resize(checked_product("tape", tokens, n));
    executor.parallel_for(ceil_div(tokens, kTokens), [&](Index block, Index) noexcept {
      for (Index t = block * kTokens; t < tokens && t < (block + 1) * kTokens; ++t) {
        Real* const l = out.value.row(t);
        const Real length = impl::length_of(in.x.row(t), width());
        for (Index s = 0; s < n; ++s) l[s] = l[s] / length * inverse[s];
        if (kept != nullptr) copy_row(l, kept + t * n, n);
        scale_row(scale(), l, l, n);
        impl::finite_or_spoiled(l, n);
      }
    });
  }

  /// With d the gradient of the logits scale * c: e_tn = scale d_tn / (|x_t| |phi_n|) is that of
  /// <x_t, phi_n>, and a length takes back what changes it: dx_t -= x_t scale <d_t, c_t> / |x_t|^2, and so
  /// for phi_n.
  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    impl::check_gradients_of(*this, gradients);
    const Index n = outputs(), count = dlogits.rows == nullptr ? in.tokens() : dlogits.row_count;
    const Real* const cosine = impl::taped(kName, tape.cosine, in.tokens() * n);
    const auto row_at = [&](Index a) { return dlogits.rows == nullptr ? a : Index{dlogits.rows[a]}; };
    const Real* const inverse = inverse_lengths(arena, executor);
    Real* const inner = arena.take<Real>(n);  // <d, c> by slot
    fill_row(Real{0}, inner, n);
    for (Index a = 0; a < count; ++a) {  // ascending: sums over rows have one order
      fma_row(dlogits.value.row(row_at(a)), cosine + row_at(a) * n, inner, n);
    }
    executor.parallel_for(ceil_div(count, kTokens), [&](Index block, Index) noexcept {
      for (Index a = block * kTokens; a < count && a < (block + 1) * kTokens; ++a) {
        const Index t = row_at(a);
        Real* const d = dlogits.value.row(t);
        const Real length = impl::length_of(in.x.row(t), width());
        const Real along = scale() * dot(d, cosine + t * n, n);
        for (Index s = 0; s < n; ++s) d[s] = d[s] * scale() * inverse[s] / length;
        if (dx && length > shortest()) axpy_row(-along / (length * length), in.x.row(t), dx.row(t), width());
      }
    });
    phi_.backward_rows(dlogits.rows, count, in.x, dlogits.value, dx,
                       gradients == nullptr ? nullptr : &gradients->phi, arena, executor);
    if (gradients == nullptr) return;
    gradients->scale[0] += sum_row(inner, n);
    const ParameterView<const Real> phi = phi_.weight();
    const ParameterView<Real> dphi = phi_.weight_of(gradients->phi);
    executor.parallel_for(ceil_div(n, kPanel<Real>), [&](Index panel, Index) noexcept {
      const Index first = panel * kPanel<Real>, last = (std::min)(first + kPanel<Real>, n);
      for (Index i = 0; i < width(); ++i) {
        for (Index s = first; s < last; ++s) {
          if (1 / inverse[s] > shortest())
            dphi(s, i) -= scale() * inner[s] * inverse[s] * inverse[s] * phi(s, i);
        }
      }
    });
  }

  Gradients make_gradients() const { return {phi_.make_gradients(), Buffer<Real>(1)}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    phi_.visit_parameters("phi", gradients == nullptr ? nullptr : &gradients->phi, f);
    if (scale_.size() == 0) return;  // moved from
    f(Parameter<Real>{
        "scale",
        {scale_.data(), 1, 1},
        gradients == nullptr ? ParameterView<Real>{} : ParameterView<Real>{gradients->scale.data(), 1, 1}});
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    phi_.visit_storage("phi", gradients == nullptr ? nullptr : &gradients->phi, f);
    visit_buffer(f, "scale", scale_, gradients, &Gradients::scale);
  }

 private:
  static constexpr Index kTokens = 32;  // a worker takes at once

  static Real shortest() noexcept { return static_cast<Real>(impl::kShortestLength); }

  /// 1 / |phi_n|.
  template <Executor X>
  const Real* inverse_lengths(Arena& arena, X& executor) const {
    Real* const inverse = arena.take<Real>(outputs());
    const ParameterView<const Real> phi = phi_.weight();
    executor.parallel_for(ceil_div(outputs(), kPanel<Real>), [&](Index panel, Index) noexcept {
      const Index first = panel * kPanel<Real>, last = (std::min)(first + kPanel<Real>, outputs());
      double squares[kPanel<Real>] = {};
      for (Index i = 0; i < width(); ++i) {
        for (Index s = first; s < last; ++s) {
          squares[s - first] += static_cast<double>(phi(s, i)) * static_cast<double>(phi(s, i));
        }
      }
      for (Index s = first; s < last; ++s) {
        const double length = (std::max)(::sqrt(squares[s - first]), impl::kShortestLength);
        const bool finite = is_finite(squares[s - first]);
        inverse[s] = finite ? static_cast<Real>(1 / length) : std::numeric_limits<Real>::quiet_NaN();
      }
    });
    return inverse;
  }

  Projection<Real> phi_;
  Buffer<Real> scale_;  // [1]
};

MOE_NAMESPACE_END
