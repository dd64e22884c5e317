// What a layer made of layers has of them: their parameters, each under the name of its layer, and their
// gradients. A router or bank that several layers refer to (MoeLayer<R&, B&>) is one part: it is shown with
// the first of them, and what every one of them adds goes to that one's gradients.
#pragma once

#include <cstddef>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "moe/core/check.hpp"
#include "moe/core/column.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/depth/layer_calls.hpp"
#include "moe/depth/layer_list.hpp"
#include "moe/layer/call/checks.hpp"
#include "moe/layer/concept.hpp"
#include "moe/layer/shown_parts.hpp"
#include "moe/plan/statistics.hpp"
#include "moe/router/concept.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// Whether L shows the parts that it may only refer to, as MoeLayer does.
template <class L>
concept ShowsParts = requires(L& layer, typename L::LayerGradients& gradients) {
  layer.router();
  layer.experts();
  layer.visit_parts(gradients, [](auto&, auto*) {});
};

/// Columns of a layer's y, which most have as many of as x.
template <class L>
Index out_width_of(const L& layer) {
  if constexpr (requires { layer.out_width(); }) {
    return layer.out_width();
  } else {
    return Index{layer.width()};
  }
}

/// Throws what a backward refuses of the gradients of carries; those that are written must be apart from all.
template <class LayerGradients>
void check_carry_backward(const LayerGradients& of, Index tokens, Index width, bool had_carry) {
  require_carry("dcarry_out", of.dcarry_out, tokens, width);
  require_carry("dcarry", of.dcarry, tokens, width);
  if (of.dcarry && !had_carry) {
    fail<config_error>("dcarry: expected none, for the call had no carry, got a matrix of ", of.dcarry.cols,
                       " columns");
  }
  require_disjoint("dcarry_out", of.dcarry_out, "dx", of.dx);
  require_disjoint("dcarry_out", of.dcarry_out, "dcarry", of.dcarry);
  require_disjoint("dy", of.dy, "dcarry", of.dcarry);
  require_disjoint("dx", of.dx, "dcarry", of.dcarry);
}

}  // namespace impl

/// Base of layers made of layers, of one type (any number of them) or of several types (one of each).
template <class... Ls>
class LayerGroup : public impl::ShownParts<LayerGroup<Ls...>> {
  using Shown = impl::ShownParts<LayerGroup>;
  friend Shown;
  static_assert((TokenLayer<Ls> && ...),
                "moe: a layer of layers is made of TokenLayers: moe/layer/concept.hpp");

 public:
  using Layers = impl::LayersOf<Ls...>;
  using Real = typename std::tuple_element_t<0, std::tuple<Ls...>>::Real;
  static_assert((std::is_same_v<Real, typename Ls::Real> && ...),
                "moe: layers of a layer must compute in the same type");
  static constexpr bool kTrainable = (Ls::kTrainable && ...);

  /// A part that several layers refer to has its gradients with the first of them; the others' are empty.
  struct Gradients {
    impl::LayersOf<typename Ls::Gradients...> layers;
  };

  /// In: dy, the scale of the losses, which layers' parameters get no gradients from this call, and the
  /// gradient of what was handed on. Out: dx and dcarry (overwritten; may be absent), and added to: the
  /// gradients of all layers (null: frozen).
  struct LayerGradients {
    ConstMatrixView<Real> dy;
    MatrixView<Real> dx{};
    MatrixView<Real> router_dx{};  // must be absent
    double auxiliary_scale = 1;
    ConstMatrixView<Real> dcarry_out{};  // [T, R] of LayerOutput::carry, of a layer with carry_width() R
    MatrixView<Real> dcarry{};           // [T, R] of the column `carry`, if the call had one
    Gradients* all = nullptr;
    Column<bool> frozen_layer{};  // [layers] or empty; a shared part has gradients of those not frozen

    LayerGradients() = default;
    LayerGradients(ConstMatrixView<Real> dy_, MatrixView<Real> dx_) : dy(dy_), dx(dx_) {}
    LayerGradients(ConstMatrixView<Real> dy_, MatrixView<Real> dx_, Gradients& gradients)
        : dy(dy_), dx(dx_), all(&gradients) {}
    template <class Dy, class Dx, class... All>
    requires(impl::MistakenMatrix<Dy, const Real> || impl::MistakenMatrix<Dx, Real>)  //
        LayerGradients(Dy&&, Dx&&, All&&...) {
      if constexpr (impl::MistakenMatrix<Dy, const Real>) impl::refuse_matrix<Dy, const Real>();
      if constexpr (impl::MistakenMatrix<Dx, Real>) impl::refuse_matrix<Dx, Real>();
    }

    bool frozen(Index i) const noexcept {
      return all == nullptr || (!frozen_layer.empty() && frozen_layer[i]);
    }
  };

  /// The layers: a vector of one type, else a tuple. Their number must not change.
  Layers& layers() noexcept { return layers_; }
  const Layers& layers() const noexcept { return layers_; }
  Index size() const noexcept { return impl::list_size(layers_); }

