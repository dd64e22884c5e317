// What a layer shows of its parts, parameters, ranges, packed weights and state, to who may write and to who
// may read, and what it tells them at the end of a step: once for all layers, over the one list of parts that
// each of them has. A visit that a layer wrote itself could forget a part.
#pragma once

#include <type_traits>
#include <utility>

#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"
#include "moe/storage/parameter.hpp"
#include "moe/storage/prefixed.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

template <class T>
concept IsLayer = requires {
  typename T::LayerGradients;
};
/// Whether a layer's ranges can be shown with null gradients.
template <class T, class F>
concept ShowsFrozen = IsLayer<T> && requires(T& layer, const typename T::LayerGradients& frozen, F& f) {
  layer.visit_storage(frozen, f);
};

/// visit_parameters of a part or of a layer.
template <class T, class F>
void show_parameters(T& part, GradientsOf<T>* own, F& f) {
  if constexpr (IsLayer<T>) {
    own == nullptr ? part.visit_parameters(f) : part.visit_parameters(*own, f);
  } else {
    visit_parameters_of(part, own, f);
  }
}
/// visit_storage of either. Null gradients are shown as null.
template <class T, class F>
void show_storage(T& part, GradientsOf<T>* own, F& f) {
  if constexpr (ShowsFrozen<T, F>) {
    own == nullptr ? part.visit_storage(typename T::LayerGradients{}, f) : part.visit_storage(*own, f);
  } else if constexpr (IsLayer<T>) {
    if (own != nullptr) return part.visit_storage(*own, f);
    typename T::Gradients unused = part.make_gradients();
    part.visit_storage(unused, [&](const char* name, auto* values, auto* gradients, Index n) {
      f(name, values, decltype(gradients){}, n);
    });
  } else {
    visit_storage_of(part, own, f);
  }
}

/// A part whose visits are told its name (Projection), as one that knows it.
template <class Part>
struct NamedPart {
  using Gradients = typename Part::Gradients;
  Part& part;
  const char* name;

  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    part.visit_parameters(name, gradients, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    part.visit_storage(name, gradients, f);
  }
};

/// Base of a layer that has, for this class to call,
///   template <class Visit> void each_part(const LayerGradients& gradients, Visit&& visit);
/// which calls visit(part, its gradients or null) for every part, in the order in which they are shown and
/// saved, or visit(part, gradients, prefix, number) where names begin with a PrefixedVisitor's prefix. A part
/// may be a layer. LayerGradients{} has no gradients, LayerGradients({}, {}, g) those of all parts.
template <class Layer>
class ShownParts {
  // `L` is the layer, which is complete only when a member is called.

 public:
  /// f(Parameter<Real>) for every named parameter, values only.
  template <class Visitor, class L = Layer>
  void visit_parameters(Visitor&& f) {
    show(typename L::LayerGradients{}, f,
         [](auto& part, auto* none, auto& to) { show_parameters(part, none, to); });
  }
  /// f(Parameter<Real>) with gradients. Throws shape_error for another layer's.
  template <class Visitor, class L = Layer>
  void visit_parameters(typename L::Gradients& gradients, Visitor&& f) {
    const typename L::LayerGradients all({}, {}, gradients);
    check_gradients(all);
    show(all, f, [](auto& part, auto* own, auto& to) { show_parameters(part, own, to); });
  }
  /// f(name, Real* values, Real* gradients, n) for every flat range, packed as the kernels read it (padding
  /// included, always 0): what elementwise optimisers want. Throws shape_error for another layer's gradients.
  template <class Visitor, class L = Layer>
  void visit_storage(typename L::Gradients& gradients, Visitor&& f) {
    visit_storage(typename L::LayerGradients({}, {}, gradients), f);
  }
  /// The same with the gradients of a backward; null for what it froze.
  template <class Visitor, class L = Layer>
  void visit_storage(const typename L::LayerGradients& gradients, Visitor&& f) {
    check_gradients(gradients);
    show(gradients, f, [](auto& part, auto* own, auto& to) { show_storage(part, own, to); });
  }
  /// f(name, std::byte* data, bytes) for weights of a block storage, as they lie in memory: what
  /// visit_parameters cannot show.
  template <class Visitor, class L = Layer>
  void visit_packed(Visitor&& f) {
    show(typename L::LayerGradients{}, f, [](auto& part, auto*, auto& to) { visit_packed_of(part, to); });
  }
  /// f(name, double* values, n) for everything that is saved but not trained by gradient.
  template <class Visitor, class L = Layer>
  void visit_state(Visitor&& f) {
    show(typename L::LayerGradients{}, f, [](auto& part, auto*, auto& to) { visit_state_of(part, to); });
  }

