// A router whose row's task has a second gate for the experts of its own, so that they train however little
// the first gate thinks of them: the self-gate of HoME (of Kuaishou), Wang et al. 2408.05430.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/math.hpp"
#include "moe/kernel/row.hpp"
#include "moe/plan/statistics.hpp"
#include "moe/router/concept.hpp"
#include "moe/router/observable.hpp"
#include "moe/router/scorer/hierarchy_mask.hpp"
#include "moe/router/task_projection.hpp"

MOE_NAMESPACE_BEGIN

/// Inner's routes, where the weight of every chosen expert k of the row's own task has its share s_k added:
/// s = sigmoid(u_task x + c_task) of one such expert, the softmax over them of several. Inner is of the
/// experts of a hierarchy and routes rows by its own policy; a row whose second gate is not finite is
/// refused, or with NonFinite::isolate_row spoiled, before Inner sees it. Parameters Inner's, then
/// "self_gate.weight" [tasks * own, D] and "self_gate.bias" [tasks * own, 1].
template <TrainableRouter Inner>
class SelfGated {
 public:
  using Real = typename Inner::Real;
  struct Tape {
    Buffer<Real> share;   // [T, own]
    Buffer<bool> routed;  // [T] rows that Inner was shown, if not all
    bool some = false;    // whether that is so
    typename Inner::Tape inner;
  };
  struct Gradients {
    typename TaskProjection<Real>::Gradients gate;
    impl::GradientsOf<Inner> inner;
  };

  /// Throws config_error unless Inner routes to the hierarchy's experts, and every task has some of its own.
  SelfGated(Inner inner, HierarchyMask mask)
      : gate_(inner.width(), mask.own(), mask.tasks()), mask_(std::move(mask)), inner_(std::move(inner)) {
    if (inner_.experts() != mask_.outputs()) {
      fail<config_error>("self-gated router: expected a router of ", mask_.outputs(), " experts, got ",
                         Index{inner_.experts()});
    }
  }

