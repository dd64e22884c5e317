// Policies chosen at run time, for tests that sweep: one instantiated layer runs every combination of real
// parts.
#pragma once

#include <optional>
#include <tuple>
#include <utility>
#include <variant>

#include "moe/core/executor.hpp"
#include "moe/expert/bank/composite.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/layer/frame/identity.hpp"
#include "moe/layer/frame/latent.hpp"
#include "moe/layer/frame/output_bias.hpp"
#include "moe/layer/shared/none.hpp"
#include "moe/layer/shared/shared_experts.hpp"
#include "moe/router/concept.hpp"
#include "support/any_executor.hpp"

namespace test {

using moe::Arena;
using moe::ConstMatrixView;
using moe::Index;
using moe::MatrixView;

/// One of several policies with tapes and gradients, indexed alike.
template <class... Parts>
class OneOf {
 public:
  using Tape = std::tuple<typename Parts::Tape...>;
  using Gradients = std::tuple<std::optional<typename Parts::Gradients>...>;

  template <class Part>
  requires(std::is_same_v<Part, Parts> || ...) OneOf(Part part)
      : part_(std::move(part)) {}  // NOLINT(google-explicit-constructor)

  template <class F>
  decltype(auto) visit(F&& f) const {
    return std::visit([&](const auto& part) -> decltype(auto) { return f(part); }, part_);
  }
  template <class F>
  decltype(auto) visit(F&& f) {
    return std::visit([&](auto& part) -> decltype(auto) { return f(part); }, part_);
  }
  Gradients make_gradients() const {
    Gradients all;
    visit([&](const auto& part) { gradients_of(part, all).emplace(part.make_gradients()); });
    return all;
  }
  template <class Visitor>
  void visit_parameters(Gradients* g, Visitor& f) {
    visit([&](auto& part) { part.visit_parameters(own(part, g), f); });
  }
  template <class Visitor>
  void visit_storage(Gradients* g, Visitor& f) {
    visit([&](auto& part) { part.visit_storage(own(part, g), f); });
  }

  template <class Part>
  static auto& tape(const Part&, Tape& all) {
    return std::get<index<Part>()>(all);
  }
  template <class Part>
  static const auto& tape(const Part&, const Tape& all) {
    return std::get<index<Part>()>(all);
  }
  template <class Part>
  static auto* tape(const Part& part, Tape* all) {
    return all == nullptr ? nullptr : &tape(part, *all);
  }
  template <class Part>
  static auto* own(const Part& part, Gradients* all) {
    return all == nullptr ? nullptr : &*gradients_of(part, *all);
  }

 private:
  template <class Part>
  static constexpr std::size_t index() {
    std::size_t i = 0, found = 0;
    ((std::is_same_v<std::remove_const_t<Part>, Parts> ? found = i++ : i++), ...);
    return found;
  }
  template <class Part>
  static auto& gradients_of(const Part&, Gradients& all) {
    return std::get<index<Part>()>(all);
  }

  std::variant<Parts...> part_;
};

template <class... Routers>
struct AnyRouter : OneOf<Routers...> {
  using Base = OneOf<Routers...>;
  using Base::Base;
  using Real = std::common_type_t<typename Routers::Real...>;
  using Tape = typename Base::Tape;
  using Gradients = typename Base::Gradients;

  static constexpr moe::Coupling coupling(bool training) noexcept {
    moe::Coupling c = moe::Coupling::row_independent;
    ((c = moe::weakest(c, Routers::coupling(training))), ...);
    return c;
  }
  Index experts() const {
    return this->visit([](const auto& r) { return Index{r.experts()}; });
  }
  Index width() const {
    return this->visit([](const auto& r) { return Index{r.width()}; });
  }
  Index max_pairs(const moe::CallShape& s) const {
    return this->visit([&](const auto& r) { return r.max_pairs(s); });
  }
  void measure(Arena& a, const moe::CallShape& s, Index c) const {
    this->visit([&](const auto& r) { r.measure(a, s, c); });
  }
  void measure_backward(Arena& a, const moe::CallShape& s, Index c) const {
    this->visit([&](const auto& r) { r.measure_backward(a, s, c); });
  }
  template <moe::Executor X>
  void route(const moe::RouterInput<Real>& in, moe::RouteTable<Real>& table, Arena& a, X& x) const {
    this->visit([&](const auto& r) { r.route(in, table, a, x); });
  }
  template <moe::Executor X>
  void route_train(const moe::RouterInput<Real>& in, moe::RouteTable<Real>& table, Tape& t, Arena& a,
                   X& x) const {
    this->visit([&](const auto& r) { r.route_train(in, table, Base::tape(r, t), a, x); });
  }
  template <moe::Executor X>
  void backward(const moe::RouterInput<Real>& in, const moe::RouteTable<Real>& table, const Tape& t,
                const moe::RouteGradients<Real>& out, Gradients* g, Arena& a, X& x) const {
    this->visit([&](const auto& r) { r.backward(in, table, Base::tape(r, t), out, Base::own(r, g), a, x); });
  }
  void on_step_end(const moe::RouteStats& stats) {
    this->visit([&](auto& r) { r.on_step_end(stats); });
  }
  template <class Visitor>
  void visit_state(Visitor& f) {
    this->visit([&](auto& r) { r.visit_state(f); });
  }
};

template <class... Banks>
struct AnyBank : OneOf<Banks...> {
  using Base = OneOf<Banks...>;
  using Base::Base;
  using Real = std::common_type_t<typename Banks::Real...>;
  using Tape = typename Base::Tape;
  using Gradients = typename Base::Gradients;
  static constexpr moe::Coupling coupling = moe::Coupling::row_independent;

