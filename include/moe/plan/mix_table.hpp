// A soft router's result, in place of the RouteTable: which rows mix, and by which dense weights. A hard
// router's table is one too (to_mix), with ones and weights where its pairs are.
#pragma once

#include <algorithm>
#include <cstdint>

#include "moe/core/check.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/kernel/panel.hpp"
#include "moe/kernel/row.hpp"
#include "moe/plan/dispatch_plan.hpp"
#include "moe/plan/losses.hpp"
#include "moe/plan/route_table.hpp"

MOE_NAMESPACE_BEGIN

/// Bounds on what a call mixes.
struct MixExtent {
  Index groups = 0;    // G
  Index slots = 0;     // of all groups
  Index dispatch = 0;  // numbers, MixTable::dispatch_size summed over the groups
  Index combine = 0;   // numbers, MixTable::combine_size summed over the groups
};

/// Groups of rows that mix. Group g has rows row[offsets[g]] .. row[offsets[g + 1] - 1], which need not be
/// neighbours, and for each expert e the slots slot_offsets[g E + e] .. slot_offsets[g E + e + 1] - 1. A slot
/// reads sum of dispatch * row over the rows of its group, a row gets sum of combine * result over its
/// group's slots. A row is in one group, or in none: then its sum is 0. A group has at least one row. Arrays
/// are borrowed from a workspace or a tape.
template <class Real>
struct MixTable {
  Index tokens = 0;
  Index experts = 0;
  Index groups = 0;
  Index* offsets = nullptr;         // [G + 1]; the place of a row in `row` is its position
  std::int32_t* row = nullptr;      // [positions <= T]
  Index* slot_offsets = nullptr;    // [G E + 1]
  Index* dispatch_begin = nullptr;  // [G + 1] where a group's numbers begin
  Index* combine_begin = nullptr;   // [G + 1]
  Real* dispatch = nullptr;         // by group [slots, rows], rows dispatch_stride(g) apart
  Real* combine = nullptr;          // by group [rows, slots], rows combine_stride(g) apart
  bool* spoiled = nullptr;          // [T] as of a RouteTable
  MixExtent room{};
  AuxiliaryLosses losses{};

  Index positions() const noexcept { return groups == 0 ? 0 : offsets[groups]; }
  Index slots() const noexcept { return groups == 0 ? 0 : slot_offsets[groups * experts]; }
  Index rows(Index g) const noexcept { return offsets[g + 1] - offsets[g]; }
  Index first_slot(Index g) const noexcept { return slot_offsets[g * experts]; }
  Index slots(Index g) const noexcept { return first_slot(g + 1) - first_slot(g); }
  Index dispatch_stride(Index g) const noexcept { return row_stride<Real>(rows(g)); }
  Index combine_stride(Index g) const noexcept { return row_stride<Real>(slots(g)); }
  static constexpr Index dispatch_size(Index rows, Index slots) noexcept {
    return slots * row_stride<Real>(rows);
  }
  static constexpr Index combine_size(Index rows, Index slots) noexcept {
    return rows * row_stride<Real>(slots);
  }
  /// Weights of group g's slot s, and of its row at place r: in `from`, dispatch or combine or an array like
  /// it.
  Real* dispatch_row(Real* from, Index g, Index s) const noexcept {
    return from + dispatch_begin[g] + s * dispatch_stride(g);
  }
  Real* combine_row(Real* from, Index g, Index r) const noexcept {
    return from + combine_begin[g] + r * combine_stride(g);
  }

  /// Room for what `room` bounds.
  static MixTable carve(Arena& arena, Index tokens, Index experts, const MixExtent& room) {
    MixTable table;
    table.tokens = tokens;
    table.experts = experts;
    table.room = room;
    table.offsets = arena.take<Index>(room.groups + 1);
    table.row = arena.take<std::int32_t>(tokens);
    table.slot_offsets = arena.take<Index>(checked_product("slots", room.groups, experts) + 1);
    table.dispatch_begin = arena.take<Index>(room.groups + 1);
    table.combine_begin = arena.take<Index>(room.groups + 1);
    table.dispatch = arena.take<Real>(room.dispatch);
    table.combine = arena.take<Real>(room.combine);
    table.spoiled = arena.take<bool>(tokens);
    if (!arena.measuring()) table.clear();
    return table;
  }

