// Clusters of samples, each with a network whose weights multiply shared ones: AdaptDHM, Li et al.
// 2211.12105.
#pragma once

#include <utility>

#include "moe/expert/bank/mlp.hpp"
#include "moe/expert/bank/multiplied.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/centroid_router.hpp"

MOE_NAMESPACE_BEGIN

struct AdaptDhmOptions {
  ClusterOptions clusters{};
  Index hidden = 0;  // F of each network
};

/// y = relu(x (W1 o V1_e) + b1 + c1_e) (W2 o V2_e) + b2 + c2_e, e the row's cluster.
template <class Real>
using AdaptDhm = MoeLayer<ClusterRouter<Real>, MultipliedExperts<Mlp<Relu, Real>>>;

/// Zero weights. Clusters learn by scorer().collect() and on_step_end(). Throws config_error for what is out
/// of range.
template <class Real>
AdaptDhm<Real> adapt_dhm(const AdaptDhmOptions& options) {
  auto router = cluster_router<Real>(options.clusters);
  const auto experts = [&](Index count) {
    return Mlp<Relu, Real>(
        {.experts = count, .width = options.clusters.width, .hidden = options.hidden, .bias = true});
  };
  return {std::move(router),
          MultipliedExperts<Mlp<Relu, Real>>(experts(1), experts(options.clusters.clusters))};
}

MOE_NAMESPACE_END
