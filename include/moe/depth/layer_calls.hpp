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
#include "moe/plan/statistics.hpp"
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

/// Experts that a layer's counts are of; 0 for one that counts none.
template <class L>
Index counted_experts(const L& layer) {
  if constexpr (requires { layer.counted_experts(); }) {
    return layer.counted_experts();
  } else if constexpr (requires { layer.router().experts(); }) {
    return Index{layer.router().experts()};
  } else {
    return 0;
  }
}

/// f(stats, experts, layers) for the counts of a layer, and then for those of every layer it is made of, and
/// of every router of a depth layer with several. `stats` is null where there are none.
template <class L, class F>
void each_count(const L& layer, RouteStats* stats, const F& f) {
  const auto child = [&](Index i) {
    const bool there = stats != nullptr && i < static_cast<Index>(stats->layers.size());
    return there ? stats->layers.data() + i : nullptr;
  };
  if constexpr (requires { layer.layer(); }) {  // a layer around one: the counts are that one's
    each_count(layer.layer(), stats, f);
  } else if constexpr (requires { layer.layers(); }) {
    f(stats, counted_experts(layer), list_size(layer.layers()));
    each_layer([&](Index i, const auto& one) { each_count(one, child(i), f); }, layer.layers());
  } else if constexpr (requires { layer.routers(); }) {
    const Index routers = list_size(layer.routers());
    f(stats, counted_experts(layer), routers > 1 ? routers : 0);
    for (Index i = 0; routers > 1 && i < routers; ++i) {
      f(child(i), Index{layer.routers()[static_cast<std::size_t>(i)].experts()}, Index{0});
    }
  } else {
    f(stats, counted_experts(layer), Index{0});
  }
}

/// The counts of a call of a layer, its layers' too, for a CallRollback.
template <class L>
struct LayerCounts {
  const L& layer;

  /// Makes room for them. Throws shape_error for counts of other numbers of experts or layers, before
  /// anything is written.
  void open(RouteStats& stats) const {
    each_count(layer, &stats, [](RouteStats* own, Index experts, Index layers) {
      if (own == nullptr) return;
      if (layers > 0) own->require_layers(layers);
      if (experts > 0) own->require_experts(experts);
    });
    each_count(layer, &stats, [](RouteStats* own, Index, Index layers) {
      if (layers > 0) own->layers.resize(static_cast<std::size_t>(layers));
    });
  }
  /// f(stats, experts) for each; `stats` is null where there are none.
  template <class F>
  void each(RouteStats* stats, const F& f) const {
    each_count(layer, stats, [&](RouteStats* own, Index experts, Index) { f(own, experts); });
  }
};
template <class L>
LayerCounts(const L&) -> LayerCounts<L>;

/// to += sign * part, for counts of one number of experts.
inline void add_counts(RouteStats& to, const RouteStats& part, Index sign) {
  if (to.experts() != part.experts()) {
    to.load.assign(part.experts(), 0);
    to.gate_mass.assign(part.experts(), 0);
  }
  to.tokens += sign * part.tokens;
  to.dropped += sign * part.dropped;
  to.elided += sign * part.elided;
  to.spoiled += sign * part.spoiled;
  for (Index e = 0; e < part.experts(); ++e) {
    to.load[e] += sign * part.load[e];
    to.gate_mass[e] += static_cast<double>(sign) * part.gate_mass[e];
  }
}

}  // namespace impl

MOE_NAMESPACE_END
