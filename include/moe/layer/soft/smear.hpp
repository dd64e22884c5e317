// SMEAR, Muqeeth et al. 2306.03745: one expert a segment, merged by the softmax of the segment's mean row.
#pragma once

#include <utility>

#include "moe/expert/bank/mlp.hpp"
#include "moe/layer/soft/merging_layer.hpp"
#include "moe/router/scorer/layer_norm.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/soft/segment_mixer.hpp"

MOE_NAMESPACE_BEGIN

struct SmearOptions {
  Index width = 0;       // D
  Index hidden = 0;      // F: the paper's experts are adapters of a bottleneck
  Index experts = 0;     // E
  bool bias = false;     // of the experts
  double dropout = 0.1;  // training: whole experts, as in the paper
  double norm_eps = 1e-5;
  NonFinite non_finite = NonFinite::throw_;
};

/// p = softmax(W LN(mean of the segment's rows)), y_t = E_theta(x_t), theta = sum of p_e theta_e: no loss, no
/// choice. A residual around the adapters is the caller's. Not causal.
template <class Real>
using SmearMixer = SegmentMixer<LayerNormScorer<LinearScorer<Real>>>;

/// Over any MergingBank.
template <MergingBank B>
using Smear = MergingLayer<SmearMixer<typename B::Real>, B>;

/// Throws config_error for sizes, a dropout or an eps out of range.
template <class Real>
SmearMixer<Real> smear_mixer(const SmearOptions& o) {
  return SmearMixer<Real>(LayerNormScorer<LinearScorer<Real>>(
                              LinearScorer<Real>({.width = o.width, .outputs = o.experts}), o.norm_eps),
                          {.dropout = o.dropout, .non_finite = o.non_finite});
}
/// Experts z = W2 act(W1 x + b1) + b2, all zero as the mixer: initialise() both. Throws config_error.
template <class Real, Activation Act = Relu>
Smear<Mlp<Act, Real>> smear(const SmearOptions& o, Act act = {}) {
  return {smear_mixer<Real>(o), Mlp<Act, Real>({o.experts, o.width, o.hidden, o.bias}, std::move(act))};
}

MOE_NAMESPACE_END
