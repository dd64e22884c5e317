// Stage 5/5 combine. In: result rows by slot, weights. Out: Y. Next: moe/layer/moe_layer.hpp
// Y[t] = sum of weight * row over a token's slots, by ascending expert id with y = fma(w, z, y) from +0: one
// order, whatever the batch and the thread. The backward hands every slot its token's dY and weight; experts
// turn that into dz = w * dY and d weight = <dY, z>.
#pragma once

#include "moe/core/executor.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/kernel/weighted_sum.hpp"
#include "moe/plan/dispatch_plan.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// Tokens a worker takes at once: enough to hide the claim, few enough to balance.
inline constexpr Index kCombineTokens = 16;

template <class Real>
struct CombineScratch {
  const Real** row;  // [P] by token
  Real* weight;      // [P] by token
  CombineScratch(Arena& arena, Index pairs)
      : row(arena.take<const Real*>(pairs)), weight(arena.take<Real>(pairs)) {}
};

}  // namespace impl

template <class Real>
void measure_combine(Arena& arena, Index pairs) {
  impl::CombineScratch<Real>{arena, pairs};
}

/// y[t] = sum over t's slots s, experts ascending, of weight[s] * row[s]. `row` [P] by slot, null for a
/// result of zero; `weight` [P] by slot, null for 1. Overwrites y [T, D]; a token without slots gets 0.
template <class Real, Executor X>
void combine_rows(const DispatchPlan<Real>& plan, const Real* const* row, const Real* weight,
                  const MatrixView<Real>& y, Arena& arena, X& executor) {
  const impl::CombineScratch<Real> scratch(arena, plan.slots());
  executor.parallel_for(ceil_div(plan.tokens, impl::kCombineTokens), [&](Index block, Index) noexcept {
    const Index first = block * impl::kCombineTokens;
    const Index last =
        first + impl::kCombineTokens < plan.tokens ? first + impl::kCombineTokens : plan.tokens;
    for (Index t = first; t < last; ++t) {
      const Index begin = plan.token_offsets[t], end = plan.token_offsets[t + 1];
      for (Index i = begin; i < end; ++i) {
        const Index slot = plan.token_slot[i];
        scratch.row[i] = row[slot];
        scratch.weight[i] = weight == nullptr ? Real{1} : weight[slot];
      }
      weighted_sum_rows(scratch.row + begin, scratch.weight + begin, end - begin, y.row(t), y.cols);
    }
  });
}

MOE_NAMESPACE_END
