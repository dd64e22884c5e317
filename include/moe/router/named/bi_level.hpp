// Bi-level routing: a router chooses a group (a node), another the experts within it, and the product of both
// probabilities weighs. SMILE, He et al. 2212.05191 (one expert); SAM, Jiang et al. 2110.07431 (its switch
// and mixture routers, k experts).
#pragma once

#include "moe/router/balance/device_balance.hpp"
#include "moe/router/balance/group_alignment.hpp"
#include "moe/router/balance/local_balance.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/bi_level.hpp"
#include "moe/router/selection/group_limited.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

/// Defaults of SMILE; SAM's routers: an alignment, and k experts.
struct BiLevelOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index groups = 1;   // n, equal blocks of ids, 256 at most
  Index k = 1;
  bool shared = false;           // one router within, for all groups
  double group_balance = 0.005;  // coefficient, see router/balance/device_balance.hpp
  double local_balance = 0.005;  // coefficient, see router/balance/local_balance.hpp
  double alignment = 0;          // coefficient, see router/balance/group_alignment.hpp
  NonFinite non_finite = NonFinite::throw_;
};

/// The group first: an expert of another group may have the larger product.
template <class Real>
using BiLevelRouter = TokenChoice<BiLevelScorer<Real>, Softmax, GroupLimitedSelection, GatherWeighting,
                                  Balancing<DeviceBalance, LocalBalance, GroupAlignment>>;

/// Throws config_error for sizes, groups or a k that do not fit.
template <class Real>
BiLevelRouter<Real> bi_level_router(const BiLevelOptions& options) {
  return {
      BiLevelScorer<Real>({.width = options.width,
                           .outputs = options.experts,
                           .groups = options.groups,
                           .shared = options.shared}),
      Softmax{},
      GroupLimitedSelection({.k = options.k, .groups = options.groups, .kept = 1, .score = GroupScore::sum}),
      GatherWeighting{},
      Balancing<DeviceBalance, LocalBalance, GroupAlignment>(
          DeviceBalance({.coefficient = options.group_balance, .groups = options.groups}),
          LocalBalance({.coefficient = options.local_balance, .groups = options.groups}),
          GroupAlignment({.coefficient = options.alignment, .groups = options.groups})),
      options.non_finite};
}

MOE_NAMESPACE_END