  static constexpr Coupling coupling(bool training) noexcept { return Inner::coupling(training); }
  Index experts() const noexcept { return inner_.experts(); }
  Index width() const noexcept { return inner_.width(); }
  Index outputs() const noexcept requires ObservableRouter<Inner> { return inner_.outputs(); }
  Inner& inner() noexcept { return inner_; }
  const Inner& inner() const noexcept { return inner_; }
  void initialise(std::uint64_t seed, double scale = 1) { gate_.initialise(seed, 1, scale); }
  NonFinite non_finite() const noexcept { return inner_.non_finite(); }
  void set_non_finite(NonFinite policy) noexcept { inner_.set_non_finite(policy); }
  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    f(role, "self_gated");
    impl::visit_names_of(role, inner_, f);
  }

  Index max_pairs(const CallShape& shape) const { return impl::max_pairs_of(inner_, shape); }
  void measure(Arena& arena, const CallShape& shape, Index concurrency) const {
    arena.take<Real>(checked_product("self gates", shape.tokens, gate_.outputs()));
    arena.take<bool>(shape.tokens);
    impl::measure_of(inner_, arena, shape, concurrency);
  }
  void measure_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    arena.take<Real>(gate_.outputs());
    impl::measure_backward_of(inner_, arena, shape, concurrency);
  }

  /// Throws what Inner throws, and numeric_error for a second gate that is not finite.
  template <Executor X>
  void route(const RouterInput<Real>& in, RouteTable<Real>& table, Arena& arena, X& executor) const {
    Real* const share = arena.take<Real>(in.tokens() * gate_.outputs());
    bool* const routed = arena.take<bool>(in.tokens());
    run(in, table, share, routed, executor,
        [&](const RouterInput<Real>& own) { inner_.route(own, table, arena, executor); });
  }
  template <Executor X>
  void route_train(const RouterInput<Real>& in, RouteTable<Real>& table, Tape& tape, Arena& arena,
                   X& executor) const {
    run_taped(in, table, tape, executor, [&](const RouterInput<Real>& own) {
      impl::route_train_of(inner_, own, table, tape.inner, arena, executor);
    });
  }
  template <Executor X>
  void route_observed(const RouterInput<Real>& in, RouteTable<Real>& table, Tape* tape,
                      const RouteView<Real>& view, Arena& arena,
                      X& executor) const requires ObservableRouter<Inner> {
    if (tape != nullptr) {
      return run_taped(in, table, *tape, executor, [&](const RouterInput<Real>& own) {
        inner_.route_observed(own, table, &tape->inner, view, arena, executor);
      });
    }
    Real* const share = arena.take<Real>(in.tokens() * gate_.outputs());
    bool* const routed = arena.take<bool>(in.tokens());
    run(in, table, share, routed, executor, [&](const RouterInput<Real>& own) {
      inner_.route_observed(own, table, nullptr, view, arena, executor);
    });
  }

  /// What Inner's throws.
  void check_backward(const RouterInput<Real>& in, const RouteTable<Real>& table, const Tape& tape,
                      const RouteGradients<Real>& out) const {
    impl::check_backward_of(inner_, shown(in, tape), table, tape.inner, out);
  }
  template <Executor X>
  void backward(const RouterInput<Real>& in, const RouteTable<Real>& table, const Tape& tape,
                const RouteGradients<Real>& out, Gradients* gradients, Arena& arena, X& executor) const {
    check_backward(in, table, tape, out);
    impl::check_gradients_of(*this, gradients);
    const Index n = gate_.outputs();
    impl::taped("self_gated", tape.share, in.tokens() * n);
    Real* const d = arena.take<Real>(n);
    gate_.backward(
        in.x,
        [&](const auto& add) {
          for (Index t = 0; out.dweight != nullptr && t < in.tokens(); ++t) {
            if (table.count(t) == 0) continue;
            const Index task = in.task.data()[t];
            const Real* const share = tape.share.data() + t * n;
            fill_row(Real{0}, d, n);
            for (Index p = table.offsets[t]; p < table.offsets[t + 1]; ++p) {
              const Index k = mask_.own_index(task, Index{table.expert[p]});
              if (k >= 0) d[k] += out.dweight[p];
            }
            const Real mean = n == 1 ? share[0] * d[0] : dot(share, d, n);
            for (Index k = 0; k < n; ++k) d[k] = share[k] * (d[k] - mean);
            add(t, task, d);
          }
        },
        out.dx, gradients == nullptr ? nullptr : &gradients->gate);
    inner_.backward(shown(in, tape), table, tape.inner, out,
                    gradients == nullptr ? nullptr : &gradients->inner, arena, executor);
  }

  Gradients make_gradients() const { return {gate_.make_gradients(), impl::make_gradients_of(inner_)}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor&& f) {
    impl::visit_parameters_of(inner_, gradients == nullptr ? nullptr : &gradients->inner, f);
    gate_.visit_parameters("self_gate", gradients == nullptr ? nullptr : &gradients->gate, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor&& f) {
    impl::visit_storage_of(inner_, gradients == nullptr ? nullptr : &gradients->inner, f);
    gate_.visit_storage("self_gate", gradients == nullptr ? nullptr : &gradients->gate, f);
  }
  template <class Visitor>
  void visit_state(Visitor&& f) {
    impl::visit_state_of(inner_, f);
  }
  template <class Visitor>
  void visit_state(Visitor&& f) const {
    impl::visit_state_of(inner_, f);
  }
  void on_step_end(const RouteStats& stats) { impl::on_step_end_of(inner_, stats); }

 private:
  template <class X, class Route>
  void run_taped(const RouterInput<Real>& in, RouteTable<Real>& table, Tape& tape, X& executor,
                 const Route& route) const {
    Real* const share = tape.share.resize(checked_product("tape", in.tokens(), gate_.outputs()));
    tape.some = run(in, table, share, tape.routed.resize(in.tokens()), executor, route);
  }
  /// Returns whether Inner was not shown all rows.
  template <class X, class Route>
  bool run(const RouterInput<Real>& in, RouteTable<Real>& table, Real* share, bool* routed, X& executor,
           const Route& route) const {
    mask_.check_call(in);
    const Index n = gate_.outputs();
    executor.parallel_for(in.tokens(), [&](Index t, Index) noexcept {
      routed[t] = in.takes_part(t);
      for (Index k = 0; k < n; ++k) share[t * n + k] = 0;
      if (routed[t]) routed[t] = shares(in.task.data()[t], in.x.row(t), share + t * n);
    });
    bool some = false;
    for (Index t = 0; t < in.tokens(); ++t) some = some || (in.takes_part(t) && !routed[t]);
    for (Index t = 0; some && non_finite() == NonFinite::throw_ && t < in.tokens(); ++t) {
      if (routed[t] || !in.takes_part(t)) continue;
      fail<numeric_error>("logits of the self-gate: expected finite values, got others for token ", t,
                          "; NonFinite::isolate_row confines it to its row");
    }
    RouterInput<Real> own = in;
    if (some) own.valid = {routed, static_cast<std::size_t>(in.tokens())};
    route(own);
    for (Index t = 0; t < in.tokens(); ++t) {
      if (!in.takes_part(t)) continue;
      if (!routed[t]) table.spoiled[t] = true;
      for (Index p = table.offsets[t]; p < table.offsets[t + 1]; ++p) {
        const Index k = mask_.own_index(Index{in.task.data()[t]}, Index{table.expert[p]});
        if (k >= 0) table.weight[p] += share[t * n + k];
      }
    }
    return some;
  }
  /// False if they are not finite.
  bool shares(Index task, const Real* x, Real* share) const noexcept {
    const Index n = gate_.outputs();
    Real most = 0, sum = 0;
    for (Index k = 0; k < n; ++k) {
      share[k] = gate_.output(task, k, x);
      if (!is_finite(share[k])) return false;
      if (k == 0 || share[k] > most) most = share[k];
    }
    if (n == 1) {
      share[0] = Sigmoid{}.value(share[0]);
      return true;
    }
    for (Index k = 0; k < n; ++k) sum += share[k] = math::exp_nonpositive(Real(share[k] - most));
    for (Index k = 0; k < n; ++k) share[k] /= sum;
    return true;
  }
  RouterInput<Real> shown(const RouterInput<Real>& in, const Tape& tape) const {
    RouterInput<Real> own = in;
    if (tape.some) own.valid = {tape.routed.data(), static_cast<std::size_t>(tape.routed.size())};
    return own;
  }

  TaskProjection<Real> gate_;
  HierarchyMask mask_;
  Inner inner_;
};

MOE_NAMESPACE_END
