// Stage 1/5 route. In: RouterInput. Out: RouteTable. Next: moe/plan/dispatch_plan.hpp
// What a router is. Most are compositions: see router/kind/token_choice.hpp.
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "moe/core/check.hpp"
#include "moe/core/column.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/plan/route_table.hpp"

MOE_NAMESPACE_BEGIN

/// `experts()`: ids are in [0, experts()). `width()`: columns it reads from each row, 0 if it reads none.
/// `coupling(training)`: constexpr static. `route` fills a cleared table; it throws before the table is of
/// any use to others. What else it may have: `max_pairs(shape)`, a bound on pairs (without: every token to
/// every expert); `measure(arena, shape, concurrency)`, which takes from a measuring arena what `route` takes
/// (without: nothing); `codes_per_token()`, how many it leaves in table.code (without: none);
/// `visit_parameters`, `visit_state`.
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

template <class R>
Index codes_per_token_of(const R& router) noexcept {
  if constexpr (requires { router.codes_per_token(); }) {
    return router.codes_per_token();
  } else {
    return 0;
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

/// What arrives at a router's backward. `dlogit` and `advantage` come from outside the layer, and rows that
/// take no part in the call have none of either.
template <class Real>
struct RouteGradients {
  const Real* dweight = nullptr;   // [P] by pair of the table; 0 for dropped pairs
  double auxiliary_scale = 1;      // factor of the auxiliary losses in the total loss
  MatrixView<Real> dx{};           // [T, Dr] added to
  ConstMatrixView<Real> dlogit{};  // [T, N] or absent: of the logits that the score saw, with noise and mask
                                   // and over the call's temperature; masked ones have none
  Column<double> advantage{};      // [T] or absent: cost minus baseline of what the row sampled; a * grad ln
                                   // Q(choices) is added, so that a descent makes costly choices rarer
  const Probes<Real>* dprobes = nullptr;  // of a call with probes: their gradients added to
  ConstMatrixView<Real> dcarry_out{};     // [T, R] or absent: of what the router handed on
  MatrixView<Real> dcarry{};              // [T, R] or absent: of the carry that came in; added to
};

namespace impl {

/// Throws config_error for a carry or a gradient of one where a router hands nothing on (width 0),
/// shape_error unless it is [tokens, width].
template <class T>
void require_carry(const char* name, const MatrixView<T>& carry, Index tokens, Index width) {
  if (!carry) return;
  if (width == 0) {
    fail<config_error>(name, ": expected none for a router that hands nothing on, got a matrix of ",
                       carry.cols, " columns");
  }
  require_shape(name, carry, tokens, width);
}

/// Throws unless the gradients of what came in and was handed on fit a router of that width, and
/// config_error for one of a carry that did not come.
template <class Real>
void check_carry_gradients(const RouterInput<Real>& in, const RouteGradients<Real>& out, Index width) {
  require_carry("dcarry_out", out.dcarry_out, in.tokens(), width);
  require_carry("dcarry", out.dcarry, in.tokens(), width);
  if (out.dcarry && !in.carry) {
    fail<config_error>("dcarry: expected none, for the call had no carry, got a matrix of ", out.dcarry.cols,
                       " columns");
  }
}

/// Throws config_error for gradients from outside, which whatever is called `of` cannot obey.
template <class Real>
void refuse_outside_gradients(const RouteGradients<Real>& out, const char* of) {
  if (out.dlogit) {
    fail<config_error>("dlogit: expected none for ", of, ", which cannot obey it, got a matrix");
  }
  if (!out.advantage.empty()) {
    fail<config_error>("advantage: expected none for ", of, ", which samples nothing, got ",
                       static_cast<Index>(out.advantage.size()), " entries");
  }
  require_carry("dcarry_out", out.dcarry_out, 0, 0);
  require_carry("dcarry", out.dcarry, 0, 0);
}

/// Throws unless gradients from outside are [T, outputs] and [T], config_error if a router that samples
/// nothing got an advantage, numeric_error for a number of an active row that is not finite. `active` [T].
template <class Real>
void check_outside_gradients(const RouteGradients<Real>& out, Index tokens, Index outputs, bool sampled,
                             const bool* active) {
  if (out.dlogit) require_shape("dlogit", out.dlogit, tokens, outputs);
  if (!out.advantage.empty()) {
    if (!sampled) {
      fail<config_error>("advantage: expected none for a call whose choices were not sampled, got ",
                         static_cast<Index>(out.advantage.size()), " entries");
    }
    require_extent("advantage", "entries", tokens, static_cast<Index>(out.advantage.size()));
  }
  for (Index t = 0; t < tokens; ++t) {
    if (!active[t]) continue;
    for (Index e = 0; out.dlogit && e < outputs; ++e) {
      if (!is_finite(out.dlogit(t, e))) {
        fail<numeric_error>("dlogit: expected finite values, got ", out.dlogit(t, e), " for token ", t,
                            ", output ", e);
      }
    }
    if (!out.advantage.empty() && !is_finite(out.advantage[t])) {
      fail<numeric_error>("advantage: expected finite values, got ", out.advantage[t], " for token ", t);
    }
  }
}

/// Throws what a router's backward would refuse, before anything is written. A router without
/// `check_backward` obeys no gradients from outside.
template <class R>
void check_backward_of(const R& router, const RouterInput<typename R::Real>& in,
                       const RouteTable<typename R::Real>& table, const TapeOf<R>& tape,
                       const RouteGradients<typename R::Real>& out) {
  if constexpr (requires { router.check_backward(in, table, tape, out); }) {
    router.check_backward(in, table, tape, out);
  } else {
    refuse_outside_gradients(out, "this router");
  }
}

}  // namespace impl

/// Gradients mirror the parameters; a null pointer means frozen. With a Tape that is not empty there is
/// `route_train(in, table, tape, arena, executor)`, with Gradients `make_gradients()` and
/// `visit_parameters(gradients, f)`. What else it may have: `measure_backward`, as `measure`;
/// `check_backward(in, table, tape, out)`, which throws for what backward refuses (without: any `dlogit`,
/// `advantage` or gradient of a carry); `visit_storage(gradients, f)` (without: every parameter is a range of
/// its own); `on_step_end(stats)`, which updates what is not trained by gradient (selection bias, adaptive
/// coefficients) from the counts of all micro-batches of the step, and of all layers that refer to it.
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
