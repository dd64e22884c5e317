// Two levels of soft experts, Mamba-HoME (arXiv:2507.06363), after the authors' code: consecutive rows mix
// into the slots of their group, weighed by a softmax over the slots; the results, scaled for each expert and
// gated for each group, are the rows of a second soft layer over the whole segment; what that gives comes
// back to the rows by the weights of the first. Not causal.
#pragma once

#include <cstddef>
#include <limits>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/expert/concept.hpp"
#include "moe/kernel/panel.hpp"
#include "moe/kernel/rms_norm.hpp"
#include "moe/kernel/row.hpp"
#include "moe/layer/call/arguments.hpp"
#include "moe/layer/call/checks.hpp"
#include "moe/layer/call/measured_calls.hpp"
#include "moe/layer/call/output.hpp"
#include "moe/layer/call/scoped.hpp"
#include "moe/layer/call/stored_input.hpp"
#include "moe/layer/concept.hpp"
#include "moe/layer/shown_parts.hpp"
#include "moe/layer/soft/home_gates.hpp"
#include "moe/layer/soft/soft_calls.hpp"
#include "moe/layer/soft/soft_sum.hpp"
#include "moe/plan/statistics.hpp"
#include "moe/router/concept.hpp"
#include "moe/router/soft/mean_slots.hpp"

MOE_NAMESPACE_BEGIN

struct HomeSoftOptions {
  Index width = 0;    // D
  Index group = 0;    // consecutive rows of a segment that mix on the first level
  Index experts = 0;  // E of the first level
  Index slots = 1;    // of each of them in a group
  Index second_experts = 0;
  NonFinite non_finite = NonFinite::throw_;
};

