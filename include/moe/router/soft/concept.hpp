// What a soft router is: stage 1 of a soft layer, from RouterInput to MixTable. It does not choose, it says
// by which weights rows are mixed into the experts' slots, and their results back into rows.
#pragma once

#include <concepts>
#include <type_traits>

#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/plan/mix_table.hpp"

MOE_NAMESPACE_BEGIN

/// `experts()`, `width()` and `coupling(training)` are as a Router's. `extent(shape)` bounds what a call of
/// that shape mixes; `mix` fills a cleared table with room for it. It throws before the table is of any use
/// to others. What else it may have: `measure(arena, shape, concurrency)`, which takes from a measuring arena
/// what `mix` takes (without: nothing); `visit_parameters`, `visit_state`.
template <class R>
concept SoftRouter = std::move_constructible<R> &&
    requires(const R& router, const RouterInput<typename R::Real>& in, MixTable<typename R::Real>& table,
             const CallShape& shape, Arena& arena, SerialExecutor& executor) {
  typename R::Real;
  { R::coupling(true) } -> std::same_as<Coupling>;
  { router.experts() } -> std::convertible_to<Index>;
  { router.width() } -> std::convertible_to<Index>;
  { router.extent(shape) } -> std::same_as<MixExtent>;
  { router.mix(in, table, arena, executor) } -> std::same_as<void>;
};

/// What arrives at a soft router's backward: gradients of the weights, laid out as they are; it may overwrite
/// them.
template <class Real>
struct MixGradients {
  Real* dispatch = nullptr;
  Real* combine = nullptr;
  double auxiliary_scale = 1;  // factor of the auxiliary losses in the total loss
  MatrixView<Real> dx{};       // [T, Dr] added to, or absent
};

/// As TrainableRouter: a null pointer to gradients means frozen, and with a Tape that is not empty there is
/// `mix_train(in, table, tape, arena, executor)`.
template <class R>
concept TrainableSoftRouter = SoftRouter<R> && std::default_initializable<typename R::Tape> &&
    requires(const R& router, const RouterInput<typename R::Real>& in, MixTable<typename R::Real>& table,
             typename R::Tape& tape, const MixGradients<typename R::Real>& out,
             typename R::Gradients* gradients, Arena& arena, SerialExecutor& executor) {
  { router.backward(in, table, tape, out, gradients, arena, executor) } -> std::same_as<void>;
  requires std::is_empty_v<typename R::Tape> || requires {
    router.mix_train(in, table, tape, arena, executor);
  };
  requires std::is_empty_v<typename R::Gradients> || requires {
    { router.make_gradients() } -> std::same_as<typename R::Gradients>;
  };
};

namespace impl {

/// A router that keeps nothing on its tape mixes in training as it does in inference.
template <class R, class X>
void mix_train_of(const R& router, const RouterInput<typename R::Real>& in, MixTable<typename R::Real>& table,
                  typename R::Tape& tape, Arena& arena, X& executor) {
  if constexpr (requires { router.mix_train(in, table, tape, arena, executor); }) {
    router.mix_train(in, table, tape, arena, executor);
  } else {
    router.mix(in, table, arena, executor);
  }
}

}  // namespace impl

MOE_NAMESPACE_END
