// Stage 5/5 combine. In: result rows by slot, weights. Out: Y. Next: moe/layer/sum/routed_sum.hpp
// Y[t] = sum of weight * row over a token's slots, by ascending expert id with y = fma(w, z, y) from +0: one
// order, whatever the batch and the thread. The backward hands every slot its token's dY and weight; experts
// turn that into dz = w * dY and d weight = <dY, z>.
#pragma once

#include <cstdint>

#include "moe/core/executor.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/kernel/weighted_sum.hpp"
#include "moe/plan/dispatch_plan.hpp"

MOE_NAMESPACE_BEGIN

/// Where a token's sum starts: `zero` overwrites its row of y, `y` adds to it and leaves rows of tokens
/// without slots as they are.
enum class SumFrom : std::uint8_t { zero, y };

namespace impl {

/// row_of(slot): its result row or null.
template <class Real, class RowOf, Executor X>
void combine_slots(const DispatchPlan<Real>& plan, const RowOf& row_of, const Real* weight,
                   const MatrixView<Real>& y, X& executor, SumFrom from) {
  constexpr Index kTokens = 16;  // a worker takes at once: enough to hide the claim, few enough to balance
  constexpr Index kSlots = 32;  // of a token at once; more go on from what the first gave, with the same bits
  executor.parallel_for(ceil_div(plan.tokens, kTokens), [&](Index block, Index) noexcept {
    const Index first = block * kTokens;
    const Index last = first + kTokens < plan.tokens ? first + kTokens : plan.tokens;
    const Real* rows[kSlots];
    Real weights[kSlots];
    for (Index t = first; t < last; ++t) {
      Index i = plan.token_offsets[t];
      const Index end = plan.token_offsets[t + 1];
      bool fresh = from == SumFrom::zero;
      while (fresh || i < end) {
        Index count = 0;
        for (; count < kSlots && i < end; ++count, ++i) {
          const Index slot = plan.token_slot[i];
          rows[count] = row_of(slot);
          weights[count] = weight == nullptr ? Real{1} : weight[slot];
        }
        if (fresh) {
          moe::weighted_sum_rows(rows, weights, count, y.row(t), y.cols);
        } else {
          moe::accumulate_weighted_rows(rows, weights, count, y.row(t), y.cols);
        }
        fresh = false;
      }
    }
  });
}

}  // namespace impl

/// y[t] = (0 or y[t]) + sum over t's slots s, experts ascending, of weight[s] * row[s]. `row` [P] by slot,
/// null for a result of zero; `weight` [P] by slot, null for 1. From zero, a token without slots gets 0.
template <class Real, Executor X>
void combine_row_pointers(const DispatchPlan<Real>& plan, const Real* const* row, const Real* weight,
                          const MatrixView<Real>& y, X& executor, SumFrom from = SumFrom::zero) {
  impl::combine_slots(
      plan, [row](Index slot) noexcept { return row[slot]; }, weight, y, executor, from);
}

MOE_NAMESPACE_END
