// Stage 2/5 plan. In: RouteTable. Out: DispatchPlan, by expert. Next: moe/dispatch/row_pointers.hpp
// A stable counting sort: within an expert, tokens ascend. Every id and weight is checked here, whoever made
// it.
#pragma once

#include "moe/core/check.hpp"
#include "moe/core/input.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/plan/concept.hpp"
#include "moe/plan/route_table.hpp"

MOE_NAMESPACE_BEGIN

/// The kept pairs by expert (CSR), each in a *slot*, and for every token its slots by ascending expert id,
/// which is the order of the sum in stage 5. Arrays are borrowed from a workspace or a tape.
template <class Real>
struct DispatchPlan {
  Index tokens = 0;
  Index experts = 0;
  Index dropped_count = 0;
  Index* offsets = nullptr;        // [E + 1] slots of expert e: offsets[e] .. offsets[e + 1]
  std::int32_t* token = nullptr;   // [P] by slot
  Real* weight = nullptr;          // [P] by slot
  Index* pair = nullptr;           // [P] by slot: position in the RouteTable
  Index* token_offsets = nullptr;  // [T + 1]
  Index* token_slot = nullptr;     // [P] by token, experts ascending
  Index* dropped = nullptr;        // [dropped_count] pairs that found no place, ascending

  Index slots() const noexcept { return experts == 0 ? 0 : offsets[experts]; }
  Index rows(Index e) const noexcept { return offsets[e + 1] - offsets[e]; }

  static DispatchPlan carve(Arena& arena, Index tokens, Index experts, Index pairs) {
    DispatchPlan plan;
    plan.tokens = tokens;
    plan.experts = experts;
    plan.offsets = arena.take<Index>(experts + 1);
    plan.token = arena.take<std::int32_t>(pairs);
    plan.weight = arena.take<Real>(pairs);
    plan.pair = arena.take<Index>(pairs);
    plan.token_offsets = arena.take<Index>(tokens + 1);
    plan.token_slot = arena.take<Index>(pairs);
    plan.dropped = arena.take<Index>(pairs);
    return plan;
  }
};

namespace impl {

struct PlanScratch {
  bool* keep;   // [P]
  Index* next;  // [E] next free slot of an expert; while checking: last token that named it
  PlanScratch(Arena& arena, Index pairs, Index experts)
      : keep(arena.take<bool>(pairs)), next(arena.take<Index>(experts)) {}
};

/// Throws route_error for an id outside [0, E) or named twice by a token and for offsets that do not ascend
/// from 0, numeric_error for a weight that is not finite.
template <class Real>
void check_table(const RouteTable<Real>& table, Index* last_token) {
  for (Index e = 0; e < table.experts; ++e) last_token[e] = -1;
  for (Index t = 0; t < table.tokens; ++t) {
    if (table.offsets[t + 1] < table.offsets[t] || table.offsets[0] != 0) {
      fail<route_error>("route table: expected offsets that ascend from 0, got ", table.offsets[t], " to ",
                        table.offsets[t + 1], " for token ", t);
    }
    for (Index p = table.offsets[t]; p < table.offsets[t + 1]; ++p) {
      const Index e = table.expert[p];
      if (e < 0 || e >= table.experts) {
        fail<route_error>("expert ids: expected ids in [0, ", table.experts, "), got ", e, " for token ", t);
      }
      if (last_token[e] == t) {
        fail<route_error>("expert ids: expected each expert at most once per token, got ", e,
                          " twice for token ", t);
      }
      last_token[e] = t;
      if (!is_finite(table.weight[p])) {
        fail<numeric_error>("combine weights: expected finite values, got ", table.weight[p], " for token ",
                            t, ", expert ", e);
      }
    }
  }
}

}  // namespace impl

template <CapacityPolicy Capacity>
void measure_plan(Arena& arena, const Capacity& capacity, Index pairs, Index experts) {
  impl::PlanScratch{arena, pairs, experts};
  capacity.measure(arena, pairs, experts);
}

/// Fills `plan`, which has the table's extents and room for its pairs. Throws route_error or numeric_error
/// for what a table may not hold, shape_error for segments that are not those of its tokens.
template <class Real, CapacityPolicy Capacity>
void build_plan(const RouteTable<Real>& table, const Capacity& capacity, const Segments& segments,
                DispatchPlan<Real>& plan, Arena& arena) {
  MOE_ASSERT(plan.tokens == table.tokens && plan.experts == table.experts);
  segments.check(table.tokens);
  const Index pairs = table.pairs();
  const impl::PlanScratch scratch(arena, pairs, table.experts);
  impl::check_table(table, scratch.next);

  for (Index p = 0; p < pairs; ++p) scratch.keep[p] = true;
  capacity.limit(table, segments, scratch.keep, arena);

  for (Index e = 0; e <= plan.experts; ++e) plan.offsets[e] = 0;
  plan.dropped_count = 0;
  for (Index p = 0; p < pairs; ++p) {
    if (scratch.keep[p]) {
      ++plan.offsets[Index{table.expert[p]} + 1];
    } else {
      plan.dropped[plan.dropped_count++] = p;
    }
  }
  for (Index e = 0; e < plan.experts; ++e) {
    plan.offsets[e + 1] += plan.offsets[e];
    scratch.next[e] = plan.offsets[e];
  }
  plan.token_offsets[0] = 0;
  for (Index t = 0; t < plan.tokens; ++t) {
    Index kept = 0;
    for (Index p = table.offsets[t]; p < table.offsets[t + 1]; ++p) {
      if (!scratch.keep[p]) continue;
      ++kept;
      const Index slot = scratch.next[table.expert[p]]++;
      plan.token[slot] = static_cast<std::int32_t>(t);
      plan.weight[slot] = table.weight[p];
      plan.pair[slot] = p;
      // Slots of one expert range lie before those of a higher one: sorting slots sorts experts.
      Index at = plan.token_offsets[t] + kept - 1;
      for (; at > plan.token_offsets[t] && plan.token_slot[at - 1] > slot; --at) {
        plan.token_slot[at] = plan.token_slot[at - 1];
      }
      plan.token_slot[at] = slot;
    }
    plan.token_offsets[t + 1] = plan.token_offsets[t] + kept;
  }
}

MOE_NAMESPACE_END
