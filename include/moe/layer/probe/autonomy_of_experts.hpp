// Autonomy of Experts, 2501.13074: no router. Experts are chosen by the length of what the first factor of
// their gates makes of a row.
#pragma once

#include "moe/expert/bank/probing_glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/probe/probing_layer.hpp"
#include "moe/router/balance/load_balance.hpp"
#include "moe/router/kind/response.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/rows.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

struct AutonomyOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index hidden = 0;   // F
  Index probe = 0;    // r; the paper's D / 3
  Index k = 2;
  double load_balance = 0.01;          // coefficient, of the softmax of the lengths
  GatherWeighting::Options weights{};  // as they are (the authors' code)
  NonFinite non_finite = NonFinite::throw_;
};

/// Softmax over the lengths of all experts' probes, the k best, their probabilities as weights: so lengths of
/// experts that were not chosen have a gradient, too.
template <class Real>
using AutonomyRouter = ResponseRouter<
    TokenChoice<RowScorer<Real>, Softmax, TopKSelection, GatherWeighting, Balancing<LoadBalance>>>;

template <class Real, class Act = Silu>
using AutonomyOfExperts = ProbingLayer<AutonomyRouter<Real>, ProbingGlu<Act, Real>>;

/// Throws config_error for sizes or a k that do not fit.
template <class Real, class Act = Silu>
AutonomyOfExperts<Real, Act> autonomy_of_experts(const AutonomyOptions& options) {
  using Inner = TokenChoice<RowScorer<Real>, Softmax, TopKSelection, GatherWeighting, Balancing<LoadBalance>>;
  return {
      AutonomyRouter<Real>(Inner{RowScorer<Real>(options.experts), Softmax{}, TopKSelection(options.k),
                                 GatherWeighting(options.weights),
                                 Balancing<LoadBalance>(LoadBalance({.coefficient = options.load_balance})),
                                 options.non_finite}),
      ProbingGlu<Act, Real>({options.experts, options.width, options.probe, options.hidden})};
}

MOE_NAMESPACE_END
