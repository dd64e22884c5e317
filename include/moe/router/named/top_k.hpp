// Top-k routers: softmax over all then the k best (Switch, Qwen, DeepSeek-V1; renormalised: Mixtral), softmax
// over the kept (Shazeer 2017 without noise), sigmoid scores (DeepSeek-V3 without bias), also normalised.
#pragma once

#include "moe/core/check.hpp"
#include "moe/router/balance/load_balance.hpp"
#include "moe/router/balance/z.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/identity.hpp"
#include "moe/router/score/sigmoid.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "moe/router/weighting/softmax.hpp"

MOE_NAMESPACE_BEGIN

/// Options that top-k routers share. Coefficients of 0 switch a loss off.
struct TopKOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index k = 2;
  bool bias = false;                   // a trained bias per expert
  double jitter = 0;                   // training: router input times U(1 - jitter, 1 + jitter)
  double load_balance = 0.01;          // coefficient, see router/balance/load_balance.hpp
  double z_loss = 0;                   // coefficient, see router/balance/z.hpp
  GatherWeighting::Options weights{};  // normalisation and scale of gathered scores
  NonFinite non_finite = NonFinite::throw_;

  LinearScorerOptions scorer() const noexcept { return {width, experts, bias, jitter}; }
  Balancing<LoadBalance, ZLoss> balancing() const {
    return Balancing<LoadBalance, ZLoss>(LoadBalance({.coefficient = load_balance}), ZLoss(z_loss));
  }
};

/// softmax over all experts, the k best, their probabilities as weights.
template <class Real>
using SoftmaxTopK =
    TokenChoice<LinearScorer<Real>, Softmax, TopKSelection, GatherWeighting, Balancing<LoadBalance, ZLoss>>;

/// Throws config_error for sizes or a k that do not fit.
template <class Real>
SoftmaxTopK<Real> softmax_top_k(const TopKOptions& options) {
  return {LinearScorer<Real>(options.scorer()), Softmax{},           TopKSelection(options.k),
          GatherWeighting(options.weights),     options.balancing(), options.non_finite};
}

/// The k best logits, softmax over them. With k = 1 the weight is 1 and the router learns from its losses
/// only.
template <class Real>
using TopKSoftmax = TokenChoice<LinearScorer<Real>, IdentityScore, TopKSelection, SoftmaxWeighting,
                                Balancing<LoadBalance, ZLoss>>;

/// Throws config_error for sizes or a k that do not fit, or options of weights that are gathered: these are
/// not.
template <class Real>
TopKSoftmax<Real> top_k_softmax(const TopKOptions& options) {
  if (options.weights != GatherWeighting::Options{}) {
    fail<config_error>("weights: expected no options for a softmax over the chosen, got some");
  }
  return {LinearScorer<Real>(options.scorer()),
          IdentityScore{},
          TopKSelection(options.k),
          SoftmaxWeighting{},
          options.balancing(),
          options.non_finite};
}

/// Each expert's sigmoid, the k best, as weights.
template <class Real>
using SigmoidTopK = TokenChoice<LinearScorer<Real>, SigmoidScore, TopKSelection, GatherWeighting,
                                Balancing<LoadBalance, ZLoss>>;

/// Throws config_error for sizes or a k that do not fit.
template <class Real>
SigmoidTopK<Real> sigmoid_top_k(const TopKOptions& options) {
  return {LinearScorer<Real>(options.scorer()), SigmoidScore{},      TopKSelection(options.k),
          GatherWeighting(options.weights),     options.balancing(), options.non_finite};
}

/// Normalised sigmoid gating, 2505.10860: those weights divided by their sum, whatever options.weights says
/// of it. Unlike a softmax it moves with a shift of all logits. The paper's shared experts are the layer's.
/// Throws config_error for sizes or a k that do not fit.
template <class Real>
SigmoidTopK<Real> normalised_sigmoid_top_k(TopKOptions options) {
  options.weights.normalise = Normalise::sum;
  return sigmoid_top_k<Real>(options);
}

MOE_NAMESPACE_END
