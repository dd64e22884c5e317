// Stage 1/5 route. In: RouterInput. Out: RouteTable. Next: moe/plan/dispatch_plan.hpp
// What a router is. Most are compositions: see router/kind/token_choice.hpp.
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/plan/route_table.hpp"

MOE_NAMESPACE_BEGIN

/// `experts()`: ids are in [0, experts()). `width()`: columns it reads from each row, 0 if it reads none.
/// `coupling(training)`: constexpr static. `route` fills a cleared table; it throws before the table is of
/// any use to others. What else it may have: `max_pairs(shape)`, a bound on pairs (without: every token to
/// every expert); `measure(arena, shape, concurrency)`, which takes from a measuring arena what `route` takes
/// (without: nothing); `visit_parameters`, `visit_state`.
template <class R>
concept Router = std::move_constructible<R> &&
    requires(const R& router, const RouterInput<typename R::Real>& in, RouteTable<typename R::Real>& table,
             Arena& arena, SerialExecutor& executor) {
  typename R::Real;
  { R::coupling(true) } -> std::same_as<Coupling>;
  { router.experts() } -> std::convertible_to<Index>;
  { router.width() } -> std::convertible_to<Index>;
  { router.route(in, table, arena, executor) } -> std::same_as<void>;
};

/// Where combine weights multiply: w f_e(x), or f_e(w x) (Llama 4). A router without weight_place() means
/// `result`.
enum class WeightPlace : std::uint8_t { result, input };

namespace impl {

template <class R>
WeightPlace weight_place(const R& router) noexcept {
  if constexpr (requires { router.weight_place(); }) {
    return router.weight_place();
  } else {
    return WeightPlace::result;
  }
}

template <class R>
Index max_pairs_of(const R& router, const CallShape& shape) {
  if constexpr (requires { router.max_pairs(shape); }) {
    return router.max_pairs(shape);
  } else {
    return checked_product("routed pairs", shape.tokens, Index{router.experts()});
  }
}

/// A router that keeps nothing on its tape routes in training as it does in inference.
template <class R, class X>
void route_train_of(const R& router, const RouterInput<typename R::Real>& in,
                    RouteTable<typename R::Real>& table, typename R::Tape& tape, Arena& arena, X& executor) {
  if constexpr (requires { router.route_train(in, table, tape, arena, executor); }) {
    router.route_train(in, table, tape, arena, executor);
  } else {
    router.route(in, table, arena, executor);
  }
}

}  // namespace impl

/// What arrives at a router's backward.
template <class Real>
struct RouteGradients {
  const Real* dweight = nullptr;  // [P] by pair of the table; 0 for dropped pairs
  double auxiliary_scale = 1;     // factor of the auxiliary losses in the total loss
  MatrixView<Real> dx{};          // [T, Dr] added to
};

/// Gradients mirror the parameters; a null pointer means frozen. With a Tape that is not empty there is
/// `route_train(in, table, tape, arena, executor)`, with Gradients `make_gradients()` and
/// `visit_parameters(gradients, f)`. What else it may have: `measure_backward`, as `measure`;
/// `visit_storage(gradients, f)` (without: every parameter is a range of its own); `on_step_end(stats)`,
/// which updates what is not trained by gradient (selection bias, adaptive coefficients) from the counts of
/// all layers and micro-batches of the step.
template <class R>
concept TrainableRouter = Router<R> && std::default_initializable<typename R::Tape> &&
    requires(const R& router, const RouterInput<typename R::Real>& in, RouteTable<typename R::Real>& table,
             typename R::Tape& tape, const RouteGradients<typename R::Real>& out,
             typename R::Gradients* gradients, Arena& arena, SerialExecutor& executor) {
  { router.backward(in, table, tape, out, gradients, arena, executor) } -> std::same_as<void>;
  requires std::is_empty_v<typename R::Tape> || requires {
    router.route_train(in, table, tape, arena, executor);
  };
  requires std::is_empty_v<typename R::Gradients> || requires {
    { router.make_gradients() } -> std::same_as<typename R::Gradients>;
  };
};

MOE_NAMESPACE_END
