// CompeteSMoE: a router that learns from competitions of its experts. Version 1, 2402.02526; 2, 2505.13380.
#pragma once

#include <utility>

#include "moe/core/check.hpp"
#include "moe/expert/bank/whole_results.hpp"
#include "moe/layer/probe/probing_layer.hpp"
#include "moe/router/balance/load_balance.hpp"
#include "moe/router/kind/competing.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/named/top_k.hpp"
#include "moe/router/score/identity.hpp"
#include "moe/router/scorer/rows.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "moe/router/weighting/softmax.hpp"

MOE_NAMESPACE_BEGIN

struct CompeteOptions {
  TopKOptions router{.z_loss = 0.001};  // of the steps without competition, and of inference
  double rate = 0.05;                   // of competition steps (the paper of version 2: 0.07)
  double load_balance = 0.01;           // coefficient, of the softmax of the responses in a competition
  double diversity = 0.01;              // coefficient, version 2 alone
  double distill = 0.01;                // coefficient
  double theta = 0;                     // version 2: weight of the chosen in the distillation once more
  bool divergence = false;              // version 1: KL(router | target) instead of squares
};

/// Responses over their sum as weights.
template <class Real>
using CompeteRouter =
    CompetingRouter<TopKSoftmax<Real>, TokenChoice<RowScorer<Real>, IdentityScore, TopKSelection,
                                                   GatherWeighting, Balancing<LoadBalance>>>;
/// Softmax over the chosen's lengths as weights.
template <class Real>
using CompeteRouterV1 =
    CompetingRouter<TopKSoftmax<Real>, TokenChoice<RowScorer<Real>, IdentityScore, TopKSelection,
                                                   SoftmaxWeighting, Balancing<LoadBalance>>>;

template <class Bank>
using CompeteSmoe = ProbingLayer<CompeteRouter<typename Bank::Real>, WholeResults<Bank, SoftplusResponse>>;
template <class Bank>
using CompeteSmoeV1 = ProbingLayer<CompeteRouterV1<typename Bank::Real>, WholeResults<Bank, LengthResponse>>;

/// Version 2: responses are mean softplus of the results, the target is detached. Throws config_error for
/// sizes or a k that do not fit.
template <class Bank>
CompeteSmoe<Bank> compete_smoe(Bank experts, const CompeteOptions& options) {
  using Real = typename Bank::Real;
  if (options.divergence) fail<config_error>("divergence: expected none for CompeteSMoE version 2, got one");
  using Competition =
      TokenChoice<RowScorer<Real>, IdentityScore, TopKSelection, GatherWeighting, Balancing<LoadBalance>>;
  return {CompeteRouter<Real>(
              top_k_softmax<Real>(options.router),
              Competition{RowScorer<Real>(options.router.experts), IdentityScore{},
                          TopKSelection(options.router.k), GatherWeighting({.normalise = Normalise::sum}),
                          Balancing<LoadBalance>(LoadBalance({.coefficient = options.load_balance})),
                          options.router.non_finite},
              {.rate = options.rate,
               .distill = {.coefficient = options.distill, .theta = options.theta},
               .diversity = options.diversity}),
          WholeResults<Bank, SoftplusResponse>(std::move(experts))};
}

/// Version 1: responses are lengths of the results; the router learns their softmax over the chosen, and they
/// learn from it. The load balance takes its probabilities' mean over choices, not rows. Throws as
/// compete_smoe.
template <class Bank>
CompeteSmoeV1<Bank> compete_smoe_v1(Bank experts, const CompeteOptions& options) {
  using Real = typename Bank::Real;
  using Competition =
      TokenChoice<RowScorer<Real>, IdentityScore, TopKSelection, SoftmaxWeighting, Balancing<LoadBalance>>;
  const double choices = static_cast<double>(options.router.k);
  return {
      CompeteRouterV1<Real>(
          top_k_softmax<Real>(options.router),
          Competition{RowScorer<Real>(options.router.experts), IdentityScore{},
                      TopKSelection(options.router.k), SoftmaxWeighting{},
                      Balancing<LoadBalance>(LoadBalance({.coefficient = options.load_balance / choices})),
                      options.router.non_finite},
          {.rate = options.rate,
           .distill = {.coefficient = options.distill,
                       .chosen_only = true,
                       .detached = false,
                       .divergence = options.divergence,
                       .theta = options.theta},
           .diversity = 0}),
      WholeResults<Bank, LengthResponse>(std::move(experts))};
}

MOE_NAMESPACE_END
