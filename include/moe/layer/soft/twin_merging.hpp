// Twin-Merging, Lu et al. 2406.15479: what trained experts share, and, for every segment, a mixture of what
// they do not, compressed. expert/bank/task_vectors.hpp takes the experts apart.
#pragma once

#include <utility>

#include "moe/expert/bank/twin.hpp"
#include "moe/layer/soft/merging_layer.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/soft/segment_mixer.hpp"

MOE_NAMESPACE_BEGIN

struct TwinMergingOptions {
  Index features = 0;  // columns of router_x, rows of a frozen model; 0: the layer's own rows
  NonFinite non_finite = NonFinite::throw_;
};

/// theta = theta_shared + sum over e of p_e U_e V_e, p the softmax over the mean of the segment's features,
/// which get no gradient: the paper trains the mixer, on features of a frozen model, and nothing else.
template <class B>
using TwinMerging = MergingLayer<SegmentMixer<LinearScorer<typename B::Real>>, TwinExperts<B>>;

///   auto layer = moe::twin_merging(moe::twin_experts(shared, experts, {.rank = 8, .keep = 0.2}));
/// The mixer is 0: equal shares. Throws config_error for features below 0.
template <class B>
TwinMerging<B> twin_merging(TwinExperts<B> experts, const TwinMergingOptions& o = {}) {
  using Real = typename B::Real;
  require_range("features", o.features, 0, INT32_MAX);
  LinearScorer<Real> scorer(
      {.width = o.features == 0 ? experts.width() : o.features, .outputs = experts.experts(), .bias = true});
  return {SegmentMixer<LinearScorer<Real>>(std::move(scorer), {.detached = true, .non_finite = o.non_finite}),
          std::move(experts)};
}

MOE_NAMESPACE_END
