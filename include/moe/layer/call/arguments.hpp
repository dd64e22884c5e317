// Sentences for calls of a layer that do not fit, where the compiler would list candidates.
#pragma once

#include <type_traits>

#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/layer/call/output.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

template <class T, class To>
concept BindsTo = std::is_convertible_v<T, To&>;

/// What every call ends with: a workspace, and an executor or none.
template <class... Last>
inline constexpr bool kCallEnd = false;
template <BindsTo<Workspace> W>
inline constexpr bool kCallEnd<W> = true;
template <BindsTo<Workspace> W, class X>
inline constexpr bool kCallEnd<W, X> = Executor<std::remove_reference_t<X>>;

/// The same behind a tape.
template <class Tape, class... Last>
inline constexpr bool kTapedEnd = false;
template <class Tape, BindsTo<Tape> T, class... Last>
inline constexpr bool kTapedEnd<Tape, T, Last...> = kCallEnd<Last...>;

template <class Real, class In, class Out>
inline constexpr bool kCallBegin =
    BindsTo<Out, LayerOutput<Real>>&& std::is_convertible_v<In, LayerInput<Real>>;

// What a layer's own calls take. Templates of their own, because a base sees no member of its layer before a
// call is looked up.
template <class Layer, class In, class Out, class... Last>
inline constexpr bool kFitsForward = kCallBegin<typename Layer::Real, In, Out>&& kCallEnd<Last...>;
template <class Layer, class In, class Out, class... Last>
inline constexpr bool kFitsTrain =
    kCallBegin<typename Layer::Real, In, Out>&& kTapedEnd<typename Layer::Tape, Last...>;
template <class Layer, class T, class G, class... Last>
inline constexpr bool kFitsBackward = BindsTo<T, const typename Layer::Tape>&&
    BindsTo<G, const typename Layer::LayerGradients>&& kCallEnd<Last...>;

// None of these compiles if what it looks at is wrong.

template <class Real, class In, class Out>
constexpr void refuse_begin() {
  if constexpr (MistakenMatrix<In, const Real>) {
    refuse_matrix<In, const Real>();
  } else {
    static_assert(
        std::is_convertible_v<In, LayerInput<Real>>,
        "moe: the first argument of a call is its rows: a row-major matrix, a view, a tensor of rank "
        "3 or a LayerInput of the layer's type of numbers");
  }
  constexpr bool kIsMatrix = MistakenMatrix<Out, const Real> || HasElements<Out, const Real>;
  constexpr bool kIsOutput = requires(std::remove_cvref_t<Out> & out) {
    out.losses;
  };
  static_assert(
      !kIsMatrix,
      "moe: results go to a LayerOutput, which takes losses and statistics as well: moe::LayerOutput "
      "out(y); layer.forward(x, out, workspace)");
  static_assert(kIsMatrix || kIsOutput, "moe: the second argument of a call is a LayerOutput");
  static_assert(!kIsOutput || std::is_lvalue_reference_v<Out>,
                "moe: a temporary LayerOutput would take the losses with it; give it a name");
  static_assert(!kIsOutput || !std::is_lvalue_reference_v<Out> || BindsTo<Out, LayerOutput<Real>>,
                "moe: a LayerOutput that is const, or of another type of numbers than the layer's");
}

template <class W, class... X>
constexpr void refuse_workspace() {
  constexpr bool kIsWorkspace = std::is_same_v<std::remove_cvref_t<W>, Workspace>;
  static_assert(kIsWorkspace, "moe: a Workspace expected, last or before the executor");
  static_assert(!kIsWorkspace || BindsTo<W, Workspace>,
                "moe: a temporary or const workspace; give it a name and keep it from call to call, so that "
                "they do not allocate");
  static_assert(!BindsTo<W, Workspace> || kCallEnd<W, X...>,
                "moe: the last argument of a call is an Executor: moe/core/executor.hpp");
}
template <class... Last>
constexpr void refuse_end() {
  static_assert(
      sizeof...(Last) > 0,
      "moe: the workspace is missing: a moe::Workspace, last or before the executor, kept from call to "
      "call");
  if constexpr (sizeof...(Last) > 0) refuse_workspace<Last...>();
}

template <class Tape, class T, class... Last>
constexpr void refuse_tape() {
  static_assert(BindsTo<T, Tape>,
                "moe: a tape of this layer expected, by name: auto tape = layer.make_tape()");
  if constexpr (BindsTo<T, Tape>) refuse_end<Last...>();
}
template <class Tape, class... Last>
constexpr void refuse_taped_end() {
  static_assert(sizeof...(Last) > 0, "moe: tape and workspace are missing: auto tape = layer.make_tape()");
  if constexpr (sizeof...(Last) > 0) refuse_tape<Tape, Last...>();
}

/// Base of a layer, with the calls that are none of its own.
template <class Layer>
class RefusedCalls {
 public:
  template <class In, class Out, class... Last>
  requires(!kFitsForward<Layer, In, Out, Last...>)  //
      void forward(In&&, Out&&, Last&&...) const {
    refuse_begin<typename Layer::Real, In, Out>();
    refuse_end<Last...>();
  }
  template <class In, class Out, class... Last>
  requires(!kFitsTrain<Layer, In, Out, Last...>)  //
      void forward_train(In&&, Out&&, Last&&...) const {
    refuse_begin<typename Layer::Real, In, Out>();
    refuse_taped_end<typename Layer::Tape, Last...>();
  }
  template <class T, class G, class... Last>
  requires(!kFitsBackward<Layer, T, G, Last...>)  //
      void backward(T&&, G&&, Last&&...) const {
    static_assert(BindsTo<T, const typename Layer::Tape>,
                  "moe: the first argument of backward is the tape of a forward_train of this layer");
    static_assert(BindsTo<G, const typename Layer::LayerGradients>,
                  "moe: the second argument of backward is a LayerGradients of this layer: dy, dx and where "
                  "gradients go");
    refuse_end<Last...>();
  }
};

}  // namespace impl

MOE_NAMESPACE_END