  /// How much of the batch a row depends on: the weakest of the layers.
  static constexpr Coupling coupling(bool training) noexcept {
    Coupling all = Coupling::row_independent;
    ((all = weakest(all, Ls::coupling(training))), ...);
    return all;
  }
  /// Experts of the counts: those of the first layer that counts any. Layers of another number are not in the
  /// sum.
  Index counted_experts() const {
    Index experts = 0;
    impl::each_layer(
        [&](Index, const auto& layer) {
          if (experts == 0) experts = impl::counted_experts(layer);
        },
        layers_);
    return experts;
  }

  /// f(role, name) for every part of every layer.
  template <class Visitor>
  void visit_names(Visitor&& f) const {
    impl::each_layer(
        [&](Index, const auto& layer) {
          if constexpr (requires { layer.visit_names(f); }) layer.visit_names(f);
        },
        layers_);
  }

  /// After an optimiser step. `stats` as calls leave them: every layer gets its own, stats.layers[i], and a
  /// router or bank that several refer to the sum of theirs, once. Counts without `layers` go to every layer
  /// as they are: what all choose together (PoolBalance). Throws shape_error for counts of another number of
  /// layers.
  void on_step_end(const RouteStats& stats) requires kTrainable {
    if (!stats.layers.empty()) {
      require_extent("statistics", "layers", size(), static_cast<Index>(stats.layers.size()));
    }
    impl::each_layer(
        [&](Index i, auto& layer) {
          using L = std::remove_reference_t<decltype(layer)>;
          if constexpr (impl::ShowsParts<L>) {
            layer.visit_parts(typename L::LayerGradients{}, [&](auto& part, auto*) {
              if (first_user(part, i) == i) part_step_end(part, i, stats);
            });
          } else {
            impl::on_step_end_of(layer, own_counts(i, stats));
          }
        },
        layers_);
  }

  /// Zero gradients of every layer; shared parts once.
  Gradients make_gradients() const requires kTrainable {
    if constexpr (sizeof...(Ls) == 1) {
      Gradients made;
      impl::each_layer([&](Index i, const auto& layer) { made.layers.push_back(gradients_of(i, layer)); },
                       layers_);
      return made;
    } else {
      return [&]<std::size_t... kI>(std::index_sequence<kI...>) {
        return Gradients{{gradients_of(static_cast<Index>(kI), std::get<kI>(layers_))...}};
      }
      (std::make_index_sequence<sizeof...(Ls)>{});
    }
  }

 protected:
  /// `of`: what a layer's parameters are called by, "step" for "step0.gate.weight". Throws config_error for
  /// no layers.
  LayerGroup(const char* of, Layers layers) : layers_(std::move(layers)), of_(of) {
    if (size() == 0) fail<config_error>(of_, "s: expected at least 1 layer, got none");
  }

  const impl::Identity& identity() const noexcept { return identity_; }
  /// Throws state_error for one that was moved from.
  void require_there() const { impl::require_there("layer", identity_ && size() > 0); }

  /// A tape of each layer.
  static auto make_tapes(const Layers& layers) {
    if constexpr (sizeof...(Ls) == 1) {
      impl::LayersOf<typename Ls::Tape...> tapes;
      for (const auto& layer : layers) tapes.push_back(layer.make_tape());
      return tapes;
    } else {
      return std::apply([](const auto&... layer) { return std::make_tuple(layer.make_tape()...); }, layers);
    }
  }
  template <class Tapes>
  void require_tapes(const Tapes& tapes) const {
    if (impl::list_size(tapes) != size()) {
      fail<state_error>("tape: expected one of ", size(), " layers (ask make_tape()), got one of ",
                        impl::list_size(tapes));
    }
  }

  /// Throws what a backward refuses of its arguments: dy [tokens, out_width], dx [tokens, width], gradients
  /// of another shape. Nothing is written.
  void check_backward(const LayerGradients& gradients, Index tokens, Index width, Index out_width,
                      Index carry_width = 0, bool had_carry = false) const {
    impl::check_backward_rows(gradients, tokens, width, out_width);
    if (gradients.router_dx) {
      fail<config_error>(
          "router_dx: expected none of a layer of layers, whose routers read what experts read");
    }
    impl::check_carry_backward(gradients, tokens, carry_width, had_carry);
    if (!gradients.frozen_layer.empty()) {
      require_extent("frozen_layer", "entries", size(), static_cast<Index>(gradients.frozen_layer.size()));
    }
    this->check_gradients(gradients);
  }

  /// What layer i's backward gets: nothing to add to where it is frozen.
  template <class L>
  typename L::LayerGradients own_gradients(Index i, const L& layer, const ConstMatrixView<Real>& dy,
                                           const MatrixView<Real>& dx, const LayerGradients& of) const {
    typename L::LayerGradients own;
    if (!of.frozen(i)) own = directed(i, layer, *of.all);
    own.dy = dy;
    own.dx = dx;
    own.auxiliary_scale = of.auxiliary_scale;
    return own;
  }

