// A scorer with Gaussian noise of one size behind it, in training: V-MoE, Riquelme et al. 2106.05974 section
// 2, whose standard deviation is 1 / N.
#pragma once

#include <cstdint>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/random.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/router/scorer/inner.hpp"

MOE_NAMESPACE_BEGIN

/// Inner's logits plus sigma * eps, eps ~ N(0, 1) drawn per (seed, call, row key, output); the load loss sees
/// the logits without the noise as well. Inference: Inner's. Parameters are Inner's.
template <Scorer Inner>
class FixedNoise : public impl::InnerScorer<FixedNoise<Inner>, Inner> {
  using Base = impl::InnerScorer<FixedNoise<Inner>, Inner>;

 public:
  using Base::inner;
  using Base::outputs;
  using Real = typename Inner::Real;
  using Gradients = typename Inner::Gradients;
  using Tape = typename Inner::Tape;

  /// sigma 0: no noise. Throws config_error for a sigma below 0 or not finite, and for a scorer that is
  /// noisy.
  FixedNoise(Inner scorer, double sigma) : Base(std::move(scorer)), sigma_(sigma) {
    if (!(sigma >= 0 && is_finite(sigma))) {
      fail<config_error>("noise of the logits: expected a finite standard deviation >= 0, got ", sigma);
    }
    if (impl::is_noisy(inner())) fail<config_error>("scorer: expected one without noise under fixed noise");
  }

  bool noisy() const noexcept { return sigma_ > 0; }
  void initialise(std::uint64_t seed, double scale = 1) { inner().initialise(seed, scale); }

  void check_call(const RouterInput<Real>& in) const {
    if (in.training && noisy()) in.require_draws("a router with noise");
    impl::check_call_of(inner(), in);
  }

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    impl::visit_names_of(role, inner(), f);
    f("logits", "fixed_noise");
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    inner().logits(in, Logits<Real>{.value = out.value, .carry = out.carry}, tape, arena, executor);
    if (!in.training || !noisy()) return;
    const KeyedRandom draw = in.random(DrawStream::logit_noise);
    executor.parallel_for(in.tokens(), [&](Index t, Index) noexcept {
      copy_row(out.value.row(t), out.clean.row(t), outputs());
      fill_row(static_cast<Real>(sigma_), out.noise_scale.row(t), outputs());
      for (Index e = 0; e < outputs(); ++e) {
        const double eps = draw.normal(in.key(t), static_cast<std::uint32_t>(e));
        out.value(t, e) += static_cast<Real>(sigma_ * eps);
      }
    });
  }

  /// The noise has no parameter: what came of its size ends here.
  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    for (Index t = 0; in.training && noisy() && t < in.tokens(); ++t)
      add_row(dlogits.clean.row(t), dlogits.value.row(t), outputs());
    Logits<Real> of_value = dlogits;
    of_value.clean = of_value.noise_scale = {};
    inner().backward(in, tape, of_value, dx, gradients, arena, executor);
  }

 private:
  double sigma_;
};

MOE_NAMESPACE_END
