// A router that chooses, as one that mixes: its pairs become dense dispatch and combine weights, one slot a
// pair. So every router fits a SoftLayer, at the cost of T x P weights: the form in which Liu et al.
// 2401.15969 compare routers, and what the sparse path is proved against.
#pragma once

#include <type_traits>
#include <utility>

#include "moe/core/executor.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "moe/plan/concept.hpp"
#include "moe/plan/dispatch_plan.hpp"
#include "moe/plan/mix_table.hpp"
#include "moe/plan/route_table.hpp"
#include "moe/router/concept.hpp"
#include "moe/router/soft/concept.hpp"

MOE_NAMESPACE_BEGIN

/// Losses, state and parameters are the router's; what a capacity policy drops gets no slot.
template <Router R, CapacityPolicy C = Dropless>
class HardMix {
 public:
  using Real = typename R::Real;
  using Gradients = impl::GradientsOf<R>;
  struct Tape {
    Workspace memory;
    impl::Movable<RouteTable<Real>> table;
    impl::Movable<DispatchPlan<Real>> plan;
    impl::TapeOf<R> router;
  };

  static constexpr Coupling coupling(bool training) noexcept {
    return weakest(R::coupling(training), C::coupling);
  }

  explicit HardMix(R router, C capacity = C{}) : router_(std::move(router)), capacity_(std::move(capacity)) {}

  Index experts() const noexcept { return router_.experts(); }
  Index width() const noexcept { return router_.width(); }
  R& router() noexcept { return router_; }
  const R& router() const noexcept { return router_; }

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    impl::visit_names_of(role, router_, f);
    impl::visit_names_of("capacity", capacity_, f);
  }

  MixExtent extent(const CallShape& shape) const {
    return hard_mix_extent<Real>(shape.tokens, impl::max_pairs_of(router_, shape));
  }
  void measure(Arena& arena, const CallShape& shape, Index concurrency) const {
    const Index pairs = impl::max_pairs_of(router_, shape);
    arena.take<bool>(shape.tokens);
    RouteTable<Real>::carve(arena, shape.tokens, experts(), pairs);
    DispatchPlan<Real>::carve(arena, shape.tokens, experts(), pairs);
    const Index mark = arena.mark();
    impl::measure_of(router_, arena, shape, concurrency);
    arena.rewind(mark);
    measure_plan(arena, capacity_, pairs, experts());
  }
  void measure_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    arena.take<Real>(impl::max_pairs_of(router_, shape));
    arena.take<Index>(shape.tokens);
    impl::measure_backward_of(router_, arena, shape, concurrency);
  }

  /// Throws what the router and stage 2 throw.
  template <Executor X>
  void mix(const RouterInput<Real>& in, MixTable<Real>& mix, Arena& arena, X& executor) const {
    RouteTable<Real> table;
    DispatchPlan<Real> plan;
    carve(in, table, plan, arena);
    const Index mark = arena.mark();
    router_.route(in, table, arena, executor);
    arena.rewind(mark);
    fill(in, table, plan, mix, arena);
  }
  template <Executor X>
  void mix_train(const RouterInput<Real>& in, MixTable<Real>& mix, Tape& tape, Arena& arena,
                 X& executor) const {
    RouteTable<Real> table;
    DispatchPlan<Real> plan;
    Arena measuring;
    carve(in, table, plan, measuring);
    Arena kept = tape.memory.arena(measuring.bytes());
    carve(in, table, plan, kept);
    const Index mark = arena.mark();
    impl::route_train_of(router_, in, table, tape.router, arena, executor);
    arena.rewind(mark);
    fill(in, table, plan, mix, arena);
    tape.table = table;
    tape.plan = plan;
  }

  /// A weight's gradient is that of the number it became; a dropped pair's is 0.
  template <Executor X>
  void backward(const RouterInput<Real>& in, const MixTable<Real>& mix, const Tape& tape,
                const MixGradients<Real>& out, Gradients* gradients, Arena& arena, X& executor) const {
    const RouteTable<Real>& table = tape.table;
    const DispatchPlan<Real>& plan = tape.plan;
    Real* const dweight = arena.take<Real>(impl::max_pairs_of(router_, shape_of(in)));
    Index* const position = arena.take<Index>(in.tokens());
    for (Index p = 0; p < mix.positions(); ++p) position[mix.row[p]] = p;
    for (Index p = 0; p < table.pairs(); ++p) dweight[p] = 0;
    for (Index s = 0; s < plan.slots(); ++s) {
      const Index r = position[plan.token[s]];
      dweight[plan.pair[s]] =
          on_input() ? mix.dispatch_row(out.dispatch, 0, s)[r] : mix.combine_row(out.combine, 0, r)[s];
    }
    RouteGradients<Real> at_router;
    at_router.dweight = dweight;
    at_router.auxiliary_scale = out.auxiliary_scale;
    at_router.dx = out.dx;
    router_.backward(in, table, tape.router, at_router, gradients, arena, executor);
  }

  Gradients make_gradients() const { return impl::make_gradients_of(router_); }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    impl::visit_parameters_of(router_, gradients, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    impl::visit_storage_of(router_, gradients, f);
  }
  template <class Visitor>
  void visit_state(Visitor& f) {
    impl::visit_state_of(router_, f);
  }
  template <class Visitor>
  void visit_state(Visitor& f) const {
    impl::visit_state_of(router_, f);
  }
  void on_step_end(const RouteStats& stats) { impl::on_step_end_of(router_, stats); }

 private:
  static CallShape shape_of(const RouterInput<Real>& in) noexcept {
    return {in.tokens(), in.segments.count(in.tokens()), in.options};
  }
  bool on_input() const noexcept { return impl::weight_place(router_) == WeightPlace::input; }

  void carve(const RouterInput<Real>& in, RouteTable<Real>& table, DispatchPlan<Real>& plan,
             Arena& arena) const {
    const Index pairs = impl::max_pairs_of(router_, shape_of(in));
    table = RouteTable<Real>::carve(arena, in.tokens(), experts(), pairs);
    plan = DispatchPlan<Real>::carve(arena, in.tokens(), experts(), pairs);
  }
  void fill(const RouterInput<Real>& in, RouteTable<Real>& table, DispatchPlan<Real>& plan,
            MixTable<Real>& mix, Arena& arena) const {
    bool* const active = arena.take<bool>(in.tokens());
    for (Index t = 0; t < in.tokens(); ++t) active[t] = in.takes_part(t);
    table.draws = {in.draws, {in.row_key.data(), in.row_key.size()}};
    build_plan(table, capacity_, in.segments, plan, arena);
    to_mix(table, plan, active, on_input(), mix);
  }

  R router_;
  C capacity_;
};

MOE_NAMESPACE_END
