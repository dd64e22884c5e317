// Routers that are means of what they routed: online k-means ("Routers Learn the Geometry of Their Experts"),
// and the clusters of AdaptDHM, Li et al. 2211.12105.
#pragma once

#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/identity.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/centroid.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "moe/router/weighting/softmax.hpp"

MOE_NAMESPACE_BEGIN

/// Nothing learns by gradient: hand every call's rows to scorer().collect(), then on_step_end().
struct KMeansOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index k = 1;
  double tau = 0.1;    // of the cosines
  double rate = 0.05;  // of the moving average
  CentroidRule rule = CentroidRule::moving_average;
  NonFinite non_finite = NonFinite::throw_;
};

/// softmax over cosines / tau, the k best, their shares as weights.
template <class Real>
using KMeansRouter = TokenChoice<CentroidScorer<Real>, Softmax, TopKSelection, GatherWeighting>;

/// Throws config_error for sizes, a k, a tau or a rate that do not fit.
template <class Real>
KMeansRouter<Real> kmeans_router(const KMeansOptions& o) {
  return {CentroidScorer<Real>(
              {.width = o.width, .outputs = o.experts, .tau = o.tau, .rule = o.rule, .rate = o.rate}),
          Softmax{},
          TopKSelection(o.k),
          GatherWeighting({.normalise = Normalise::sum}),
          Balancing<>{},
          o.non_finite};
}

/// AdaptDHM: samples (one row each) go to the cluster of the largest inner product, with weight 1. That a
/// cluster's weights multiply shared ones is the experts' affair.
struct ClusterOptions {
  Index width = 0;     // D
  Index clusters = 0;  // E
  double rate = 0.05;  // of the moving average
  NonFinite non_finite = NonFinite::throw_;
};

template <class Real>
using ClusterRouter = TokenChoice<CentroidScorer<Real>, IdentityScore, TopKSelection, SoftmaxWeighting>;

/// Throws config_error for sizes or a rate that do not fit.
template <class Real>
ClusterRouter<Real> cluster_router(const ClusterOptions& o) {
  return {
      CentroidScorer<Real>(
          {.width = o.width, .outputs = o.clusters, .similarity = Similarity::inner_product, .rate = o.rate}),
      IdentityScore{},
      TopKSelection(1),
      SoftmaxWeighting{},
      Balancing<>{},
      o.non_finite};
}

MOE_NAMESPACE_END
