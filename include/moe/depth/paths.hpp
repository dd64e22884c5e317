// Distributed neural architectures, Cowsik et al. 2506.22389: at every step each row visits any of a pool of
// modules, in whatever order its routers find.
#pragma once

#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "moe/core/check.hpp"
#include "moe/depth/depth_layer.hpp"
#include "moe/router/balance/cost.hpp"
#include "moe/router/balance/load_balance.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gate.hpp"

MOE_NAMESPACE_BEGIN

struct DnaOptions {
  Index width = 0;             // D
  Index steps = 1;             // S
  Index k = 1;                 // modules a row visits at a step
  std::vector<double> cost{};  // of each module, and of staying as it is; empty: no loss of costs
  double cost_coefficient = 0.01;
  double load_balance = 0;  // coefficient, over modules and staying
  NonFinite non_finite = NonFinite::throw_;
};

template <class Real>
using DnaRouter =
    TokenChoice<LinearScorer<Real>, Softmax, TopKSelection, GateWeighting, Balancing<CostLoss, LoadBalance>>;
/// `M`: the modules, all of one Real; `M&` for those of other layers.
template <class... M>
using Dna =
    DepthLayer<DnaRouter<typename std::remove_reference_t<std::tuple_element_t<0, std::tuple<M...>>>::Real>,
               M...>;

/// h_{s+1} = h_s + sum over the k chosen of p_m module_m(rows of h_s that chose m), p the softmax over the
/// modules and, last, "stay as it is", which adds nothing. One router a step, one pool for all steps. A
/// module that mixes rows sees those that chose it, at their places. Each row for itself: causal as far as
/// the modules are. Throws config_error for sizes below 1, k above the number of modules and one, costs that
/// are not one for each of these, and coefficients that are not finite.
template <class First, class... More>
Dna<std::remove_cvref_t<First>, std::remove_cvref_t<More>...> dna(const DnaOptions& options, First&& first,
                                                                  More&&... more) {
  using Real = typename std::remove_cvref_t<First>::Real;
  constexpr Index kModules = 1 + Index{sizeof...(More)};
  require_range("steps", options.steps, 1, INT32_MAX);
  CostLoss::Options cost{.coefficient = options.cost.empty() ? 0 : options.cost_coefficient,
                         .cost = options.cost};
  if (cost.cost.empty()) cost.cost.assign(static_cast<std::size_t>(kModules + 1), 0);
  std::vector<DnaRouter<Real>> routers;
  for (Index s = 0; s < options.steps; ++s) {
    routers.push_back(DnaRouter<Real>{
        LinearScorer<Real>({.width = options.width, .outputs = kModules + 1}), Softmax{},
        TopKSelection(options.k), GateWeighting({.experts = kModules}),
        Balancing<CostLoss, LoadBalance>(CostLoss(cost), LoadBalance({.coefficient = options.load_balance})),
        options.non_finite});
  }
  return {std::move(routers), DepthOptions{}, std::forward<First>(first), std::forward<More>(more)...};
}

MOE_NAMESPACE_END
