// A scorer with Gumbel noise behind it, in training: the softmax of the noisy logits over a temperature is a
// relaxed draw from the softmax of the clean ones (Jang et al. 1611.01144); EvoMoE, Nie et al. 2112.14397.
#pragma once

#include <math.h>

#include <cstdint>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/random.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/router/scorer/inner.hpp"

MOE_NAMESPACE_BEGIN

/// Inner's logits plus scale * g, g = -ln(-ln u), u drawn per (seed, call, row key, output); the call's
/// temperature divides their sum. Inference: Inner's. Parameters are Inner's. Losses on logits see the noise.
template <Scorer Inner>
class GumbelScorer : public impl::InnerScorer<GumbelScorer<Inner>, Inner> {
  using Base = impl::InnerScorer<GumbelScorer<Inner>, Inner>;

 public:
  using Base::inner;
  using Base::outputs;
  using Real = typename Inner::Real;
  using Tape = typename Inner::Tape;

  /// scale 0: no noise. Throws config_error for a scale below 0 or not finite, and for a scorer that is
  /// noisy.
  explicit GumbelScorer(Inner scorer, double scale = 1) : Base(std::move(scorer)), scale_(scale) {
    if (!(scale >= 0 && is_finite(scale))) {
      fail<config_error>("scale of the Gumbel noise: expected a finite value >= 0, got ", scale);
    }
    if (impl::is_noisy(inner())) fail<config_error>("scorer: expected one without noise under Gumbel noise");
  }

  void initialise(std::uint64_t seed, double scale = 1) { inner().initialise(seed, scale); }

  void check_call(const RouterInput<Real>& in) const {
    if (in.training && scale_ > 0) in.require_draws("a router with Gumbel noise");
    impl::check_call_of(inner(), in);
  }

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    impl::visit_names_of(role, inner(), f);
    f("logits", "gumbel");
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    inner().logits(in, out, tape, arena, executor);
    if (!in.training || scale_ == 0) return;
    const KeyedRandom draw = in.random(DrawStream::logit_noise);
    executor.parallel_for(in.tokens(), [&](Index t, Index) noexcept {
      for (Index e = 0; e < outputs(); ++e) {
        const double u = draw.uniform(in.key(t), static_cast<std::uint32_t>(e));
        out.value(t, e) += static_cast<Real>(-scale_ * ::log(-::log(u)));
      }
    });
  }

 private:
  double scale_;
};

MOE_NAMESPACE_END
