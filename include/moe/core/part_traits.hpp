// What a part may have and need not: a tape, gradients, parameters, state, checks. Whoever holds parts asks
// through these functions, so that a part without the member costs nothing and is spelled nowhere else.
#pragma once

#include <type_traits>

#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

struct RouteStats;

namespace impl {

struct Nothing {};

template <class Part>
struct TapeOfPart {
  using type = Nothing;
};
template <class Part>
requires requires {
  typename Part::Tape;
}
struct TapeOfPart<Part> {
  using type = typename Part::Tape;
};
template <class Part>
struct GradientsOfPart {
  using type = Nothing;
};
template <class Part>
requires requires {
  typename Part::Gradients;
}
struct GradientsOfPart<Part> {
  using type = typename Part::Gradients;
};
template <class Part>
struct OptionsOfPart {
  using type = Nothing;
};
template <class Part>
requires requires {
  typename Part::Options;
}
struct OptionsOfPart<Part> {
  using type = typename Part::Options;
};

/// The type a part computes in; one that computes in any (it has no Real) is asked in double.
template <class Part>
struct RealOfPart {
  using type = double;
};
template <class Part>
requires requires {
  typename Part::Real;
}
struct RealOfPart<Part> {
  using type = typename Part::Real;
};

template <class Part>
using RealOf = typename RealOfPart<Part>::type;
template <class Part>
using TapeOf = typename TapeOfPart<Part>::type;
template <class Part>
using GradientsOf = typename GradientsOfPart<Part>::type;
template <class Part>
using OptionsOf = typename OptionsOfPart<Part>::type;

/// Shows f what others may write, as something to read. With it a const part is visited by the visit that
/// writers use, which writes nothing itself.
template <class F>
class ReadingVisitor {
 public:
  explicit ReadingVisitor(F& f) noexcept : f_(f) {}

  template <class Parameter>
  void operator()(const Parameter& p) const {
    const auto shown = p.as_const();
    static_assert(std::is_invocable_v<F&, decltype(shown)&>,
                  "moe: what is const shows Parameter<const Real>: take it as `const auto&`");
    f_(shown);
  }
  template <class T, class... More>
  void operator()(const char* name, T* values, More... more) const {
    f_(name, static_cast<const T*>(values), more...);
  }

