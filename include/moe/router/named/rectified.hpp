// Top-k under a capacity whose losses are made good by other experts. Zeng et al. 2402.12399.
#pragma once

#include "moe/router/balance/load_balance.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/rectified_top_k.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

struct RectifiedOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index k = 1;
  double capacity_factor = 1;  // places over rows times k
  Index groups = 1;            // devices: equal blocks of ids, and of a segment's rows
  bool fill_in = true;         // free places to next choices
  bool reroute = true;         // rows that lost a choice to their own group
  double load_balance = 0.01;  // coefficient, see router/balance/load_balance.hpp; of the most likely experts
  NonFinite non_finite = NonFinite::throw_;
};

/// Couples the rows of a segment: the capacity is the selection's own, for a Dropless layer. Weights are the
/// probabilities of whichever experts a row ends with.
template <class Real>
using RectifiedRouter =
    TokenChoice<LinearScorer<Real>, Softmax, RectifiedTopK, GatherWeighting, Balancing<LoadBalance>>;

/// Throws config_error for sizes, groups or a k that do not fit, or a factor outside (0, 1e9].
template <class Real>
RectifiedRouter<Real> rectified_router(const RectifiedOptions& options) {
  return {
      LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
      Softmax{},
      RectifiedTopK({.k = options.k,
                     .capacity_factor = options.capacity_factor,
                     .groups = options.groups,
                     .fill_in = options.fill_in,
                     .reroute = options.reroute}),
      GatherWeighting{},
      Balancing<LoadBalance>(LoadBalance({.coefficient = options.load_balance, .most_likely_only = true})),
      options.non_finite};
}

MOE_NAMESPACE_END