  Index experts() const {
    return this->visit([](const auto& b) { return Index{b.experts()}; });
  }
  Index width() const {
    return this->visit([](const auto& b) { return Index{b.width()}; });
  }
  void measure(Arena& a, Index p, Index c) const {
    this->visit([&](const auto& b) { b.measure(a, p, c); });
  }
  void measure_backward(Arena& a, Index p, Index c) const {
    this->visit([&](const auto& b) { b.measure_backward(a, p, c); });
  }
  template <moe::Executor X>
  void forward(const moe::RowBatch<Real>& batch, const moe::RowSink<Real>& sink, Arena& a, X& x) const {
    this->visit([&](const auto& b) { b.forward(batch, sink, a, x); });
  }
  template <moe::Executor X>
  void forward_train(const moe::RowBatch<Real>& batch, const moe::RowSink<Real>& sink, Tape& t, Arena& a,
                     X& x) const {
    this->visit([&](const auto& b) { b.forward_train(batch, sink, Base::tape(b, t), a, x); });
  }
  template <moe::Executor X>
  void backward(const moe::RowBatch<Real>& batch, const Tape& t, const moe::RowGradients<Real>& rows,
                Gradients* g, Arena& a, X& x) const {
    this->visit([&](const auto& b) { b.backward(batch, Base::tape(b, t), rows, Base::own(b, g), a, x); });
  }
};

template <class Bank>
struct AnyShared : OneOf<moe::NoShared, moe::SharedExperts<Bank>> {
  using Base = OneOf<moe::NoShared, moe::SharedExperts<Bank>>;
  using Base::Base;
  using Tape = typename Base::Tape;
  using Gradients = typename Base::Gradients;
  using Real = typename Bank::Real;

  Index width() const {
    return this->visit([](const auto& s) { return s.width(); });
  }
  void measure(Arena& a, Index t, Index c) const {
    this->visit([&](const auto& s) { s.measure(a, t, c); });
  }
  void measure_backward(Arena& a, Index t, Index c) const {
    this->visit([&](const auto& s) { s.measure_backward(a, t, c); });
  }
  template <moe::Executor X>
  void forward(const ConstMatrixView<Real>& x, const bool* active, const MatrixView<Real>& y, Tape* t,
               Arena& a, X& executor) const {
    this->visit([&](const auto& s) { s.forward(x, active, y, Base::tape(s, t), a, executor); });
  }
  template <moe::Executor X>
  void backward(const Tape& t, const ConstMatrixView<Real>& x, const ConstMatrixView<Real>& dy,
                const MatrixView<Real>& dx, Gradients* g, Arena& a, X& executor) const {
    this->visit(
        [&](const auto& s) { s.backward(Base::tape(s, t), x, dy, dx, Base::own(s, g), a, executor); });
  }
};

template <class Real>
struct AnyFrame : OneOf<moe::IdentityFrame, moe::OutputBias<Real>, moe::LatentFrame<Real>> {
  using Base = OneOf<moe::IdentityFrame, moe::OutputBias<Real>, moe::LatentFrame<Real>>;
  using Base::Base;
  using Tape = typename Base::Tape;
  using Gradients = typename Base::Gradients;

  Index inner_width(Index d) const {
    return this->visit([&](const auto& f) { return f.inner_width(d); });
  }
  Index outer_width(Index d) const {
    return this->visit([&](const auto& f) { return f.outer_width(d); });
  }
  void measure(Arena& a, Index t, Index c) const {
    this->visit([&](const auto& f) { f.measure(a, t, c); });
  }
  void measure_backward(Arena& a, Index t, Index c) const {
    this->visit([&](const auto& f) { f.measure_backward(a, t, c); });
  }
  template <moe::Executor X>
  ConstMatrixView<Real> before(const ConstMatrixView<Real>& x, Tape* t, Arena& a, X& e) const {
    return this->visit([&](const auto& f) { return f.before(x, Base::tape(f, t), a, e); });
  }
  MatrixView<Real> inner_y(const MatrixView<Real>& y, Arena& a) const {
    return this->visit([&](const auto& f) { return f.inner_y(y, a); });
  }
  template <moe::Executor X>
  void after(const MatrixView<Real>& inner, const MatrixView<Real>& y, const bool* active, Tape* t, Arena& a,
             X& e) const {
    this->visit([&](const auto& f) { f.after(inner, y, active, Base::tape(f, t), a, e); });
  }
  ConstMatrixView<Real> inner_x(const Tape& t, const ConstMatrixView<Real>& x) const {
    return this->visit([&](const auto& f) { return f.inner_x(Base::tape(f, t), x); });
  }
  template <moe::Executor X>
  ConstMatrixView<Real> after_backward(const Tape& t, const ConstMatrixView<Real>& dy, Gradients* g, Arena& a,
                                       X& e) const {
    return this->visit(
        [&](const auto& f) { return f.after_backward(Base::tape(f, t), dy, Base::own(f, g), a, e); });
  }
  MatrixView<Real> inner_dx(const MatrixView<Real>& dx, Index tokens, Arena& a) const {
    return this->visit([&](const auto& f) { return f.inner_dx(dx, tokens, a); });
  }
  template <moe::Executor X>
  void before_backward(const Tape& t, const ConstMatrixView<Real>& x, const MatrixView<Real>& inner,
                       const MatrixView<Real>& dx, Gradients* g, Arena& a, X& e) const {
    this->visit(
        [&](const auto& f) { f.before_backward(Base::tape(f, t), x, inner, dx, Base::own(f, g), a, e); });
  }
};

}  // namespace test
