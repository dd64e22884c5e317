// Normed experts for all tasks, categories of tasks and tasks: HoME, the hierarchy of multi-gate experts of
// Kuaishou, Wang et al. 2408.05430 (not Mamba's HoME).
#pragma once

#include <algorithm>
#include <utility>

#include "moe/expert/bank/feature_gated.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/expert/bank/normed.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/kind/self_gated.hpp"
#include "moe/router/named/hierarchy.hpp"
#include "moe/router/scorer/hierarchy_mask.hpp"

MOE_NAMESPACE_BEGIN

struct HomeKuaishouOptions {
  Index width = 0;                   // D
  Index hidden = 0;                  // F of each expert
  Index rank = 0;                    // of the feature gates; 0: a quarter of D, at least 1
  HierarchyMaskOptions hierarchy{};  // whose experts there are; every task has some of its own
  BatchNormOptions norm{};
  NonFinite non_finite = NonFinite::throw_;
};

/// y = sum over the experts that the row's task sees of w_e swish(norm_e(f_e(x o g_e(x)))), g_e the expert's
/// feature gate; w_e is the share of the task's gate, of the task's own experts plus that of its self-gate.
template <class Real>
using HomeKuaishou = MoeLayer<SelfGated<HierarchyRouter<Real>>, NormedExperts<FeatureGated<Mlp<Relu, Real>>>>;

/// Zero weights. Throws config_error for what is out of range.
template <class Real>
HomeKuaishou<Real> home_kuaishou(const HomeKuaishouOptions& options) {
  auto router = hierarchy_router<Real>(
      {.width = options.width, .hierarchy = options.hierarchy, .non_finite = options.non_finite});
  Mlp<Relu, Real> experts(
      {.experts = router.experts(), .width = options.width, .hidden = options.hidden, .bias = true});
  const Index rank = options.rank != 0 ? options.rank : (std::max)(Index{1}, options.width / 4);
  return {SelfGated<HierarchyRouter<Real>>(std::move(router), HierarchyMask(options.hierarchy)),
          NormedExperts<FeatureGated<Mlp<Relu, Real>>>(
              FeatureGated<Mlp<Relu, Real>>(std::move(experts), rank), options.norm)};
}

MOE_NAMESPACE_END
