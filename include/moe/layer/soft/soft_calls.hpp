// What calls of soft layers have in common: checks of a backward, statistics.
#pragma once

#include "moe/core/check.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/plan/mix_table.hpp"
#include "moe/plan/statistics.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// Throws unless dy, dx and router_dx fit a call of `tokens` rows, T, which it returns.
template <class LayerGradients>
Index check_row_gradients(const LayerGradients& gradients, Index tokens, Index width, bool separate_router,
                          Index router_width) {
  if (gradients.dy.rows != tokens) {
    fail<state_error>("tape: expected the tape of a call with ", gradients.dy.rows,
                      " rows (as dy has), got one of ", tokens);
  }
  if (!is_finite(gradients.auxiliary_scale)) {
    fail<config_error>("auxiliary_scale: expected a finite factor of the losses, got ",
                       gradients.auxiliary_scale);
  }
  require_shape("dy", gradients.dy, tokens, width);
  if (gradients.dx) {
    require_shape("dx", gradients.dx, tokens, width);
    require_disjoint("dy", gradients.dy, "dx", gradients.dx);
  }
  if (gradients.router_dx) {
    if (!separate_router) {
      fail<config_error>(
          "router_dx: expected none, for the call had no router_x; its gradient is part of dx");
    }
    require_shape("router_dx", gradients.router_dx, tokens, router_width);
    require_disjoint("dy", gradients.dy, "router_dx", gradients.router_dx);
    require_disjoint("dx", gradients.dx, "router_dx", gradients.router_dx);
  }
  return tokens;
}

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
