// Which experts learn from which rows: selective gradient masking (SGTM), where data with a label trains the
// experts that are kept for it and no others. For LayerGradients::frozen_pair.
#pragma once

#include <cstdint>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/column.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/plan/route_table.hpp"

MOE_NAMESPACE_BEGIN

/// frozen[p], p a pair of a tape's routes(): true unless learns(expert of p, label of its row). `learns` [E,
/// L]: the labels that each expert learns from; `label` [T], as LayerInput::label. Gradients are masked, not
/// activations: forward, dx and d weight are what they were. Throws shape_error, route_error for a label
/// outside [0, L).
template <class Real>
void gradient_mask(const RouteTable<Real>& routes, const Column<std::int32_t>& label,
                   const ConstMatrixView<bool>& learns, Buffer<bool>& frozen) {
  require_extent("label", "entries", routes.tokens, static_cast<Index>(label.size()));
  require_extent("labels of the experts", "rows", routes.experts, learns.rows);
  for (Index t = 0; t < routes.tokens; ++t) {
    if (label[t] < 0 || label[t] >= learns.cols) {
      fail<route_error>("label: expected labels in [0, ", learns.cols, "), got ", label[t], " for token ", t);
    }
  }
  frozen.resize(routes.pairs());
  for (Index t = 0; t < routes.tokens; ++t) {
    for (Index p = routes.offsets[t]; p < routes.offsets[t + 1]; ++p) {
      frozen[p] = !learns(Index{routes.expert[p]}, Index{label[t]});
    }
  }
}

MOE_NAMESPACE_END
