// Work that goes slot by slot and wants to know the slot's expert.
#pragma once

#include "moe/core/executor.hpp"
#include "moe/core/types.hpp"
#include "moe/expert/concept.hpp"

MOE_NAMESPACE_BEGIN

/// f(expert, slot), noexcept, once for every slot of the batch, blocks of slots at once on the executor.
template <class Real, Executor X, class F>
void for_each_slot(const RowBatch<Real>& batch, X& executor, const F& f) noexcept {
  constexpr Index kBlock = 16;  // enough to hide the claim, few enough to balance
  executor.parallel_for(ceil_div(batch.slots(), kBlock), [&](Index block, Index) noexcept {
    const Index last = (block + 1) * kBlock;
    const Index end = last < batch.slots() ? last : batch.slots();
    Index e = 0;
    for (Index s = block * kBlock; s < end; ++s) {
      while (s >= batch.offsets[e + 1]) ++e;
      f(e, s);
    }
  });
}

MOE_NAMESPACE_END
