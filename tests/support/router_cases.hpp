// The table of routers that the sweeps go over (tests/router/cases_test.cpp: laws, gradients, invariance,
// isolation). A line per router and set of options stands in the test file of its header:
//
//   const test::RouterCases kCases{{"SwitchRouter", [] { return moe::switch_router<double>({.width = 4,
//   ...}); }}};
//
// Parts of a list may have their lines made: add_part_cases. What a case is composed of is known by type, so
// that a test can ask whether every part of a list has a case (check_parts_have_cases).
#pragma once

#include <concepts>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <type_traits>
#include <typeindex>
#include <utility>
#include <vector>

#include "support/nasty_calls.hpp"
#include "support/router_laws.hpp"

namespace test {

/// What a case needs of the sweeps.
struct CaseOptions {
  RouterLaws laws{};
  bool ties = true;        // rows of zeros have equal scores and some experts: lower ids first
  bool losses = true;      // gradients of the losses alone as well
  bool smoke = false;      // also in the cheap subset, for sanitizers (its file must say [smoke])
  bool estimator = false;  // gradients of weights are not their derivatives: its own test enumerates them
  bool segments = false;   // calls of several segments as well: couples the rows of a segment
  Index tokens = 5;        // of the gradient checks
  double step = 2e-3;      // of the differences
  std::uint64_t seed = 31;
  double scale = 1;  // parameters are in U(-scale, scale)
};

/// The template's own type and those it is made of.
template <class T>
struct TypesIn {
  static void list(std::vector<std::type_index>& to) { to.emplace_back(typeid(T)); }
};
template <template <class...> class T, class... Of>
struct TypesIn<T<Of...>> {
  static void list(std::vector<std::type_index>& to) {
    to.emplace_back(typeid(T<Of...>));
    (TypesIn<Of>::list(to), ...);
  }
};

struct RouterCase {
  template <class Real>
  using Make = std::function<std::shared_ptr<ErasedRouter<Real>>()>;

  std::string name;
  Make<double> make;       // with parameters; one of the two
  Make<float> make_float;  // then without gradient checks
  CaseOptions options;
  std::vector<std::type_index> types;

  /// `router_of()`: the router; its parameters are drawn, its state is as it comes.
  template <std::invocable F>
  RouterCase(std::string name_, F router_of, CaseOptions options_ = {})
      : name(std::move(name_)), options(options_) {
    using R = std::invoke_result_t<F>;
    Make<typename R::Real> made = [router_of, seed = options.seed, scale = options.scale] {
      static_cast<void>(seed), static_cast<void>(scale);  // of routers without parameters, for clang
      R router = router_of();
      if constexpr (moe::TrainableRouter<R>) {
        if constexpr (requires(erased::Elements<typename R::Real> & f) {
                        router.visit_parameters(nullptr, f);
                      }) {
          randomise(router, seed, scale);
        }
      }
      return own_router(std::move(router));
    };
    if constexpr (std::same_as<typename R::Real, double>) {
      make = std::move(made);
    } else {
      make_float = std::move(made);
    }
    TypesIn<R>::list(types);
  }
};

/// Registers cases.
class RouterCases {
 public:
  RouterCases(std::initializer_list<RouterCase> cases);
  static const std::vector<RouterCase>& all();
};

/// A case for every part of a list, named after it: `router_with.operator()<Part>()` is a router that has it.
template <template <class...> class List, class... Parts, class F>
bool add_part_cases(List<Parts...>, F router_with, CaseOptions options = {}) {
  const auto add = [&]<class Part>(std::type_identity<Part>) {
    RouterCase one(
        Part::kName, [router_with] { return router_with.template operator()<Part>(); }, options);
    one.types.emplace_back(typeid(Part));
    RouterCases({std::move(one)});
  };
  (add(std::type_identity<Parts>{}), ...);
  return true;
}

/// Whether some case has this type in it; else it fails, naming it.
void check_has_case(std::type_index part);
template <template <class...> class List, class... Parts>
void check_parts_have_cases(List<Parts...>) {
  (check_has_case(typeid(Parts)), ...);
}

// The sweeps, over all cases or those of the cheap subset.
void sweep_laws(bool smoke);
void sweep_gradients(bool smoke);
void sweep_segments();
void sweep_threads();
/// Calls with every argument wrong in every way (support/nasty_routers.cpp), of all registered routers.
void sweep_nasty(NastyCalls& calls);
/// The calls of one router; `name` in what is reported.
template <class Real>
void nasty_calls(const std::string& name, ErasedRouter<Real>& router, NastyCalls& calls);

}  // namespace test