 private:
  F& f_;
};

template <class Part>
GradientsOf<Part> make_gradients_of(const Part& part) {
  if constexpr (requires { part.make_gradients(); }) {
    return part.make_gradients();
  } else {
    return {};
  }
}

template <class Part, class Visitor>
void visit_parameters_of(Part& part, GradientsOf<Part>* gradients, Visitor& f) {
  if constexpr (requires { part.visit_parameters(gradients, f); }) {
    part.visit_parameters(gradients, f);
  } else {
    static_assert(std::is_empty_v<GradientsOf<Part>>,
                  "moe: a part with Gradients has no visit_parameters(Gradients* gradients, Visitor& f)");
  }
}
/// Without visit_storage every parameter is a range of its own. Throws shape_error for one whose elements do
/// not lie side by side, and for gradients of another shape.
template <class Part, class Visitor>
void visit_storage_of(Part& part, GradientsOf<Part>* gradients, Visitor& f) {
  if constexpr (requires { part.visit_storage(gradients, f); }) {
    part.visit_storage(gradients, f);
  } else {
    auto range = [&](const auto& p) {
      if (gradients != nullptr) p.gradient.require_shape_of(p.name, p.value);
      f(p.name, p.value.range(p.name), p.gradient.data, p.value.size());
    };
    visit_parameters_of(part, gradients, range);
  }
}
/// Throws shape_error unless `gradients` (null: frozen) are those of a part like this: visit_storage compares
/// them, buffer by buffer (storage/parameter.hpp), and shows them to nobody. Nothing is written.
template <class Part>
void check_gradients_of(const Part& part, GradientsOf<Part>* gradients) {
  auto nobody = [](auto&&...) noexcept {};
  if (gradients != nullptr) visit_storage_of(const_cast<Part&>(part), gradients, nobody);
}
template <class Part, class Visitor>
void visit_packed_of(Part& part, Visitor& f) {
  if constexpr (requires { part.visit_packed(f); }) part.visit_packed(f);
}
/// A const part is visited by its const visit, or by the one it has: f sees values that it may not write.
template <class Part, class Visitor>
void visit_state_of(Part& part, Visitor& f) {
  if constexpr (requires { part.visit_state(f); }) {
    part.visit_state(f);
  } else if constexpr (std::is_const_v<Part>) {
    ReadingVisitor<Visitor> reading(f);
    visit_state_of(const_cast<std::remove_const_t<Part>&>(part), reading);
  }
}
template <class Part>
void on_step_end_of(Part& part, const RouteStats& stats) {
  if constexpr (requires { part.on_step_end(stats); }) part.on_step_end(stats);
}

/// A part that does not measure takes nothing from its arena. `shape`: what the measure of its kind gets.
template <class Part, class Arena, class... Shape>
void measure_of(const Part& part, Arena& arena, const Shape&... shape) {
  if constexpr (requires { part.measure(arena, shape...); }) part.measure(arena, shape...);
}
template <class Part, class Arena, class... Shape>
void measure_backward_of(const Part& part, Arena& arena, const Shape&... shape) {
  if constexpr (requires { part.measure_backward(arena, shape...); }) part.measure_backward(arena, shape...);
}

/// How much of the batch a part looks at; a part that does not say looks at one row.
template <class Part>
constexpr Coupling coupling_of(bool training) noexcept {
  if constexpr (requires { Part::coupling(training); }) {
    return Part::coupling(training);
  } else {
    return Coupling::row_independent;
  }
}

/// Once, when parts are put together: the part throws config_error or shape_error if it does not go with a
/// router of `outputs` outputs.
template <class Part>
void check_outputs_of(const Part& part, Index outputs) {
  if constexpr (requires { part.check(outputs); }) part.check(outputs);
}
/// R: columns of what a scorer, router or layer hands on to the router of the next layer; 0: nothing.
template <class Part>
Index carry_width_of(const Part& part) {
  if constexpr (requires { part.carry_width(); }) {
    return part.carry_width();
  } else {
    return 0;
  }
}
/// Before every call: the part throws for what the call lacks.
template <class Part, class Call>
void check_call_of(const Part& part, const Call& call) {
  if constexpr (requires { part.check_call(call); }) part.check_call(call);
}

/// f(role, name) for a part by its kName, or for each of those that it is made of or holds.
template <class Part, class F>
void visit_names_of(const char* role, const Part& part, F& f) {
  if constexpr (requires { part.visit_names(role, f); }) {
    part.visit_names(role, f);
  } else if constexpr (requires { Part::kName; }) {
    f(role, static_cast<const char*>(Part::kName));
  } else {
    f(role, "of the user");
  }
}

/// The hooks of a part that wraps another and hands out `inner()`: the inner part's.
template <class Self, class Inner>
class InnerHooks {
 public:
  static constexpr Coupling coupling(bool training) noexcept { return coupling_of<Inner>(training); }
  void check(Index outputs) const { check_outputs_of(self().inner(), outputs); }
  template <class Call>
  void check_call(const Call& call) const {
    check_call_of(self().inner(), call);
  }
  void on_step_end(const RouteStats& stats) { on_step_end_of(self().inner(), stats); }
  template <class Visitor>
  void visit_state(Visitor& f) {
    visit_state_of(self().inner(), f);
  }
  template <class Visitor>
  void visit_state(Visitor& f) const {
    visit_state_of(self().inner(), f);
  }

 private:
  Self& self() noexcept { return static_cast<Self&>(*this); }
  const Self& self() const noexcept { return static_cast<const Self&>(*this); }
};

}  // namespace impl

MOE_NAMESPACE_END
