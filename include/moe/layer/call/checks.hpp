// What a call's arguments must satisfy, checked before anything runs.
#pragma once

#include "moe/core/check.hpp"
#include "moe/core/input.hpp"
#include "moe/core/view.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

inline void require_span(const char* argument, std::size_t size, Index tokens) {
  if (size != 0) require_extent(argument, "entries", tokens, static_cast<Index>(size));
}

/// Checks `in` against the layer's widths and resolves defaults. `width` D, `router_width` Dr (0: reads no
/// rows).
template <class Real>
RouterInput<Real> resolve_input(const LayerInput<Real>& in, Index width, Index router_width, Index experts,
                                bool training) {
  const Index tokens = in.x.rows;
  require_extent("x", "columns", width, in.x.cols);
  if (tokens > Index{INT32_MAX}) fail<size_error>("x: expected at most 2^31 - 1 rows, got ", tokens);
  const bool separate = in.router_x.data != nullptr;
  if (separate) require_extent("router_x", "rows", tokens, in.router_x.rows);
  const ConstMatrixView<Real>& rows = separate ? in.router_x : in.x;
  if (router_width != 0)
    require_extent(separate ? "router_x" : "x (read by the router)", "columns", router_width, rows.cols);
  in.segments.check(tokens);
  require_span("valid", in.valid.size(), tokens);
  require_span("row_key", in.row_key.size(), tokens);
  require_span("token_id", in.token_id.size(), tokens);
  require_span("outside_counts", in.outside_counts.size(), experts);
  if (!in.logit_mask.empty() && in.logit_mask.rows != 1) {
    require_extent("logit_mask", "rows (or 1)", tokens, in.logit_mask.rows);
  }
  if (in.options.experts_per_token < 0) {
    fail<config_error>("experts per token: expected K >= 1 (or 0 for the router's own), got ",
                       in.options.experts_per_token);
  }
  if (!(in.options.capacity_factor >= 0)) {
    fail<config_error>("capacity factor: expected a value > 0 (or 0 for the router's own), got ",
                       in.options.capacity_factor);
  }
  return {rows,
          in.segments,
          in.valid.empty() ? nullptr : in.valid.data(),
          in.row_key.empty() ? nullptr : in.row_key.data(),
          in.token_id.empty() ? nullptr : in.token_id.data(),
          in.logit_mask,
          in.outside_counts.empty() ? nullptr : in.outside_counts.data(),
          in.options,
          training,
          in.seed,
          in.step};
}

/// A coupled layer in inference mode needs to know where one request ends (contract C2).
inline void require_segments(Coupling coupling, bool training, const Segments& segments) {
  if (coupling != Coupling::row_independent && !training && !segments.given()) {
    fail<config_error>(
        "segments: expected one segment per request, got none; this layer couples tokens, so without "
        "segments one "
        "request could change another's result");
  }
}

}  // namespace impl

MOE_NAMESPACE_END