/// Banks of the two levels; parameters of the second level are named "second.". A group's gate reads the rows
/// that the router reads. A row that is not finite throws or is isolated; results of experts that are not
/// make their segment NaN. Parameters of the second level that are not finite throw as well, and then the
/// tape is empty, not as it was. Statistics are of the first level.
template <class B1, class B2>
class HomeSoftLayer : public impl::RefusedCalls<HomeSoftLayer<B1, B2>>,
                      public impl::MeasuredCalls<HomeSoftLayer<B1, B2>>,
                      public impl::ShownParts<HomeSoftLayer<B1, B2>> {
  using Refused = impl::RefusedCalls<HomeSoftLayer>;
  using Measured = impl::MeasuredCalls<HomeSoftLayer>;
  using Shown = impl::ShownParts<HomeSoftLayer>;
  friend Measured;
  friend Shown;

 public:
  using Real = typename B1::Real;

 private:
  using First = SoftSum<MeanSlots<Real>, B1>;
  using Second = SoftSum<MeanSlots<Real>, B2>;

  /// What is between the levels of a call.
  struct Between {
    Index* ends;          // [segments + 1] slots of a segment
    Real* mean;           // [G, D] of a group's rows
    Real* gate;           // [G]
    bool* open;           // [G]
    MatrixView<Real> z;   // [slots, D]
    MatrixView<Real> x;   // [slots, D] its norm
    MatrixView<Real> y;   // [slots, D] what the second level makes of it
    const Real** result;  // [slots] rows of y
  };

 public:
  static constexpr bool kTrainable = First::kTrainable && Second::kTrainable;

  struct Gradients {
    typename MeanSlots<Real>::Gradients router;
    impl::GradientsOf<B1> experts;
    typename HomeGates<Real>::Gradients gates;
    typename MeanSlots<Real>::Gradients second_router;
    impl::GradientsOf<B2> second_experts;
  };

  /// As SoftLayer's.
  struct LayerGradients {
    ConstMatrixView<Real> dy;
    MatrixView<Real> dx{};
    MatrixView<Real> router_dx{};
    double auxiliary_scale = 1;
    typename MeanSlots<Real>::Gradients* router = nullptr;
    impl::GradientsOf<B1>* experts = nullptr;
    typename HomeGates<Real>::Gradients* gates = nullptr;
    typename MeanSlots<Real>::Gradients* second_router = nullptr;
    impl::GradientsOf<B2>* second_experts = nullptr;

    LayerGradients() = default;
    LayerGradients(ConstMatrixView<Real> dy_, MatrixView<Real> dx_) : dy(dy_), dx(dx_) {}
    LayerGradients(ConstMatrixView<Real> dy_, MatrixView<Real> dx_, Gradients& all)
        : dy(dy_),
          dx(dx_),
          router(&all.router),
          experts(&all.experts),
          gates(&all.gates),
          second_router(&all.second_router),
          second_experts(&all.second_experts) {}
  };

  class Tape {
   public:
    Index tokens() const noexcept { return writer_ ? tokens_ : 0; }

   private:
    friend class HomeSoftLayer;
    impl::Writer writer_;
    Index tokens_ = 0;
    impl::StoredInput<Real> input_;
    typename First::Tape first_;
    typename Second::Tape second_;
    Workspace memory_;
    impl::Movable<Between> between_;
  };

  /// Throws config_error unless the banks are of the options' width and numbers of experts.
  HomeSoftLayer(const HomeSoftOptions& options, B1 experts, B2 second_experts)
      : first_(MeanSlots<Real>({.width = options.width,
                                .experts = options.experts,
                                .slots = options.slots,
                                .block = options.group,
                                .non_finite = options.non_finite}),
               std::move(experts)),
        second_(MeanSlots<Real>({.width = options.width,
                                 .experts = options.second_experts,
                                 .block = options.second_experts,
                                 .blocks_mix = false,
                                 .weights = MixWeights::rows_and_slots,
                                 .norm_rows = false,
                                 .non_finite = NonFinite::isolate_row}),
                std::move(second_experts)),
        gates_(options.width, options.experts) {
    require_width(options.width);
  }

  /// The same with other experts, as many and as wide: see quantise(). Throws config_error for others.
  template <class Other1, class Other2>
  HomeSoftLayer<Other1, Other2> with_banks(Other1 experts, Other2 second_experts) const {
    return {first_.router(), std::move(experts), second_.router(), std::move(second_experts), gates_};
  }

  MeanSlots<Real>& router() noexcept { return first_.router(); }
  B1& experts() noexcept { return first_.experts(); }
  const B1& experts() const noexcept { return first_.experts(); }
  HomeGates<Real>& gates() noexcept { return gates_; }
  MeanSlots<Real>& second_router() noexcept { return second_.router(); }
  B2& second_experts() noexcept { return second_.experts(); }
  const B2& second_experts() const noexcept { return second_.experts(); }
  Index width() const noexcept { return first_.width(); }
  static constexpr Coupling coupling(bool training) noexcept {
    return weakest(First::coupling(training), Second::coupling(training));
  }

  using Refused::backward, Refused::forward, Refused::forward_train;

  /// As SoftLayer's.
  template <Executor X = SerialExecutor>
  void forward(const LayerInput<Real>& in, LayerOutput<Real>& out, Workspace& workspace,
               X&& executor = X{}) const {
    run(in, out, nullptr, workspace, executor);
  }
  Tape make_tape() const requires kTrainable { return {}; }
  template <Executor X = SerialExecutor>
  void forward_train(const LayerInput<Real>& in, LayerOutput<Real>& out, Tape& tape, Workspace& workspace,
                     X&& executor = X{}) const requires kTrainable {
    run(in, out, &tape, workspace, executor);
    tape.writer_.set(identity_);
  }

  template <Executor X = SerialExecutor>
  void backward(const Tape& tape, const LayerGradients& gradients, Workspace& workspace,
                X&& executor = X{}) const requires kTrainable {
    const Index tokens = check_backward(tape, gradients);
    const RouterInput<Real>& in = tape.input_.router_input();
    Arena arena = this->backward_arena(workspace, {tokens, in.segments.count(tokens), in.options},
                                       executor.concurrency());
    this->check_gradients(gradients);
    if (tokens == 0) return;
    const Between& between = tape.between_;
    const MixTable<Real>& table = tape.first_.table();
    const SlotRows<Real>& slots = tape.first_.slots();
    const Index count = table.slots(), d = width();
    const bool separate = tape.input_.separate_router();
    const MatrixView<Real> at_router = separate ? gradients.router_dx : gradients.dx;

    const MatrixView<Real> dz = rows(arena, count), dbetween = rows(arena, count);
    const Real** const dresult = arena.take<const Real*>(count);
    const auto d5 = first_.combine_backward(table, slots, between.result, gradients.dy, arena, executor);
    const MatrixView<Real> dy = rows(arena, count);
    for (Index s = 0; s < count; ++s) copy_row(d5.row[s], dy.row(s), d);
    scoped(arena, [&] {
      const auto second = second_.combine_backward(tape.second_.table(), tape.second_.slots(),
                                                   tape.second_.slots().result, dy, arena, executor);
      MixGradients<Real> at_second;
      at_second.combine = second.weight;
      at_second.dispatch = second_.experts_backward(tape.second_, between.x, second.row, dbetween,
                                                    gradients.second_experts, arena, executor);
      at_second.auxiliary_scale = gradients.auxiliary_scale;
      at_second.dx = dbetween;
      second_.mix_backward(tape.second_, second_input(in, table, slots, between), at_second,
                           gradients.second_router, arena, executor);
    });
    Real* const dmean = arena.take<Real>(checked_product("group means", table.groups, d));
    between_backward(table, slots, between, dbetween, dz, dmean, gradients.gates);
    for (Index s = 0; s < count; ++s) dresult[s] = dz.row(s);
    MixGradients<Real> at_first;
    at_first.combine = d5.weight;
    at_first.dispatch = first_.experts_backward(tape.first_, tape.input_.x(tokens), dresult, gradients.dx,
                                                gradients.experts, arena, executor);
    at_first.auxiliary_scale = gradients.auxiliary_scale;
    at_first.dx = at_router;
    for (Index t = 0; separate && t < at_router.rows; ++t) fill_row(Real{0}, at_router.row(t), d);
    for (Index g = 0; at_router && g < table.groups; ++g) {
      const Real share = 1 / static_cast<Real>(table.rows(g));
      for (Index p = table.offsets[g]; p < table.offsets[g + 1]; ++p) {
        axpy_row(share, dmean + g * d, at_router.row(Index{table.row[p]}), d);
      }
    }
    first_.mix_backward(tape.first_, in, at_first, gradients.router, arena, executor);
  }

  Gradients make_gradients() const requires kTrainable {
    return {first_.router().make_gradients(), impl::make_gradients_of(first_.experts()),
            gates_.make_gradients(), second_.router().make_gradients(),
            impl::make_gradients_of(second_.experts())};
  }

  template <class Visitor>
  void visit_names(Visitor&& f) const {
    impl::visit_names_of("router", first_.router(), f);
    impl::visit_names_of("experts", first_.experts(), f);
    impl::visit_names_of("second router", second_.router(), f);
    impl::visit_names_of("second experts", second_.experts(), f);
  }
  /// Of the first level, whose counts they are.
  void on_step_end(const RouteStats& stats) requires kTrainable {
    impl::on_step_end_of(first_.router(), stats);
    impl::on_step_end_of(first_.experts(), stats);
  }

 private:
  template <class, class>
  friend class HomeSoftLayer;
  HomeSoftLayer(const MeanSlots<Real>& router, B1 experts, const MeanSlots<Real>& second_router,
                B2 second_experts, const HomeGates<Real>& gates)
      : first_(router, std::move(experts)), second_(second_router, std::move(second_experts)), gates_(gates) {
    require_width(router.width());
  }
  void require_width(Index expected) const {
    for (const Index width : {first_.width(), second_.width()}) {
      if (width != expected) {
        fail<config_error>("layer: expected experts of width ", expected, ", got ", width);
      }
    }
  }

  template <class Visit>
  void each_part(const LayerGradients& gradients, Visit&& visit) {
    visit(first_.router(), gradients.router);
    visit(first_.experts(), gradients.experts);
    visit(gates_, gradients.gates);
    visit(second_.router(), gradients.second_router, "second", -1);
    visit(second_.experts(), gradients.second_experts, "second", -1);
  }

  MatrixView<Real> rows(Arena& arena, Index count) const {
    MatrixView<Real> view;
    view.stride = row_stride<Real>(width());
    view.data = arena.take<Real>(checked_product("slot rows", count, view.stride));
    view.rows = count;
    view.cols = width();
    return view;
  }
  Between carve(Arena& arena, Index slots, Index groups, Index segments) const {
    Between b;
    b.ends = arena.take<Index>(segments + 1);
    b.mean = arena.take<Real>(checked_product("group means", groups, width()));
    b.gate = arena.take<Real>(groups);
    b.open = arena.take<bool>(groups);
    b.z = rows(arena, slots);
    b.x = rows(arena, slots);
    b.y = rows(arena, slots);
    b.result = arena.take<const Real*>(slots);
    return b;
  }
  CallShape second_shape(const CallShape& shape) const {
    return {first_.router().extent(shape).slots, shape.segments};
  }

  void measure_forward(Arena& arena, const CallShape& shape, Mode, Index concurrency) const {
    require_parts();
    const MixExtent room = first_.router().extent(shape);
    const CallShape second = second_shape(shape);
    arena.take<bool>(shape.tokens);
    first_.measure_mix(arena, shape, concurrency);
    first_.measure_experts(arena, shape, concurrency);
    carve(arena, room.slots, room.groups, shape.segments);
    second_.measure_mix(arena, second, concurrency);
    second_.measure_experts(arena, second, concurrency);
    second_.measure_combine(arena, second, concurrency);
    first_.measure_combine(arena, shape, concurrency);
  }
  void measure_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    const MixExtent room = first_.router().extent(shape);
    const CallShape second = second_shape(shape);
    rows(arena, room.slots);
    rows(arena, room.slots);
    arena.take<const Real*>(room.slots);
    first_.measure_combine_backward(arena, shape, concurrency);
    rows(arena, room.slots);
    scoped(arena, [&] {
      second_.measure_combine_backward(arena, second, concurrency);
      second_.measure_experts_backward(arena, second, concurrency);
      second_.measure_mix_backward(arena, second, concurrency);
    });
    arena.take<Real>(checked_product("group means", room.groups, width()));
    first_.measure_experts_backward(arena, shape, concurrency);
    first_.measure_mix_backward(arena, shape, concurrency);
  }

  /// What the second level reads: a segment's slots are its segment there.
  RouterInput<Real> second_input(const RouterInput<Real>& in, const MixTable<Real>& table,
                                 const SlotRows<Real>& slots, const Between& between) const {
    RouterInput<Real> second;
    second.x = between.x;
    const Index segments = in.segments.count(in.tokens());
    second.segments = Segments({between.ends, static_cast<std::size_t>(segments + 1)});
    second.row_key = {slots.key, static_cast<std::size_t>(table.slots())};
    second.training = in.training;
    second.draws = in.draws;
    return second;
  }

  /// f(group, expert, slot), slots ascending.
  template <class F>
  static void each_slot(const MixTable<Real>& table, const F& f) {
    for (Index g = 0; g < table.groups; ++g) {
      for (Index e = 0; e < table.experts; ++e) {
        const Index* const begin = table.slot_offsets + g * table.experts + e;
        for (Index s = begin[0]; s < begin[1]; ++s) f(g, e, s);
      }
    }
  }

  static Real eps() noexcept { return static_cast<Real>(1e-16); }  // as MeanSlots'

  void fill_between(const RouterInput<Real>& in, const MixTable<Real>& table, const SlotRows<Real>& slots,
                    const Between& between) const {
    const Index tokens = in.tokens(), d = width();
    between.ends[0] = 0;
    for (Index s = 0, g = 0; s < in.segments.count(tokens); ++s) {
      while (g < table.groups && table.row[table.offsets[g]] < in.segments.end(s, tokens)) ++g;
      between.ends[s + 1] = g == 0 ? 0 : table.first_slot(g);
    }
    for (Index g = 0; g < table.groups; ++g) {
      Real* const mean = between.mean + g * d;
      fill_row(Real{0}, mean, d);
      for (Index p = table.offsets[g]; p < table.offsets[g + 1]; ++p) {
        add_row(in.x.row(Index{table.row[p]}), mean, d);
      }
      scale_row(1 / static_cast<Real>(table.rows(g)), mean, mean, d);
      between.gate[g] = gates_.gate(mean, between.open[g]);
    }
    each_slot(table, [&](Index g, Index e, Index s) {
      Real* const z = between.z.row(s);
      if (slots.result[s] == nullptr) {
        fill_row(Real{0}, z, d);
      } else {
        scale_row(gates_.scale(e) * between.gate[g], slots.result[s], z, d);
      }
      rms_norm_row(z, gates_.norm(), Real{1}, eps(), between.x.row(s), d);
      between.result[s] = between.y.row(s);
    });
  }

  /// From dx of the second level, which it overwrites: dz becomes the gradient of the results.
  void between_backward(const MixTable<Real>& table, const SlotRows<Real>& slots, const Between& between,
                        const MatrixView<Real>& dx, const MatrixView<Real>& dz, Real* dmean,
                        typename HomeGates<Real>::Gradients* gradients) const {
    const Index d = width();
    Index group = -1;
    Real dgate = 0;
    const auto end_group = [&] {
      if (group < 0) return;
      Real* const to = dmean + group * d;
      const Real s = between.gate[group], by = between.open[group] ? dgate * s * (1 - s) : Real{0};
      scale_row(by, gates_.gate_weight(), to, d);
      if (gradients == nullptr) return;
      axpy_row(by, between.mean + group * d, gradients->gate.data(), d);
      gradients->bias[0] += by;
    };
    each_slot(table, [&](Index g, Index e, Index s) {
      if (g != group) {
        end_group();
        group = g;
        dgate = 0;
      }
      fill_row(Real{0}, dz.row(s), d);
      rms_norm_backward_row(between.z.row(s), gates_.norm(), Real{1}, eps(), dx.row(s),
                            gradients == nullptr ? nullptr : gradients->norm.data(), dz.row(s), d);
      if (slots.result[s] != nullptr) {
        const Real along = dot(dz.row(s), slots.result[s], d);
        dgate += gates_.scale(e) * along;
        if (gradients != nullptr) gradients->scale[e] += between.gate[g] * along;
      }
      scale_row(gates_.scale(e) * between.gate[g], dz.row(s), dz.row(s), d);
    });
    end_group();
  }

  template <Executor X>
  void run(const LayerInput<Real>& input, LayerOutput<Real>& out, Tape* tape, Workspace& workspace,
           X& executor) const {
    require_parts();
    const bool training = input.mode == Mode::training || (input.mode == Mode::by_call && tape != nullptr);
    const Index tokens = input.x.rows, experts = first_.router().experts();
    RouterInput<Real> in = impl::resolve_input(input, width(), width(), experts, training);
    impl::require_segments(coupling(training), training, input.segments, tokens);
    require_shape("y", out.y, tokens, width());
    require_disjoint("x", input.x, "y", out.y);
    impl::require_carry("output carry", out.carry, input.x.rows, 0);
    require_disjoint("router_x", input.router_x, "y", out.y);
    if (out.observer != nullptr) {
      fail<config_error>("observer: expected none for a soft layer, which has no pairs to see, got one");
    }
    if (out.stats != nullptr) out.stats->require_experts(experts);
    if (!gates_.finite()) fail<numeric_error>("gates: expected finite parameters, got others");
    const Index segments = input.segments.count(tokens);
    Arena arena =
        this->forward_arena(workspace, {tokens, segments, input.options},
                            tape != nullptr ? Mode::training : Mode::inference, executor.concurrency());
    bool* const active = arena.take<bool>(tokens);
    ConstMatrixView<Real> x = input.x;
    const MixTable<Real> table =
        first_.mix(in, x, tape == nullptr ? nullptr : &tape->first_, arena, executor);
    impl::check_call_of(second_.experts(), in);
    if (tape != nullptr) {
      tape->writer_.clear();
      tape->tokens_ = tokens;
      tape->input_.store(in, x);
      first_.decided(tape->first_);
      x = tape->input_.x(tokens);
      in = tape->input_.router_input();
    }
    const SlotRows<Real> slots =
        first_.run_experts(in, table, x, tape == nullptr ? nullptr : &tape->first_, arena, executor);
    Between between;
    if (tape != nullptr) {
      Arena counting;
      carve(counting, table.slots(), table.groups, segments);
      Arena kept = tape->memory_.arena(counting.bytes());
      tape->between_ = between = carve(kept, table.slots(), table.groups, segments);
    } else {
      between = carve(arena, table.slots(), table.groups, segments);
    }
    fill_between(in, table, slots, between);
    typename Second::Tape* const second_tape = tape == nullptr ? nullptr : &tape->second_;
    const RouterInput<Real> second = second_input(in, table, slots, between);
    const MixTable<Real> second_table = second_.mix(second, between.x, second_tape, arena, executor);
    if (tape != nullptr) second_.decided(tape->second_);
    const SlotRows<Real> second_slots =
        second_.run_experts(second, second_table, between.x, second_tape, arena, executor);
    second_.combine(second_table, second_slots, second_slots.result, between.y, arena, executor);
    for (Index s = 0; s < table.slots(); ++s) {
      if (second_table.spoiled[s]) fill_row(kNan, between.y.row(s), width());
    }
    first_.combine(table, slots, between.result, out.y, arena, executor);
    for (Index t = 0; t < tokens; ++t) {
      active[t] = in.takes_part(t) && !table.spoiled[t];
      if (table.spoiled[t]) fill_row(kNan, out.y.row(t), width());
    }
    if (input.draws != nullptr) input.draws->advance();
    out.losses.clear();
    if (out.stats != nullptr) impl::count_mix(table, active, *out.stats);
  }

  void require_parts() const {
    impl::require_there("layer", static_cast<bool>(identity_));
    first_.require_parts();
    second_.require_parts();
  }
  Index check_backward(const Tape& tape, const LayerGradients& gradients) const {
    require_parts();
    tape.writer_.require("tape", identity_);
    impl::check_row_gradients(gradients, tape.tokens_, width(), tape.input_.separate_router(),
                              tape.input_.router_input().x.cols);
    return tape.tokens_;
  }
  static constexpr Real kNan = std::numeric_limits<Real>::quiet_NaN();

  impl::Identity identity_;
  First first_;
  Second second_;
  HomeGates<Real> gates_;
};

/// Throws config_error as the layer.
template <class B1, class B2>
HomeSoftLayer<B1, B2> home_soft(const HomeSoftOptions& options, B1 experts, B2 second_experts) {
  return HomeSoftLayer<B1, B2>(options, std::move(experts), std::move(second_experts));
}

/// Of both levels.
template <class To, class B1, class B2>
auto quantise(const HomeSoftLayer<B1, B2>& layer) {
  return layer.with_banks(quantise<To>(layer.experts()), quantise<To>(layer.second_experts()));
}

MOE_NAMESPACE_END