 private:
  /// f(j, layer j, is router) of every layer that has `part` as its router or bank.
  template <class Part, class F>
  void each_user(const Part& part, F&& f) const {
    impl::each_layer(
        [&](Index j, const auto& layer) {
          if constexpr (impl::ShowsParts<std::remove_cvref_t<decltype(layer)>>) {
            if constexpr (std::is_same_v<std::remove_cvref_t<decltype(layer.router())>, Part>) {
              if (std::addressof(layer.router()) == std::addressof(part)) f(j);
            }
            if constexpr (std::is_same_v<std::remove_cvref_t<decltype(layer.experts())>, Part>) {
              if (std::addressof(layer.experts()) == std::addressof(part)) f(j);
            }
          }
        },
        layers_);
  }
  /// The first layer that has it; `own` if no other has.
  template <class Part>
  Index first_user(const Part& part, Index own) const {
    Index first = own;
    each_user(part, [&](Index j) { first = j < first ? j : first; });
    return first;
  }
  /// Null if every layer that has it is frozen.
  template <class Part>
  impl::GradientsOf<Part>* unless_frozen(const Part& part, Index own, impl::GradientsOf<Part>* gradients,
                                         const LayerGradients& of) const {
    bool frozen = of.frozen(own);
    each_user(part, [&](Index j) { frozen = frozen && of.frozen(j); });
    return frozen ? nullptr : gradients;
  }

  static const RouteStats& own_counts(Index i, const RouteStats& all) noexcept {
    return all.layers.empty() ? all : all.layers[static_cast<std::size_t>(i)];
  }
  template <class Part>
  void part_step_end(Part& part, Index i, const RouteStats& all) const {
    if constexpr (requires { part.on_step_end(all); }) {
      Index users = 0;
      each_user(part, [&](Index) { ++users; });
      if (users < 2 || all.layers.empty()) return part.on_step_end(own_counts(i, all));
      RouteStats sum;
      each_user(part, [&](Index j) { sum.add(own_counts(j, all)); });
      part.on_step_end(sum);
    }
  }

  template <class L>
  typename L::Gradients gradients_of(Index i, const L& layer) const {
    if constexpr (impl::ShowsParts<L>) {
      typename L::Gradients made = layer.make_gradients();
      if (first_user(layer.router(), i) != i) leave_empty(made.router);
      if (first_user(layer.experts(), i) != i) leave_empty(made.experts);
      return made;
    } else {
      return layer.make_gradients();
    }
  }
  /// What a move leaves behind.
  template <class T>
  static void leave_empty(T& gradients) {
    const T taken = std::move(gradients);
    static_cast<void>(taken);
  }

  /// Layer i's own. Throws shape_error for gradients of another number of layers.
  template <class L>
  typename L::Gradients* own_of(Index i, const L&, Gradients& all) const {
    if (impl::list_size(all.layers) != size()) {
      fail<shape_error>("gradients: expected those of ", size(), " layers (ask make_gradients()), got ",
                        impl::list_size(all.layers));
    }
    typename L::Gradients* own = nullptr;
    impl::each_layer(
        [&](Index j, auto& gradients) {
          if constexpr (std::is_same_v<std::remove_cvref_t<decltype(gradients)>, typename L::Gradients>) {
            if (i == j) own = &gradients;
          }
        },
        all.layers);
    return own;
  }
  /// Gradients of all parts of layer i, shared ones with the first of their layers.
  template <class L>
  typename L::LayerGradients directed(Index i, const L& layer, Gradients& all) const {
    typename L::LayerGradients own({}, {}, *own_of(i, layer, all));
    if constexpr (impl::ShowsParts<L>) {
      const Index router = first_user(layer.router(), i), experts = first_user(layer.experts(), i);
      impl::each_layer(
          [&](Index j, auto& gradients) {
            if constexpr (requires { own.router = &gradients.router; }) {
              if (j == router && j != i) own.router = &gradients.router;
            }
            if constexpr (requires { own.experts = &gradients.experts; }) {
              if (j == experts && j != i) own.experts = &gradients.experts;
            }
          },
          all.layers);
    }
    return own;
  }

  /// Shared parts once, under the first of their layers; a layer that shows no parts is one. Names begin with
  /// that of the layer.
  template <class Visit>
  void each_part(const LayerGradients& of, Visit&& visit) {
    impl::each_layer(
        [&](Index i, auto& layer) {
          using L = std::remove_reference_t<decltype(layer)>;
          if constexpr (impl::ShowsParts<L>) {
            typename L::LayerGradients own;
            if (of.all != nullptr) own = directed(i, layer, *of.all);
            layer.visit_parts(own, [&](auto& part, auto* gradients) {
              if (first_user(part, i) == i) visit(part, unless_frozen(part, i, gradients, of), of_, i);
            });
          } else {
            visit(layer, of.frozen(i) ? nullptr : own_of(i, layer, *of.all), of_, i);
          }
        },
        layers_);
  }

  Layers layers_;
  const char* of_;
  impl::Identity identity_;
};

MOE_NAMESPACE_END
