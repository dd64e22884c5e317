// What calls of soft layers have in common: statistics.
#pragma once

#include "moe/core/types.hpp"
#include "moe/kernel/row.hpp"
#include "moe/plan/mix_table.hpp"
#include "moe/plan/statistics.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// Adds a call's counts: slots as load, what rows give their results as gate mass.
template <class Real>
void count_mix(const MixTable<Real>& table, const bool* active, RouteStats& stats) {
  if (stats.experts() != table.experts) {
    stats.gate_mass.assign(table.experts, 0);
    stats.load.assign(table.experts, 0);
    stats.clear();
  }
  for (Index t = 0; t < table.tokens; ++t) {
    stats.tokens += active[t] ? 1 : 0;
    stats.spoiled += table.spoiled[t] ? 1 : 0;
  }
  for (Index g = 0; g < table.groups; ++g) {
    for (Index e = 0; e < table.experts; ++e) {
      const Index* const begin = table.slot_offsets + g * table.experts + e;
      const Index first = begin[0] - table.first_slot(g), slots = begin[1] - begin[0];
      stats.load[e] += slots;
      for (Index r = 0; r < table.rows(g); ++r) {
        const Real* const weight = table.combine_row(table.combine, g, r) + first;
        stats.gate_mass[e] += static_cast<double>(moe::sum_row(weight, slots));
      }
    }
  }
}

}  // namespace impl

MOE_NAMESPACE_END
