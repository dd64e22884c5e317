// Hooks that a part of a router or layer may have (core/part_traits.hpp), checked when parts are put
// together: one that is spelled almost right, or has another signature, does not compile and says what was
// meant.
#pragma once

#include <concepts>
#include <type_traits>
#include <utility>

#include "moe/core/near_miss.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

struct StateVisitor {
  void operator()(const char*, double*, Index) const noexcept {}
};

struct AnyVisitor {
  template <class... Args>
  void operator()(Args&&...) const noexcept {}
};

/// Empty ones are those of a part without parameters.
template <class Part>
inline constexpr bool kHasGradients = !std::is_empty_v<GradientsOf<Part>>;

/// True, or does not compile: the hooks of a part with parameters are all there, and can be called.
template <class Part>
consteval bool refuse_wrong_parameter_hooks() {
  constexpr bool kMakes = requires(const Part& p) {
    { p.make_gradients() } -> std::convertible_to<GradientsOf<Part>>;
  };
  constexpr bool kShows = requires(Part & p, GradientsOf<Part> * g, AnyVisitor & f) {
    p.visit_parameters(g, f);
  };
  constexpr bool kStores = requires(Part & p, GradientsOf<Part> * g, AnyVisitor & f) {
    p.visit_storage(g, f);
  };
  static_assert(
      kOwnPart<Part> || kMakes || !(kHasGradients<Part> || has_member<Part, Hook::make_gradients>()),
      "moe: a part with Gradients has no make_gradients() that can be called: Gradients "
      "make_gradients() const");
  static_assert(
      kOwnPart<Part> || kShows || !(kHasGradients<Part> || has_member<Part, Hook::visit_parameters>()),
      "moe: a part with Gradients has no visit_parameters() that can be called: template <class Visitor> "
      "void "
      "visit_parameters(Gradients* gradients, Visitor& f), which calls f(Parameter<Real>)");
  static_assert(
      kOwnPart<Part> || kStores || !has_member<Part, Hook::visit_storage>(),
      "moe: a part with Gradients has a visit_storage() that cannot be called: template <class Visitor> "
      "void visit_storage(Gradients* gradients, Visitor& f), which calls f(name, Real* values, Real* "
      "gradients, Index n)");
  return true;
}

/// True, or does not compile. `Call` is what check_call gets.
template <class Part, class Call>
consteval bool refuse_wrong_hooks() {
  static_assert(absent_or<Part, Hook::check>(requires(const Part& p) { p.check(Index{}); }),
                "moe: a part has a check() that cannot be called: void check(Index outputs) const");
  static_assert(
      absent_or<Part, Hook::check_call>(requires(const Part& p, const Call& in) { p.check_call(in); }),
      "moe: a part has a check_call() that cannot be called: "
      "void check_call(const RouterInput<Real>& in) const");
  static_assert(absent_or<Part, Hook::coupling>(requires {
                  { Part::coupling(true) } -> std::same_as<Coupling>;
                }),
                "moe: a part has a coupling() that cannot be called: static constexpr Coupling coupling(bool "
                "training)");
  static_assert(
      absent_or<Part, Hook::on_step_end>(requires(Part & p, const RouteStats& s) { p.on_step_end(s); }),
      "moe: a part has an on_step_end() that cannot be called: void on_step_end(const RouteStats& stats)");
  static_assert(
      absent_or<Part, Hook::visit_state>(requires(Part & p, StateVisitor & f) { p.visit_state(f); }),
      "moe: a part has a visit_state() that cannot be called: "
      "template <class Visitor> void visit_state(Visitor& f), which calls f(name, double* values, Index n)");
  return refuse_near_part_hooks<Part>() && refuse_wrong_parameter_hooks<Part>();
}

/// The same of a router or a bank, whose hooks have defaults. `Shape`: what its measure gets behind the
/// arena.
template <class Whole, class Arena, class... Shape>
consteval bool refuse_wrong_default_hooks() {
  static_assert(
      absent_or<Whole, Hook::measure>(requires {
        std::declval<const Whole&>().measure(std::declval<Arena&>(), std::declval<const Shape&>()...);
      }),
      "moe: a router or bank has a measure() that cannot be called: void measure(Arena& arena, shape..., "
      "Index concurrency) const, where shape is a router's const CallShape&, a bank's Index pairs");
  return refuse_near_misses<Whole, Hook::measure, Hook::make_gradients, Hook::visit_parameters,
                            Hook::visit_storage, Hook::visit_state, Hook::on_step_end>() &&
         refuse_wrong_parameter_hooks<Whole>();
}

}  // namespace impl

MOE_NAMESPACE_END
