// What a call's arguments must satisfy, checked before anything runs.
#pragma once

#include "moe/core/check.hpp"
#include "moe/core/column.hpp"
#include "moe/core/input.hpp"
#include "moe/core/view.hpp"
#include "moe/kernel/finite.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

// One compiled copy per type, not per column.
template <class T>
MOE_NOINLINE void require_column(const char* name, const Column<T>& column, ColumnSize size, Index tokens,
                                 Index experts) {
  const Index expected = size == ColumnSize::experts ? experts : tokens;
  if (!column.empty()) require_extent(name, "entries", expected, static_cast<Index>(column.size()));
}
template <class T>
MOE_NOINLINE void require_column(const char* name, const ConstMatrixView<T>& column, ColumnSize size,
                                 Index tokens, Index) {
  if (!column || (size == ColumnSize::one_or_tokens && column.rows == 1)) return;
  require_extent(name, size == ColumnSize::one_or_tokens ? "rows (or 1)" : "rows", tokens, column.rows);
}

MOE_NOINLINE inline void require_option(const char* name, double value) {
  if (!(value >= 0 && is_finite(value))) {
    fail<config_error>(name, ": expected a finite value > 0 (or 0 for the router's own), got ", value);
  }
}

template <class T>
Column<T> borrowed(const Column<T>& column) noexcept {
  return column.borrow();
}
template <class T>
const ConstMatrixView<T>& borrowed(const ConstMatrixView<T>& column) noexcept {
  return column;
}

/// Checks `in` against the layer's widths and resolves defaults. `width` D, `router_width` Dr (0: reads no
/// rows). What comes out borrows from `in`: nothing is allocated.
template <class Real>
RouterInput<Real> resolve_input(const LayerInput<Real>& in, Index width, Index router_width, Index experts,
                                bool training) {
  const Index tokens = in.x.rows;
  require_extent("x", "columns", width, in.x.cols);
  if (tokens > Index{INT32_MAX}) fail<size_error>("x: expected at most 2^31 - 1 rows, got ", tokens);
  const bool separate = static_cast<bool>(in.router_x);
  if (separate) require_extent("router_x", "rows", tokens, in.router_x.rows);
  const ConstMatrixView<Real>& rows = separate ? in.router_x : in.x;
  if (router_width != 0)
    require_extent(separate ? "router_x" : "x (read by the router)", "columns", router_width, rows.cols);
  in.segments.check(tokens);
  RouterInput<Real> resolved;
  InputColumns<Real>::each([&](const char* name, auto column, ColumnSize size) {
    require_column(name, in.*column, size, tokens, experts);
    resolved.*column = borrowed(in.*column);
  });
  if (in.options.experts_per_token < 0) {
    fail<config_error>("experts per token: expected K >= 1 (or 0 for the router's own), got ",
                       in.options.experts_per_token);
  }
  require_option("capacity factor", in.options.capacity_factor);
  require_option("temperature", in.options.temperature);
  require_option("threshold", in.options.threshold);
  require_option("p", in.options.p);
  resolved.x = rows;
  resolved.segments = in.segments.borrow();
  resolved.options = in.options;
  resolved.training = training;
  if (in.draws != nullptr) resolved.draws = in.draws->key();
  return resolved;
}

/// A coupled layer in inference mode needs to know where one request ends (contract C2), if there is one.
inline void require_segments(Coupling coupling, bool training, const Segments& segments, Index tokens) {
  if (coupling != Coupling::row_independent && !training && !segments.given() && tokens > 0) {
    fail<config_error>(
        "segments: expected one segment per request, got none; this layer couples tokens, so without "
        "segments one "
        "request could change another's result");
  }
}

/// Throws what a backward refuses of dy [tokens, out_width], dx [tokens, width] and the scale of the losses.
template <class LayerGradients>
void check_backward_rows(const LayerGradients& gradients, Index tokens, Index width, Index out_width) {
  if (gradients.dy.rows != tokens) {
    fail<state_error>("tape: expected the tape of a call with ", gradients.dy.rows,
                      " rows (as dy has), got one of ", tokens);
  }
  if (!is_finite(gradients.auxiliary_scale)) {
    fail<config_error>("auxiliary_scale: expected a finite factor of the losses, got ",
                       gradients.auxiliary_scale);
  }
  require_shape("dy", gradients.dy, tokens, out_width);
  if (gradients.dx) {
    require_shape("dx", gradients.dx, tokens, width);
    require_disjoint("dy", gradients.dy, "dx", gradients.dx);
  }
}
/// The same of rows as wide as their results, and of router_dx [tokens, router_width], which only calls with
/// rows of their own for the router have (`separate_router`).
template <class LayerGradients>
void check_row_gradients(const LayerGradients& gradients, Index tokens, Index width, bool separate_router,
                         Index router_width) {
  check_backward_rows(gradients, tokens, width, width);
  if (!gradients.router_dx) return;
  if (!separate_router) {
    fail<config_error>("router_dx: expected none, for the call had no router_x; its gradient is part of dx");
  }
  require_shape("router_dx", gradients.router_dx, tokens, router_width);
  require_disjoint("dy", gradients.dy, "router_dx", gradients.router_dx);
  require_disjoint("dx", gradients.dx, "router_dx", gradients.router_dx);
}

}  // namespace impl

MOE_NAMESPACE_END
