// A router whose lower choices go to other experts than its first ones: of E experts there are two kinds, say
// whole and compressed ones (He et al. 2503.00634).
#pragma once

#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/plan/statistics.hpp"
#include "moe/router/concept.hpp"
#include "moe/router/observable.hpp"

MOE_NAMESPACE_BEGIN

/// Inner's routes over E experts, as ids in [0, 2 E): a row's first `main` choices stay expert e, the others
/// become E + e. Weights, losses, logits and what is updated at the end of a step (of an expert's loads of
/// both kinds together) are Inner's.
template <TrainableRouter Inner>
class SplitRanks {
 public:
  using Real = typename Inner::Real;
  using Tape = typename Inner::Tape;
  using Gradients = typename Inner::Gradients;

  /// Throws config_error for main < 0, or for more than 2^30 experts.
  SplitRanks(Inner inner, Index main) : inner_(std::move(inner)), main_(main) {
    require_range("choices of the first kind", main, 0, INT32_MAX);
    require_range("experts", inner_.experts(), 1, INT32_MAX / 2);
  }

  static constexpr Coupling coupling(bool training) noexcept { return Inner::coupling(training); }
  Index experts() const noexcept { return 2 * Index{inner_.experts()}; }
  Index width() const noexcept { return inner_.width(); }
  Index outputs() const noexcept requires ObservableRouter<Inner> { return inner_.outputs(); }
  Index main() const noexcept { return main_; }
  Inner& inner() noexcept { return inner_; }
  const Inner& inner() const noexcept { return inner_; }
  WeightPlace weight_place() const noexcept { return impl::weight_place(inner_); }
  template <class Policy>
  void set_non_finite(Policy policy) noexcept requires requires(Inner& i) {
    i.set_non_finite(policy);
  }
  { inner_.set_non_finite(policy); }
  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    impl::visit_names_of(role, inner_, f);
  }

  Index max_pairs(const CallShape& shape) const { return impl::max_pairs_of(inner_, shape); }
  void measure(Arena& arena, const CallShape& shape, Index concurrency) const {
    impl::measure_of(inner_, arena, shape, concurrency);
  }
  void measure_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    arena.take<ExpertId>(max_pairs(shape));
    impl::measure_backward_of(inner_, arena, shape, concurrency);
  }

  template <Executor X>
  void route(const RouterInput<Real>& in, RouteTable<Real>& table, Arena& arena, X& executor) const {
    with_inner(table, [&](RouteTable<Real>& own) { inner_.route(in, own, arena, executor); });
  }
  template <Executor X>
  void route_train(const RouterInput<Real>& in, RouteTable<Real>& table, Tape& tape, Arena& arena,
                   X& executor) const {
    with_inner(table,
               [&](RouteTable<Real>& own) { impl::route_train_of(inner_, in, own, tape, arena, executor); });
  }
  template <Executor X>
  void route_observed(const RouterInput<Real>& in, RouteTable<Real>& table, Tape* tape,
                      const RouteView<Real>& view, Arena& arena,
                      X& executor) const requires ObservableRouter<Inner> {
    with_inner(table,
               [&](RouteTable<Real>& own) { inner_.route_observed(in, own, tape, view, arena, executor); });
  }

  /// What Inner's throws; its table differs in ids alone.
  void check_backward(const RouterInput<Real>& in, const RouteTable<Real>& table, const Tape& tape,
                      const RouteGradients<Real>& out) const {
    impl::check_backward_of(inner_, in, table, tape, out);
  }
  template <Executor X>
  void backward(const RouterInput<Real>& in, const RouteTable<Real>& table, const Tape& tape,
                const RouteGradients<Real>& out, Gradients* gradients, Arena& arena, X& executor) const {
    RouteTable<Real> own = table;
    own.experts = inner_.experts();
    own.expert = arena.take<ExpertId>(table.pairs());
    const auto experts = static_cast<ExpertId>(own.experts);
    for (Index p = 0; p < table.pairs(); ++p)
      own.expert[p] = table.expert[p] < experts ? table.expert[p] : table.expert[p] - experts;
    inner_.backward(in, own, tape, out, gradients, arena, executor);
  }

  Gradients make_gradients() const { return impl::make_gradients_of(inner_); }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor&& f) {
    impl::visit_parameters_of(inner_, gradients, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor&& f) {
    impl::visit_storage_of(inner_, gradients, f);
  }
  template <class Visitor>
  void visit_state(Visitor&& f) {
    impl::visit_state_of(inner_, f);
  }
  template <class Visitor>
  void visit_state(Visitor&& f) const {
    impl::visit_state_of(inner_, f);
  }
  void on_step_end(const RouteStats& stats) {
    const Index each = inner_.experts();
    RouteStats own = stats;
    if (stats.experts() == experts()) {
      own.load.assign(each, 0);
      own.gate_mass.assign(each, 0);
      for (Index e = 0; e < stats.experts(); ++e) {
        own.load[e % each] += stats.load[e];
        own.gate_mass[e % each] += stats.gate_mass[e];
      }
    }
    impl::on_step_end_of(inner_, own);
  }

 private:
  /// Inner fills the same arrays, as a table of its experts; then the ids of lower choices move up.
  template <class Route>
  void with_inner(RouteTable<Real>& table, const Route& route) const {
    RouteTable<Real> own = table;
    own.experts = inner_.experts();
    route(own);
    own.experts = table.experts;
    table = own;
    const auto experts = static_cast<ExpertId>(inner_.experts());
    for (Index t = 0; t < table.tokens; ++t) {
      for (Index p = table.offsets[t] + main_; p < table.offsets[t + 1]; ++p) table.expert[p] += experts;
    }
  }

  Inner inner_;
  Index main_;
};

MOE_NAMESPACE_END
