// What every router must do whatever its policy: laws of the route (check_router_laws) and gradients against
// central differences (check_router_gradients). Calls are made at run time (router_call.hpp); route /
// route_train run one on exactly the measured memory. All of it works on an ErasedRouter and is compiled
// once, in router_laws.cpp: the templates here only erase.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "moe/router/concept.hpp"
#include "moe/storage/parameter.hpp"
#include "support/any_executor.hpp"
#include "support/catch.hpp"
#include "support/erased_router.hpp"
#include "support/router_call.hpp"

namespace test {

/// One element of a parameter and of its gradient.
template <class Real>
struct Element {
  std::string name;
  Real* value;
  Real* gradient;  // null without gradients
};

/// Names and values, in their order.
using SavedState = std::vector<std::pair<std::string, std::vector<double>>>;

template <class Real>
using MakeCall = std::function<RouterCall<Real>(Index tokens, std::uint64_t seed)>;

/// Which laws apply.
struct RouterLaws {
  bool masks = true;       // honours logit_mask
  bool isolation = true;   // reads rows, has set_non_finite()
  bool parameters = true;  // all are the scorer's: one that is not finite shows in the logits
  bool padding = true;  // the losses skip rows that take no part (false: only the route is checked elsewhere)
};

struct GradientCheck {
  double weight_scale = 1;     // of the combine weights' random cotangent; 0: losses only
  double auxiliary_scale = 1;  // of the losses; 0: weights only
  double step = 2e-3;
};

namespace erased {

/// A visitor that lists every element.
template <class Real>
struct Elements {
  std::vector<Element<Real>> all;
  void operator()(const moe::Parameter<Real>& p);
};
/// Visitors that copy state out and in.
struct SaveState {
  SavedState state;
  void operator()(const char* name, double* values, Index n);
};
struct LoadState {
  const SavedState& state;
  std::size_t next = 0;
  void operator()(const char* name, double* values, Index n);
};
template <class Real>
void randomise(const std::vector<Element<Real>>& elements, std::uint64_t seed, double scale);

template <class Real>
Routed<Real> route(const ErasedRouter<Real>& router, const RouterCall<Real>& call, AnyExecutor executor);
template <class Real>
Routed<Real> route_train(const ErasedRouter<Real>& router, const RouterCall<Real>& call,
                         OwnedTable<Real>& table, void* tape, AnyExecutor executor);
template <class Real>
std::vector<Real> backward(const ErasedRouter<Real>& router, const RouterCall<Real>& call,
                           OwnedTable<Real>& table, const void* tape, const std::vector<Real>& dweight,
                           double auxiliary_scale, void* gradients, bool wants_dx, Real dx_start,
                           AnyExecutor executor);
template <class Real>
std::vector<Real> all_gradients(ErasedRouter<Real>& router, const RouterCall<Real>& call);
template <class Real>
void check_laws(ErasedRouter<Real>& router, const MakeCall<Real>& make, RouterLaws laws);
template <class Real>
void check_ties(const ErasedRouter<Real>& router, Index tokens);
void check_gradients(ErasedRouter<double>& router, Index tokens, const MakeCall<double>& make,
                     GradientCheck options);
/// Rows of the router's width; `masked`: with most outputs masked, differently for every token.
template <class Real>
MakeCall<Real> calls_for(const ErasedRouter<Real>& router, bool masked = false);

}  // namespace erased

template <class R, class X = moe::SerialExecutor>
Routed<typename R::Real> route(const R& router, const RouterCall<typename R::Real>& call, X executor = X{}) {
  return erased::route<typename R::Real>(erase(router), call, AnyExecutor(executor));
}

template <class R, class X = moe::SerialExecutor>
Routed<typename R::Real> route_train(const R& router, const RouterCall<typename R::Real>& call,
                                     OwnedTable<typename R::Real>& table, typename R::Tape& tape,
                                     X executor = X{}) {
  return erased::route_train<typename R::Real>(erase(router), call, table, &tape, AnyExecutor(executor));
}

/// dx [T, D] after backward, with `gradients` added to. `dx_start` is what dx held before.
template <class R, class X = moe::SerialExecutor>
std::vector<typename R::Real> backward(const R& router, const RouterCall<typename R::Real>& call,
                                       OwnedTable<typename R::Real>& table, const typename R::Tape& tape,
                                       const std::vector<typename R::Real>& dweight, double auxiliary_scale,
                                       typename R::Gradients* gradients, bool wants_dx = true,
                                       typename R::Real dx_start = 0, X executor = X{}) {
  return erased::backward<typename R::Real>(erase(router), call, table, &tape, dweight, auxiliary_scale,
                                            gradients, wants_dx, dx_start, AnyExecutor(executor));
}

/// Every element of every parameter, of a router or of a part of one.
template <class R>
std::vector<Element<typename R::Real>> elements(R& router, typename R::Gradients& gradients) {
  erased::Elements<typename R::Real> collect;
  router.visit_parameters(&gradients, collect);
  return std::move(collect.all);
}

/// Every parameter in U(-scale, scale), biases included.
template <class R>
void randomise(R& router, std::uint64_t seed, double scale = 1) {
  erased::Elements<typename R::Real> collect;
  router.visit_parameters(nullptr, collect);
  erased::randomise(collect.all, seed, scale);
}

/// Numbers that stand in for the gradients of the combine weights, one for every (row key, expert).
template <class Real>
std::vector<Real> cotangents(const RouterCall<Real>& call, const Routed<Real>& routed, double scale = 1);

/// Gradients of a call, parameters first, then dx.
template <class R>
std::vector<typename R::Real> all_gradients(R& router, const RouterCall<typename R::Real>& call) {
  auto&& one = erase(router);
  return erased::all_gradients<typename R::Real>(one, call);
}

/// Saved state: names and values, and back.
template <class R>
SavedState save_state(R& router) {
  erased::SaveState save;
  router.visit_state(save);
  return std::move(save.state);
}
template <class R>
void load_state(R& router, const SavedState& state) {
  erased::LoadState load{state};
  router.visit_state(load);
  REQUIRE(load.next == state.size());
}

/// All laws, inference and training. `make(tokens, seed)` gives a RouterCall.
template <class R>
void check_router_laws(R& router, const MakeCall<typename R::Real>& make, RouterLaws laws = {}) {
  auto&& one = erase(router);
  erased::check_laws<typename R::Real>(one, make, laws);
}
/// With rows read by the router's own width.
template <class R>
void check_router_laws(R& router, RouterLaws laws = {}) {
  auto&& one = erase(router);
  erased::check_laws<typename R::Real>(one, erased::calls_for<typename R::Real>(one), laws);
}

/// Equal scores everywhere (rows of zeros, no bias): choices ascend by id.
template <class R>
void check_ties_take_lower_ids(const R& router, Index tokens = 3) {
  erased::check_ties<typename R::Real>(erase(router), tokens);
}

/// Gradients of sum over pairs of c(token, expert) * weight + auxiliary_scale * losses, for every parameter
/// and every x, against fourth-order central differences: of calls by `make(tokens, seed)` in training mode,
/// redrawn until no step changes a choice.
template <class R>
void check_router_gradients(R& router, Index tokens, const MakeCall<double>& make,
                            GradientCheck options = {}) {
  auto&& one = erase(router);
  erased::check_gradients(one, tokens, make, options);
}
template <class R>
void check_router_gradients(R& router, Index tokens, GradientCheck options = {}) {
  auto&& one = erase(router);
  erased::check_gradients(one, tokens, erased::calls_for<double>(one), options);
}

/// And with most outputs masked, differently for every token.
template <class R>
void check_masked_router_gradients(R& router, Index tokens, GradientCheck options = {}) {
  auto&& one = erase(router);
  erased::check_gradients(one, tokens, erased::calls_for<double>(one, true), options);
}

}  // namespace test
