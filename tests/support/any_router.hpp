// A router chosen at run time, for tests that sweep: one instantiated layer runs them all.
#pragma once

#include <type_traits>

#include "moe/core/executor.hpp"
#include "moe/core/one_of.hpp"
#include "moe/core/workspace.hpp"
#include "moe/router/concept.hpp"

namespace test {

using moe::Arena;
using moe::Index;

/// As coupled as the weakest.
template <class... Routers>
struct AnyRouter : moe::OneOf<Routers...> {
  using Base = moe::OneOf<Routers...>;
  using Base::Base;
  using Real = std::common_type_t<typename Routers::Real...>;
  using typename Base::Gradients;
  using typename Base::Tape;

  Index experts() const {
    return this->visit([](const auto& r) { return Index{r.experts()}; });
  }
  Index width() const {
    return this->visit([](const auto& r) { return Index{r.width()}; });
  }
  Index max_pairs(const moe::CallShape& s) const {
    return this->visit([&](const auto& r) { return moe::impl::max_pairs_of(r, s); });
  }
  void measure(Arena& a, const moe::CallShape& s, Index c) const {
    this->visit([&](const auto& r) { moe::impl::measure_of(r, a, s, c); });
  }
  void measure_backward(Arena& a, const moe::CallShape& s, Index c) const {
    this->visit([&](const auto& r) { moe::impl::measure_backward_of(r, a, s, c); });
  }
  template <moe::Executor X>
  void route(const moe::RouterInput<Real>& in, moe::RouteTable<Real>& table, Arena& a, X& x) const {
    this->visit([&](const auto& r) { r.route(in, table, a, x); });
  }
  template <moe::Executor X>
  void route_train(const moe::RouterInput<Real>& in, moe::RouteTable<Real>& table, Tape& t, Arena& a,
                   X& x) const {
    this->visit([&](const auto& r) { moe::impl::route_train_of(r, in, table, Base::tape_of(r, t), a, x); });
  }
  void check_backward(const moe::RouterInput<Real>& in, const moe::RouteTable<Real>& table, const Tape& t,
                      const moe::RouteGradients<Real>& out) const {
    this->visit([&](const auto& r) { moe::impl::check_backward_of(r, in, table, Base::tape_of(r, t), out); });
  }
  template <moe::Executor X>
  void backward(const moe::RouterInput<Real>& in, const moe::RouteTable<Real>& table, const Tape& t,
                const moe::RouteGradients<Real>& out, Gradients* g, Arena& a, X& x) const {
    this->visit(
        [&](const auto& r) { r.backward(in, table, Base::tape_of(r, t), out, Base::own(r, g), a, x); });
  }
};

}  // namespace test
