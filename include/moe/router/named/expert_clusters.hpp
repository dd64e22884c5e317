// Experts in clusters that see like tokens, with dropout within the clusters. MoEC, Xie et al. 2207.09094.
#pragma once

#include "moe/router/balance/cluster_variance.hpp"
#include "moe/router/balance/load_balance.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/cluster_dropout.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/scorer/masked.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

struct ExpertClusterOptions {
  Index width = 0;     // D
  Index experts = 0;   // E
  Index clusters = 1;  // equal blocks of the experts
  Index k = 1;
  double dropout = 0;          // training: this share of every cluster's experts is hidden for a step
  double load_balance = 0.01;  // coefficient, see router/balance/load_balance.hpp
  double variance = 0.01;      // coefficient, see router/balance/cluster_variance.hpp
  double between = 1;          // weight of the variance between clusters in it
  NonFinite non_finite = NonFinite::throw_;
};

/// softmax over the experts that are not dropped, the k best, their probabilities as weights.
template <class Real>
using ExpertClusterRouter =
    TokenChoice<MaskedScorer<LinearScorer<Real>, ClusterDropout>, Softmax, TopKSelection, GatherWeighting,
                Balancing<LoadBalance, ClusterVariance>>;

/// Throws config_error for sizes, a k, clusters or a rate that do not fit.
template <class Real>
ExpertClusterRouter<Real> expert_cluster_router(const ExpertClusterOptions& o) {
  return {MaskedScorer<LinearScorer<Real>, ClusterDropout>(
              LinearScorer<Real>({.width = o.width, .outputs = o.experts}),
              ClusterDropout({.clusters = o.clusters, .rate = o.dropout})),
          Softmax{},
          TopKSelection(o.k),
          GatherWeighting{},
          Balancing<LoadBalance, ClusterVariance>(
              LoadBalance({.coefficient = o.load_balance}),
              ClusterVariance({.coefficient = o.variance, .clusters = o.clusters, .between = o.between})),
          o.non_finite};
}

MOE_NAMESPACE_END
