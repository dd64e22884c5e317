// Normed experts for all tasks, categories of tasks and tasks: HoME, the hierarchy of multi-gate experts of
// Kuaishou, Wang et al. 2408.05430 (not Mamba's HoME).
#pragma once

#include <utility>

#include "moe/expert/bank/mlp.hpp"
#include "moe/expert/bank/normed.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/hierarchy.hpp"

MOE_NAMESPACE_BEGIN

struct HomeKuaishouOptions {
  Index width = 0;                   // D
  Index hidden = 0;                  // F of each expert
  HierarchyMaskOptions hierarchy{};  // whose experts there are
  BatchNormOptions norm{};
  NonFinite non_finite = NonFinite::throw_;
};

/// y = sum over the experts that the row's task sees of p_e swish(norm_e(f_e(x))).
template <class Real>
using HomeKuaishou = MoeLayer<HierarchyRouter<Real>, NormedExperts<Mlp<Relu, Real>>>;

/// Zero weights. Throws config_error for what is out of range.
template <class Real>
HomeKuaishou<Real> home_kuaishou(const HomeKuaishouOptions& options) {
  auto router = hierarchy_router<Real>(
      {.width = options.width, .hierarchy = options.hierarchy, .non_finite = options.non_finite});
  Mlp<Relu, Real> experts(
      {.experts = router.experts(), .width = options.width, .hidden = options.hidden, .bias = true});
  return {std::move(router), NormedExperts<Mlp<Relu, Real>>(std::move(experts), options.norm)};
}

MOE_NAMESPACE_END
