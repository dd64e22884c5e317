// How a layer made of layers calls them: their input, their memory, what a refusal leaves behind.
#pragma once

#include <cstddef>
#include <span>
#include <type_traits>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/depth/layer_list.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/layer/call/checks.hpp"
#include "moe/layer/call/output.hpp"
#include "moe/router/concept.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// The same call of other rows, as long as `in` is there.
template <class Real>
LayerInput<Real> borrow_input(const LayerInput<Real>& in, const ConstMatrixView<Real>& x) {
  LayerInput<Real> own;
  InputColumns<Real>::each([&](const char*, auto column, ColumnSize) { own.*column = borrowed(in.*column); });
  own.x = x;
  own.segments = in.segments.borrow();
  own.options = in.options;
  own.mode = in.mode;
  own.draws = in.draws;
  return own;
}

/// Checks a call of layers before the first of them runs; they check columns and options. Throws shape_error,
/// config_error (router_x; coupled layers without segments; a carry of layers that hand nothing on).
template <class Real>
void check_layers_call(const LayerInput<Real>& in, const LayerOutput<Real>& out, Index width, Index out_width,
                       Index carry_width, Coupling coupling, bool training) {
  require_extent("x", "columns", width, in.x.cols);
  if (in.router_x) {
    fail<config_error>("router_x: expected none of a layer of layers, whose routers read what experts read");
  }
  in.segments.check(in.x.rows);
  require_segments(coupling, training, in.segments, in.x.rows);
  require_shape("y", out.y, in.x.rows, out_width);
  require_disjoint("x", in.x, "y", out.y);
  require_carry("output carry", out.carry, in.x.rows, carry_width);
  if (in.carry && carry_width > 0) require_shape("carry", in.carry, in.x.rows, carry_width);
  require_disjoint("carry", in.carry, "y", out.y);
  require_disjoint("carry", in.carry, "output carry", out.carry);
  require_disjoint("x", in.x, "output carry", out.carry);
  require_disjoint("y", out.y, "output carry", out.carry);
}

/// The most that a call of one of the layers takes.
template <class Layers>
Index most_workspace(const Layers& layers, const CallShape& shape, Mode mode, Index concurrency) {
  Index most = 0;
  each_layer(
      [&](Index, const auto& layer) {
        const Index bytes = layer.workspace_bytes(shape, mode, concurrency);
        most = bytes > most ? bytes : most;
      },
      layers);
  return most;
}

inline Workspace fixed_workspace(std::byte* memory, Index bytes) {
  return Workspace(std::span<std::byte>(memory, static_cast<std::size_t>(bytes)));
}

/// [rows, cols] of an arena. Of no rows, data may be null; a measuring arena gives an absent view.
template <class Real>
MatrixView<Real> take_rows(Arena& arena, Index rows, Index cols) {
  Real* const data = arena.take<Real>(checked_product("rows between layers", rows, cols));
  MatrixView<Real> view;
  if (arena.measuring()) return view;
  view.data = data;
  view.rows = rows;
  view.cols = view.stride = cols;
  return view;
}

/// Whether a layer isolated the row: such a row is NaN throughout.
template <class Real>
bool is_spoiled(const Real* row, Index width) noexcept {
  for (Index j = 0; j < width; ++j) {
    if (!is_nan(row[j])) return false;
  }
  return width > 0;
}

template <class Real>
bool takes_part(const LayerInput<Real>& in, Index t) noexcept {
  return in.valid.empty() || in.valid[t];
}

}  // namespace impl

MOE_NAMESPACE_END
