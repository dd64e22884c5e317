// Stage 2/5 plan, first half. In: RouteTable. Out: which pairs are kept. Next: moe/plan/dispatch_plan.hpp
// How many tokens an expert takes, and who is dropped when more want it.
#pragma once

#include <concepts>

#include "moe/core/input.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/plan/route_table.hpp"

MOE_NAMESPACE_BEGIN

/// `limit` clears keep[p] of the pairs that find no place; all are set before. `measure` takes from the arena
/// what `limit` will take for up to `pairs` pairs. What else it may have: `for_call(options)`, the policy
/// with the capacity factor of a call, which the router then does not see.
template <class C>
concept CapacityPolicy = std::copy_constructible<C> &&
    requires(const C& c, const RouteTable<float>& table, const Segments& segments, bool* keep, Arena& arena) {
  { C::coupling } -> std::convertible_to<Coupling>;
  { c.measure(arena, Index{}, Index{}) } -> std::same_as<void>;
  { c.limit(table, segments, keep, arena) } -> std::same_as<void>;
};

MOE_NAMESPACE_END
