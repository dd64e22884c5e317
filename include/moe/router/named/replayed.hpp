// Any token-choice router with its choices recorded and made again. R3, Ma et al. 2510.11370: in
// reinforcement learning the trainer replays the routes of the rollout.
#pragma once

#include <utility>

#include "moe/router/kind/token_choice.hpp"
#include "moe/router/selection/replayed.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {
template <class Router>
struct ReplayedOf;
template <class S, class F, class Select, class W, class Balance>
struct ReplayedOf<TokenChoice<S, F, Select, W, Balance>> {
  using type = TokenChoice<S, F, Replayed<Select>, W, Balance>;
};
}  // namespace impl

/// ReplayedRouter<TopKSoftmax<float>> is the paper's: a softmax of the live logits over the replayed set.
template <class Router>
using ReplayedRouter = typename impl::ReplayedOf<Router>::type;

/// `router`, which chooses what the column `replay` says (router/selection/replayed.hpp) in calls that have
/// one. analysis/route_log.hpp records such columns.
template <class S, class F, Selection Select, class W, class Balance>
TokenChoice<S, F, Replayed<Select>, W, Balance> replayed(TokenChoice<S, F, Select, W, Balance> router) {
  const Index outputs = router.outputs();
  TokenChoice<S, F, Replayed<Select>, W, Balance> with(
      std::move(router.scorer()), std::move(router.score()),
      Replayed<Select>(std::move(router.selection()), outputs), std::move(router.weighting()),
      std::move(router.balancing()), router.non_finite());
  with.set_weight_place(router.weight_place());
  return with;
}

MOE_NAMESPACE_END
