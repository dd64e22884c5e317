// Soft MoE: every slot reads a mean of all rows of its segment, every row gets a mean of all slots' results.
// Not causal: a row sees the rows after it. Puigcerver et al. 2308.00951.
#pragma once

#include "moe/router/soft/mix_groups.hpp"
#include "moe/router/soft/mix_router.hpp"
#include "moe/router/soft/slot_scorer.hpp"

MOE_NAMESPACE_BEGIN

struct SoftMoeOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index slots = 1;    // of an expert in each segment; the paper's rows of a segment / E costs what one
                      // expert per token does
  NonFinite non_finite = NonFinite::throw_;
};

template <class Real>
using SoftMoeRouter = MixRouter<SlotScorer<Real>, SegmentGroups>;

/// The scale of the cosines is 1 at first, as published, which makes every slot nearly the mean of its rows:
/// short segments learn sooner from more (scorer().set_scale). Throws config_error for sizes below 1.
template <class Real>
SoftMoeRouter<Real> soft_moe(const SoftMoeOptions& options) {
  require_range("experts", options.experts, 1, INT32_MAX);
  require_range("slots of an expert", options.slots, 1, INT32_MAX);
  return SoftMoeRouter<Real>(
      SlotScorer<Real>(
          {.width = options.width, .slots = checked_product("slots", options.experts, options.slots)}),
      SegmentGroups{}, {.slots_per_expert = options.slots, .non_finite = options.non_finite});
}

MOE_NAMESPACE_END
