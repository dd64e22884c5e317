// What a router may show of its work beside the table: logits and scores, for LayerOutput::observer.
#pragma once

#include <concepts>

#include "moe/core/executor.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/view.hpp"
#include "moe/router/concept.hpp"

MOE_NAMESPACE_BEGIN

/// To be filled; empty where nobody looks.
template <class Real>
struct RouteView {
  MatrixView<Real> logit{};  // [T, outputs] for rows that take part
  MatrixView<Real> score{};  // [T, outputs] likewise
  MatrixView<Real> carry{};  // [T, carry_width()] all rows; 0 for those that take no part
};

/// `outputs()`: columns of logits and scores. `route_observed` does what `route` does, or with a tape (not
/// null) what `route_train` does, with the same bits, and fills the view; it takes no more from the arena
/// than `measure` says.
template <class R>
concept ObservableRouter = Router<R> &&
    requires(const R& router, const RouterInput<typename R::Real>& in, RouteTable<typename R::Real>& table,
             impl::TapeOf<R>* tape, const RouteView<typename R::Real>& view, Arena& arena,
             SerialExecutor& executor) {
  { router.outputs() } -> std::convertible_to<Index>;
  { router.route_observed(in, table, tape, view, arena, executor) } -> std::same_as<void>;
};

/// `carry_width()`: R, columns of what it hands on to the router of the next layer; 0: nothing.
template <class R>
concept CarryingRouter = ObservableRouter<R> && requires(const R& router) {
  { router.carry_width() } -> std::convertible_to<Index>;
};

MOE_NAMESPACE_END
