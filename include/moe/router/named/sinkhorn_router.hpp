// Routers that choose by a balanced transport plan in training and by their scores in inference: Sinkhorn as
// in Megatron, S-BASE of Clark et al. 2202.01169, and Selective Sinkhorn Routing.
#pragma once

#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/sigmoid.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/sinkhorn_top_k.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

struct SinkhornOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index k = 1;
  double tolerance = 1e-4;  // of the experts' shares, relative
  Index iterations = 1000;  // at most: they end when the shares are good enough
  PlanWeights weights = PlanWeights::scores;
  NonFinite non_finite = NonFinite::throw_;

  SinkhornTopK selection() const {
    return SinkhornTopK({.k = k, .tolerance = tolerance, .iterations = iterations, .weights = weights});
  }
};

/// The plan of the logits chooses, the softmax over all experts weighs. No loss.
template <class Real>
using SinkhornRouter = TokenChoice<LinearScorer<Real>, Softmax, SinkhornTopK, GatherWeighting>;

/// Throws config_error for sizes, a k or options that do not fit.
template <class Real>
SinkhornRouter<Real> sinkhorn_router(const SinkhornOptions& options) {
  return {LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
          Softmax{},
          options.selection(),
          GatherWeighting{},
          Balancing<>{},
          options.non_finite};
}

/// S-BASE: the same with each logit's sigmoid for a weight, as published for k = 1.
template <class Real>
using SinkhornBaseRouter = TokenChoice<LinearScorer<Real>, SigmoidScore, SinkhornTopK, GatherWeighting>;

/// Throws config_error for sizes, a k or options that do not fit.
template <class Real>
SinkhornBaseRouter<Real> sinkhorn_base_router(const SinkhornOptions& options) {
  return {LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
          SigmoidScore{},
          options.selection(),
          GatherWeighting{},
          Balancing<>{},
          options.non_finite};
}

struct SelectiveSinkhornOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index k = 2;
  double probability = 0.01;  // that a training call goes by the plan: of each layer and step
  PlanCost cost = PlanCost::score;
  double regularisation = 0.5;  // xi
  double tolerance = 1e-4;
  Index iterations = 100;
  double noise = 0;  // standard deviation of a normal draw on every cost
  PlanWeights weights = PlanWeights::plan;
  NonFinite non_finite = NonFinite::throw_;
};

/// Softmax top-k, its weights divided by their sum; in some of the training calls the k best of the plan,
/// weighed by the plan in the same way. No loss.
template <class Real>
using SelectiveSinkhornRouter = SinkhornRouter<Real>;

/// Throws config_error for sizes, a k or options that do not fit.
template <class Real>
SelectiveSinkhornRouter<Real> selective_sinkhorn(const SelectiveSinkhornOptions& options) {
  return {LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
          Softmax{},
          SinkhornTopK({.k = options.k,
                        .cost = options.cost,
                        .regularisation = options.regularisation,
                        .tolerance = options.tolerance,
                        .iterations = options.iterations,
                        .share = options.probability,
                        .noise = options.noise,
                        .weights = options.weights}),
          GatherWeighting({.normalise = Normalise::sum}),
          Balancing<>{},
          options.non_finite};
}

MOE_NAMESPACE_END