  /// No groups, nothing spoiled.
  void clear() noexcept {
    groups = pending_ = 0;
    offsets[0] = slot_offsets[0] = dispatch_begin[0] = combine_begin[0] = 0;
    for (Index t = 0; t < tokens; ++t) spoiled[t] = false;
    losses.clear();
  }

  /// Filling: push_row(t) for the rows of a group, then end_group(slots of each expert), a Slots(e).
  void push_row(Index t) noexcept {
    MOE_ASSERT(groups < room.groups && pending_ < tokens);
    row[pending_++] = static_cast<std::int32_t>(t);
  }
  /// Without rows there is no group.
  template <class Slots>
  void end_group(const Slots& slots_of) noexcept {
    if (pending_ == positions()) return;
    const Index g = groups++;
    offsets[g + 1] = pending_;
    for (Index e = 0; e < experts; ++e) {
      slot_offsets[g * experts + e + 1] = slot_offsets[g * experts + e] + slots_of(e);
    }
    dispatch_begin[g + 1] = dispatch_begin[g] + dispatch_size(rows(g), slots(g));
    combine_begin[g + 1] = combine_begin[g] + combine_size(rows(g), slots(g));
    MOE_ASSERT(slots() <= room.slots && dispatch_begin[g + 1] <= room.dispatch &&
               combine_begin[g + 1] <= room.combine);
  }

 private:
  Index pending_ = 0;  // rows pushed
};

/// Bounds for `groups` groups of together `tokens` rows, with up to `slots` slots each.
template <class Real>
MixExtent mix_extent(Index tokens, Index groups, Index slots) {
  MixExtent extent;
  extent.groups = (std::min)(groups, tokens);
  extent.slots = checked_product("slots", extent.groups, slots);
  // row_stride adds less than two cache lines.
  const Index padded = tokens + checked_product("mixed rows", extent.groups, 2 * kHalf<Real>);
  extent.dispatch = checked_product("dispatch weights", slots, padded);
  extent.combine = checked_product("combine weights", tokens, row_stride<Real>(slots));
  return extent;
}

/// Bounds for to_mix of a table of `tokens` rows and up to `pairs` pairs.
template <class Real>
MixExtent hard_mix_extent(Index tokens, Index pairs) {
  MixExtent extent = mix_extent<Real>(tokens, 1, pairs);
  extent.combine += checked_product("combine weights", tokens, 2 * kHalf<Real>);  // with fewer slots
  return extent;
}

/// The pairs that `plan` kept of `table`, as mixing: one group, a slot for each pair in the plan's order,
/// which reads its row alone; the row gets weight * result, or, `on_input`, the slot reads weight * row.
/// active[t]: rows that take part. `mix` is cleared and has room (hard_mix_extent).
template <class Real>
void to_mix(const RouteTable<Real>& table, const DispatchPlan<Real>& plan, const bool* active, bool on_input,
            MixTable<Real>& mix) noexcept {
  for (Index t = 0; t < table.tokens; ++t) {
    mix.spoiled[t] = table.spoiled[t];
    if (active[t] && !table.spoiled[t]) mix.push_row(t);
  }
  mix.losses = table.losses;
  mix.end_group([&](Index e) { return plan.rows(e); });
  if (mix.groups == 0) return;
  fill_row(Real{0}, mix.dispatch, mix.dispatch_begin[1]);
  fill_row(Real{0}, mix.combine, mix.combine_begin[1]);
  for (Index r = 0; r < mix.positions(); ++r) {
    const Index t = mix.row[r];
    for (Index i = plan.token_offsets[t]; i < plan.token_offsets[t + 1]; ++i) {
      const Index slot = plan.token_slot[i];
      mix.dispatch_row(mix.dispatch, 0, slot)[r] = on_input ? plan.weight[slot] : Real{1};
      mix.combine_row(mix.combine, 0, r)[slot] = on_input ? Real{1} : plan.weight[slot];
    }
  }
}

MOE_NAMESPACE_END
