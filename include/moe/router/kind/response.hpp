// Routes by what the experts said of the rows, which the call's probes hold.
#pragma once

#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/router/concept.hpp"
#include "moe/router/observable.hpp"

MOE_NAMESPACE_BEGIN

/// The inner router, which reads the experts' responses [T, E] instead of rows: experts choose themselves
/// (Autonomy of Experts, 2501.13074). Runs in a ProbingLayer (layer/probe/probing_layer.hpp).
template <TrainableRouter Inner>
class ResponseRouter {
 public:
  static constexpr const char* kName = "responses";
  using Real = typename Inner::Real;
  using Tape = impl::TapeOf<Inner>;
  using Gradients = impl::GradientsOf<Inner>;

  static constexpr Coupling coupling(bool training) noexcept { return Inner::coupling(training); }

  /// Throws config_error unless the inner router reads as many columns as it has experts.
  explicit ResponseRouter(Inner inner) : inner_(std::move(inner)) {
    if (Index{inner_.width()} != Index{inner_.experts()}) {
      fail<config_error>("router of responses: expected one that reads a column for each of its ",
                         Index{inner_.experts()}, " experts, got one of ", Index{inner_.width()}, " columns");
    }
  }

  Inner& inner() noexcept { return inner_; }
  const Inner& inner() const noexcept { return inner_; }
  Index experts() const noexcept { return inner_.experts(); }
  Index width() const noexcept { return 0; }
  Index outputs() const noexcept requires ObservableRouter<Inner> { return inner_.outputs(); }
  Index max_pairs(const CallShape& shape) const { return impl::max_pairs_of(inner_, shape); }

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    impl::visit_names_of(role, inner_, f);
  }

  void measure(Arena& arena, const CallShape& shape, Index concurrency) const {
    impl::measure_of(inner_, arena, shape, concurrency);
  }
  void measure_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    impl::measure_backward_of(inner_, arena, shape, concurrency);
  }

  /// Throws config_error for a call without probes, shape_error for those of other experts, and what the
  /// inner router throws.
  template <Executor X>
  void route(const RouterInput<Real>& in, RouteTable<Real>& table, Arena& arena, X& executor) const {
    inner_.route(responses_of(in), table, arena, executor);
  }
  template <Executor X>
  void route_train(const RouterInput<Real>& in, RouteTable<Real>& table, Tape& tape, Arena& arena,
                   X& executor) const {
    impl::route_train_of(inner_, responses_of(in), table, tape, arena, executor);
  }
  template <Executor X>
  void route_observed(const RouterInput<Real>& in, RouteTable<Real>& table, Tape* tape,
                      const RouteView<Real>& view, Arena& arena,
                      X& executor) const requires ObservableRouter<Inner> {
    inner_.route_observed(responses_of(in), table, tape, view, arena, executor);
  }

  void check_backward(const RouterInput<Real>& in, const RouteTable<Real>& table, const Tape& tape,
                      const RouteGradients<Real>& out) const {
    impl::check_backward_of(inner_, responses_of(in), table, tape, out);
  }
  /// d response, of unselected experts too, is added to out.dprobes.
  template <Executor X>
  void backward(const RouterInput<Real>& in, const RouteTable<Real>& table, const Tape& tape,
                const RouteGradients<Real>& out, Gradients* gradients, Arena& arena, X& executor) const {
    RouteGradients<Real> own = out;
    own.dprobes = nullptr;
    own.dx = out.dprobes == nullptr ? MatrixView<Real>{} : out.dprobes->response;
    inner_.backward(responses_of(in), table, tape, own, gradients, arena, executor);
  }

  Gradients make_gradients() const { return impl::make_gradients_of(inner_); }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    impl::visit_parameters_of(inner_, gradients, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    impl::visit_storage_of(inner_, gradients, f);
  }
  template <class Visitor>
  void visit_state(Visitor& f) {
    impl::visit_state_of(inner_, f);
  }
  template <class Visitor>
  void visit_state(Visitor& f) const {
    impl::visit_state_of(inner_, f);
  }
  void on_step_end(const RouteStats& stats) { impl::on_step_end_of(inner_, stats); }

 private:
  RouterInput<Real> responses_of(const RouterInput<Real>& in) const {
    if (!in.probes) {
      fail<config_error>(
          "router of responses: expected a call of a ProbingLayer, whose experts were asked, got one without "
          "probes");
    }
    require_shape("responses", in.probes.response, in.tokens(), experts());
    RouterInput<Real> own = in;
    own.x = in.probes.response;
    own.probes = {};
    return own;
  }

  Inner inner_;
};

MOE_NAMESPACE_END