  /// The same of a const layer, with pointers to const: f(Parameter<const Real>), f(name, const Real* values,
  /// Real* gradients, n), f(name, const std::byte* data, bytes), f(name, const double* values, n).
  template <class Visitor>
  void visit_parameters(Visitor&& f) const {
    writable().visit_parameters(ReadingVisitor(f));
  }
  template <class Visitor, class L = Layer>
  void visit_storage(typename L::Gradients& gradients, Visitor&& f) const {
    writable().visit_storage(gradients, ReadingVisitor(f));
  }
  template <class Visitor>
  void visit_packed(Visitor&& f) const {
    writable().visit_packed(ReadingVisitor(f));
  }
  /// By the parts' const visits: those for writers may write after their visitor.
  template <class Visitor, class L = Layer>
  void visit_state(Visitor&& f) const {
    writable().show(typename L::LayerGradients{}, f,
                    [](auto& part, auto*, auto& to) { visit_state_of(std::as_const(part), to); });
  }

  /// After an optimiser step: what is not trained by gradient, from the counts of the step (all
  /// micro-batches).
  template <class L = Layer>
  void on_step_end(const RouteStats& stats) requires L::kTrainable {
    self().each_part(typename L::LayerGradients{},
                     [&](auto& part, auto*, auto...) { on_step_end_of(part, stats); });
  }

  template <class L = Layer>
  void zero_gradients(typename L::Gradients& gradients) const requires L::kTrainable {
    visit_storage(gradients, [](const char*, const auto*, auto* g, Index n) {
      for (Index i = 0; i < n; ++i) g[i] = 0;
    });
  }

 protected:
  /// visit(part, its gradients or null) for every part, of a layer without prefixes that lets others at its
  /// parts, such as who holds several layers that refer to one. Throws shape_error for another layer's
  /// gradients.
  template <class Visit, class L = Layer>
  void visit_parts(const typename L::LayerGradients& gradients, Visit&& visit) {
    check_gradients(gradients);
    self().each_part(gradients, visit);
  }

  /// Throws shape_error unless these are gradients of a layer like this; nothing is shown or written.
  template <class L = Layer>
  void check_gradients(const typename L::LayerGradients& gradients) const {
    writable().self().each_part(gradients, [](auto& part, auto* own, auto...) {
      auto nobody = [](auto&&...) noexcept {};
      if (own != nullptr) show_storage(part, own, nobody);
    });
  }

 private:
  Layer& self() noexcept { return static_cast<Layer&>(*this); }
  /// For visits, which write nothing themselves.
  ShownParts& writable() const noexcept { return const_cast<ShownParts&>(*this); }

  /// how(part, its gradients, f, or what puts the part's prefix before the names).
  template <class LayerGradients, class F, class How>
  void show(const LayerGradients& gradients, F& f, const How& how) {
    self().each_part(gradients, [&](auto& part, auto* own, auto... place) {
      if constexpr (sizeof...(place) == 0) {
        how(part, own, f);
      } else {
        PrefixedVisitor<F> prefixed(f, place...);
        how(part, own, prefixed);
      }
    });
  }
};

}  // namespace impl

MOE_NAMESPACE_END
