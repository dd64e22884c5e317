// Mixture of Tokens: rows at the same position of g sequences mix into one token for each expert, and its
// result goes back to them by the same weights. Causal, but a row of one sequence sees the others' rows of
// its position: IsolatedLayer refuses it. Antoniak et al. 2310.15961.
#pragma once

#include "moe/router/scorer/linear.hpp"
#include "moe/router/soft/mix_groups.hpp"
#include "moe/router/soft/mix_router.hpp"

MOE_NAMESPACE_BEGIN

struct MixtureOfTokensOptions {
  Index width = 0;     // D
  Index experts = 0;   // E
  Index group = 32;    // g, sequences that mix; one: every expert reads every row
  bool shares = true;  // false: a row's weights of the results are a softmax over the experts
  NonFinite non_finite = NonFinite::throw_;
};

/// Sequences are the segments of the call; without, the batch is one, whose rows mix with nobody. The call's
/// temperature moves the mixture to the group's best row for each expert.
template <class Real>
using MixtureOfTokensRouter = MixRouter<LinearScorer<Real>, PositionGroups>;

/// Throws config_error for sizes below 1.
template <class Real>
MixtureOfTokensRouter<Real> mixture_of_tokens(const MixtureOfTokensOptions& options) {
  return MixtureOfTokensRouter<Real>(
      LinearScorer<Real>({.width = options.width, .outputs = options.experts}), PositionGroups(options.group),
      {.weights = options.shares ? MixWeights::rows : MixWeights::rows_and_slots,
       .non_finite = options.non_finite});
}

MOE_NAMESPACE_END
