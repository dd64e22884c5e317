// Hooks that a part of a router or layer may have (core/part_traits.hpp), checked when parts are put
// together: one that is spelled almost right, or has another signature, does not compile and says what was
// meant.
#pragma once

#include <concepts>

#include "moe/core/near_miss.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

struct StateVisitor {
  void operator()(const char*, double*, Index) const noexcept {}
};

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
  return refuse_near_part_hooks<Part>();
}

}  // namespace impl

MOE_NAMESPACE_END
