// Many small experts, chosen by the sign of their logits and weighed by a norm of the positive ones.
// BlockFFN, Song et al. 2507.08771. Its experts have no gate: moe/expert/bank/mlp.hpp with Silu.
#pragma once

#include "moe/router/balance/activation_locality.hpp"
#include "moe/router/balance/chunk_sparsity.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/relu_rms.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/positive.hpp"
#include "moe/router/weighting/expert_scale.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

/// The coefficients are those of the released launcher, whose schedule of the second is the caller's:
/// balancing().part<ChunkSparsity>() takes a new one between steps.
struct BlockFfnOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  double eps = 1e-6;  // of the norm
  ActivationLocality::Options locality{};
  ChunkSparsity::Options chunks{};
  NonFinite non_finite = NonFinite::throw_;
};

/// 0 to E experts per token; weights are the normed positive logits times a trained gain, which may be
/// negative.
template <class Real>
using BlockFfnRouter =
    TokenChoice<LinearScorer<Real>, ReluRmsScore, PositiveSelection, ExpertScale<Real, GatherWeighting>,
                Balancing<ActivationLocality, ChunkSparsity>>;

/// Throws config_error for sizes or options that do not fit.
template <class Real>
BlockFfnRouter<Real> block_ffn_router(const BlockFfnOptions& options) {
  return {LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
          ReluRmsScore({.eps = options.eps}),
          PositiveSelection{},
          ExpertScale<Real, GatherWeighting>(GatherWeighting{}, options.experts),
          Balancing<ActivationLocality, ChunkSparsity>(ActivationLocality(options.locality),
                                                       ChunkSparsity(options.chunks)),
          options.non_finite};
}

MOE_NAMESPACE_END
