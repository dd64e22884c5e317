// The input of a call, kept on its tape.
#pragma once

#include <cstring>

#include "moe/core/check.hpp"
#include "moe/core/column.hpp"
#include "moe/core/input.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// A copy of a call's input, so that backward does not depend on the caller's memory.
template <class Real>
class StoredInput {
 public:
  void store(const RouterInput<Real>& in, const ConstMatrixView<Real>& x) {
    const bool separate = !same_view(in.x, x);
    Arena measuring;
    carve(measuring, in, x, separate);
    Arena kept = memory_.arena(measuring.bytes());
    carve(kept, in, x, separate);
    separate_router_ = separate;
  }

  ConstMatrixView<Real> x(Index) const { return x_; }
  const RouterInput<Real>& router_input() const noexcept { return in_; }
  bool separate_router() const noexcept { return separate_router_; }

 private:
  /// Copies everything into `arena`; a measuring one only counts.
  MOE_NOINLINE void carve(Arena& arena, const RouterInput<Real>& in, const ConstMatrixView<Real>& x,
                          bool separate) {
    in_ = in;
    x_ = copy(arena, x);
    in_.x = separate ? copy(arena, in.x) : x_;
    InputColumns<Real>::each(
        [&](const char*, auto column, ColumnSize) { in_.*column = copy(arena, in.*column); });
    if (!in.segments.given()) return;
    const Index segments = in.segments.count(in.tokens());
    Index* const offsets = arena.take<Index>(segments + 1);
    if (arena.measuring()) return;
    for (Index s = 0; s < segments; ++s) offsets[s] = in.segments.begin(s);
    offsets[segments] = in.tokens();
    in_.segments = Segments({offsets, static_cast<std::size_t>(segments + 1)});
  }

  // One compiled copy per type, not per column.
  template <class T>
  MOE_NOINLINE static ConstMatrixView<T> copy(Arena& arena, const ConstMatrixView<T>& from) {
    if (from.data == nullptr) return from;
    T* const to = arena.take<T>(checked_product("tape", from.rows, from.cols));
    for (Index i = 0; !arena.measuring() && i < from.rows && from.cols > 0; ++i) {
      std::memcpy(to + i * from.cols, from.row(i), static_cast<std::size_t>(from.cols) * sizeof(T));
    }
    ConstMatrixView<T> view = from;
    view.data = to;
    view.stride = from.cols;
    return view;
  }
  template <class T>
  MOE_NOINLINE static Column<T> copy(Arena& arena, const Column<T>& from) {
    if (from.empty()) return {};
    T* const to = arena.take<T>(static_cast<Index>(from.size()));
    if (!arena.measuring()) std::memcpy(to, from.data(), from.size() * sizeof(T));
    return {to, from.size()};
  }

  RouterInput<Real> in_{};
  ConstMatrixView<Real> x_{};
  Workspace memory_;
  bool separate_router_ = false;
};

}  // namespace impl

MOE_NAMESPACE_END
