// The middle of a layer as a value: Y = sum over a token's experts of weight * f_e(X), the five stages in
// order and their backward in reverse. Around it: checks, tape, frame, shared experts, statistics
// (layer/moe_layer.hpp).
//   rows X[T,D] > 1 route > 2 plan > 3 dispatch > 4 experts > 5 combine > Y[T,D]
#pragma once

#include <concepts>
#include <type_traits>
#include <utility>

#include "moe/combine/weighted_sum.hpp"
#include "moe/core/check.hpp"
#include "moe/core/column.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_hooks.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/dispatch/row_pointers.hpp"
#include "moe/expert/concept.hpp"
#include "moe/kernel/panel.hpp"
#include "moe/layer/call/observer.hpp"
#include "moe/layer/call/scoped.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "moe/plan/concept.hpp"
#include "moe/plan/dispatch_plan.hpp"
#include "moe/router/concept.hpp"
#include "moe/router/observable.hpp"

MOE_NAMESPACE_BEGIN

/// What a sum reads and where it goes. The caller has checked widths and extents.
template <class Real>
struct SumRows {
  ConstMatrixView<Real> x;  // [T, D] rows the experts read
  MatrixView<Real> y;       // [T, D]
  SumFrom from = SumFrom::zero;
  Observer<Real>* observer = nullptr;
  MatrixView<Real> carry{};  // [T, carry_width()] or absent: what the router hands on
};

/// What stages 1 and 2 decided. In a tape's memory, or taken from the call's arena.
template <class Real>
struct Routed {
  RouteTable<Real> table{};
  DispatchPlan<Real> plan{};
};

/// What arrives at a sum's backward, and where the gradient of its rows goes.
template <class Real>
struct SumGradients {
  ConstMatrixView<Real> dy;  // [T, D]
  MatrixView<Real> dx{};     // [T, D] or absent
  SumFrom from = SumFrom::zero;
  Column<bool> frozen_pair{};  // [P] by pair of the table, or empty: true: no gradient of the bank's
                               // parameters has a part of this pair's
  const Probes<Real>* probes = nullptr;   // of a call with probes: they, and
  const Probes<Real>* dprobes = nullptr;  // where the experts add their gradients
  ConstMatrixView<Real> memory{};         // [T, D] the call's carry, if experts remember, and
  MatrixView<Real> dmemory{};             // its gradient, added to; or absent
};

/// A call has nothing to do between stages 2 and 3.
struct NothingMore {
  void operator()(Arena&) const noexcept {}
};

/// Router, bank and capacity policy; `R&` or `B&` refers to a part that lives elsewhere. Errors are those of
/// the parts and of stage 2, all before y is written. Rows that take no part, and spoiled ones, have no
/// pairs: from zero their sum is 0.
template <class R, class B, class C = Dropless>
class RoutedSum {
  using RouterType = std::remove_reference_t<R>;
  using Bank = std::remove_reference_t<B>;
  static_assert(Router<RouterType>,
                "moe: R is not a Router; it needs Real, coupling(bool), experts(), width() and "
                "route(in, table, arena, executor): docs/add_a_router.md");
  static_assert(ExpertBank<Bank>,
                "moe: B is not an ExpertBank; it needs Real, coupling, experts(), width() and "
                "forward(batch, sink, arena, executor): docs/add_an_expert.md");
  static_assert(
      impl::refuse_wrong_default_hooks<std::remove_const_t<RouterType>, Arena, CallShape, Index>() &&
      impl::refuse_wrong_default_hooks<std::remove_const_t<Bank>, Arena, Index, Index>() &&
      impl::refuse_near_misses<std::remove_const_t<RouterType>, impl::Hook::carry_width>());
  static_assert(
      impl::absent_or<std::remove_const_t<RouterType>, impl::Hook::carry_width>(CarryingRouter<RouterType>),
      "moe: a router has a carry_width() that nobody can call, or no route_observed(), which hands "
      "on: moe/router/observable.hpp");
  static_assert(CapacityPolicy<C>,
                "moe: C is not a CapacityPolicy; it needs coupling, measure(arena, pairs, experts) and "
                "limit(table, segments, keep, arena): moe/plan/capacity/fixed.hpp");
  static_assert(std::is_same_v<typename RouterType::Real, typename Bank::Real>,
                "moe: router and experts must compute in the same type");

 public:
  using Real = typename Bank::Real;
  static constexpr bool kTrainable = TrainableRouter<RouterType> && TrainableExpertBank<Bank>;

  struct Gradients {
    impl::GradientsOf<RouterType> router;
    impl::GradientsOf<Bank> experts;
  };

  /// What backward needs beside the rows; reusable, allocates while it warms up. A forward_train that is
  /// refused, by the router or by stage 2, leaves it as it was.
  class Tape {
   public:
    const RouteTable<Real>& routes() const noexcept { return decided().routed->table; }
    const DispatchPlan<Real>& plan() const noexcept { return decided().routed->plan; }

   private:
    friend class RoutedSum;
    /// What stages 1 and 2 write.
    struct Decided {
      Workspace table_memory;
      Workspace plan_memory;
      impl::Movable<Routed<Real>> routed;
      impl::TapeOf<RouterType> router;
    };
    const Decided& decided() const noexcept { return decided_[current_]; }
    Decided& next() noexcept { return decided_[1 - current_]; }

    impl::Writer writer_;
    Decided decided_[2];  // by turns: a call that is refused has written the other one
    int current_ = 0;
    impl::TapeOf<Bank> experts_;
  };

  /// Throws config_error unless the bank has as many experts as the router has ids.
  RoutedSum(R router, B experts, C capacity = C{})
      : router_(std::forward<R>(router)), experts_(std::forward<B>(experts)), capacity_(std::move(capacity)) {
    if (Index{router_.experts()} != Index{experts_.experts()}) {
      fail<config_error>("layer: expected as many experts in the bank as the router has ids, ",
                         Index{router_.experts()}, ", got ", Index{experts_.experts()});
    }
    const Index columns = impl::output_width_of(experts_);
    if (columns != width()) {
      fail<config_error>("layer: expected experts with results of their rows' width, ", width(), ", got ",
                         columns);
    }
  }

  RouterType& router() noexcept { return router_; }
  const RouterType& router() const noexcept { return router_; }
  Bank& experts() noexcept { return experts_; }
  const Bank& experts() const noexcept { return experts_; }
  const C& capacity() const noexcept { return capacity_; }
  const impl::Identity& identity() const noexcept { return identity_; }
  /// What the constructor checked: a part may have been replaced since, or moved from: then it throws
  /// state_error.
  void require_parts() const {
    const Index ids = router_.experts(), banked = experts_.experts();
    impl::require_there("layer", identity_ && ids > 0 && banked > 0);
    if (ids != banked) {
      fail<state_error>("layer: expected as many experts in the bank as the router has ids, ", ids, ", got ",
                        banked);
    }
  }
  /// D: columns of the rows and of their sum.
  Index width() const noexcept { return experts_.width(); }
  /// R: columns of what the router hands on; 0: nothing.
  Index carry_width() const noexcept { return impl::carry_width_of(router_); }

  /// How much of the batch a row's sum depends on: the weakest of the parts.
  static constexpr Coupling coupling(bool training) noexcept {
    return weakest(weakest(RouterType::coupling(training), C::coupling), impl::bank_coupling<Bank>(training));
  }
  Index max_pairs(const CallShape& shape) const { return impl::max_pairs_of(router_, router_shape(shape)); }

  /// Takes what forward and forward_train take; of that, table, plan and what `decided` takes stay taken.
  /// Throws state_error if it was moved from, or if router and bank no longer fit together.
  template <class D = NothingMore>
  void measure(Arena& arena, const CallShape& shape, Index concurrency, const D& decided = {}) const {
    require_parts();
    MeasuredForward<D> call{*this, shape.tokens, max_pairs(shape), shape, concurrency, decided};
    stages(call, arena);
  }
  /// Takes what backward_experts and backward_router take.
  void measure_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    measure_backward_experts(arena, shape, concurrency);
    measure_backward_router(arena, shape, concurrency);
  }
  void measure_backward_experts(Arena& arena, const CallShape& shape, Index concurrency) const {
    require_parts();
    const Index pairs = max_pairs(shape);
    MeasuredBackward call{*this, pairs, pairs, concurrency};
    backward_stages(call, arena);
  }
  void measure_backward_router(Arena& arena, const CallShape& shape, Index concurrency) const {
    scoped(arena, [&] { impl::measure_backward_of(router_, arena, router_shape(shape), concurrency); });
  }

  /// `decided(arena)`, or `decided(arena, table)`: what is to happen between stages 2 and 3, when nothing can
  /// be refused any more. It may set x and y of `rows`, and what it takes stays taken.
  template <Executor X, class D = NothingMore>
  Routed<Real> forward(const RouterInput<Real>& in, const SumRows<Real>& rows, Arena& arena, X& executor,
                       const D& decided = {}) const {
    return run<void>(in, rows, nullptr, arena, executor, decided);
  }
  /// The same bits, and writes the tape.
  template <Executor X, class D = NothingMore>
  Routed<Real> forward_train(const RouterInput<Real>& in, const SumRows<Real>& rows, Tape& tape, Arena& arena,
                             X& executor, const D& decided = {}) const requires kTrainable {
    const Routed<Real> routed = run<Tape>(in, rows, &tape, arena, executor, decided);
    tape.writer_.set(identity_);
    return routed;
  }

  /// Throws state_error for a tape that this sum did not write, or of a call of other than `tokens` rows.
  void check(const Tape& tape, Index tokens) const {
    require_parts();
    tape.writer_.require("tape", identity_);
    if (tape.routes().tokens != tokens) {
      fail<state_error>("tape: expected the tape of a call with ", tokens, " rows, got one of ",
                        tape.routes().tokens);
    }
  }
  /// The same, and what the router refuses of `at_router`; config_error for frozen pairs of a bank that
  /// cannot leave them out, shape_error unless they are as many as the table's.
  void check(const Tape& tape, const RouterInput<Real>& in, const RouteGradients<Real>& at_router,
             const Column<bool>& frozen_pair) const requires kTrainable {
    check(tape, in.tokens());
    impl::check_backward_of(router_, in, tape.routes(), tape.decided().router, at_router);
    check_frozen(tape, frozen_pair);
  }

  /// Stages 5 to 3: dx, and the experts' gradients added to (null: frozen). `x` are the rows of the call on
  /// the tape. Returns d weight by pair [pairs of the table], taken from the arena, for backward_router.
  /// Throws what check() throws, of frozen pairs too, and shape_error for another bank's gradients.
  template <Executor X>
  const Real* backward_experts(const Tape& tape, const ConstMatrixView<Real>& x,
                               const SumGradients<Real>& out, impl::GradientsOf<Bank>* gradients,
                               Arena& arena, X& executor) const requires kTrainable {
    check(tape, x.rows);
    check_frozen(tape, out.frozen_pair);
    impl::check_gradients_of(experts_, gradients);
    const Routed<Real>& routed = tape.decided().routed;
    Backward<X> call{*this, routed.table.pairs(), routed.plan.slots(), tape, x, out, gradients, executor};
    return backward_stages(call, arena);
  }
  /// Stage 1; stage 2 has nothing to differentiate, a dropped pair's weight has no gradient. `out.dx` is
  /// added to, and so are the router's gradients (null: frozen).
  template <Executor X>
  void backward_router(const Tape& tape, const RouterInput<Real>& in, const RouteGradients<Real>& out,
                       impl::GradientsOf<RouterType>* gradients, Arena& arena,
                       X& executor) const requires kTrainable {
    scoped(arena, [&] {
      with_router_input(in, [&](const RouterInput<Real>& own) {
        router_.backward(own, tape.routes(), tape.decided().router, out, gradients, arena, executor);
      });
    });
  }

  /// Zero gradients of both parts.
  Gradients make_gradients() const requires kTrainable {
    return {impl::make_gradients_of(router_), impl::make_gradients_of(experts_)};
  }

 private:
  struct Scratch {
    const Real** x_row;  // [P] what the experts read
    const Real** z_row;  // [P] their results
    Real* z;             // [P, D] storage of the results
    Real* scaled;        // [P, D] weighted rows; null unless weights are on the input
    Scratch(Arena& arena, Index slots, Index width, bool on_input)
        : x_row(arena.take<const Real*>(slots)),
          z_row(arena.take<const Real*>(slots)),
          z(arena.take<Real>(checked_product("expert results", slots, row_stride<Real>(width)))),
          scaled(on_input ? arena.take<Real>(slots * row_stride<Real>(width)) : nullptr) {}
  };

  struct BackwardScratch {
    const Real** x_row;   // [P]
    const Real** dy_row;  // [P]
    const Real** dx_row;  // [P]
    Real* dx;             // [P, D]
    Real* dweight;        // [P] by slot
    Real* scaled;         // [P, D], null unless weights are on the input, as is:
    Real* one;            // [P] the weights of the results
    bool* frozen;         // [P] by slot
    BackwardScratch(Arena& arena, Index slots, Index width, bool on_input)
        : x_row(arena.take<const Real*>(slots)),
          dy_row(arena.take<const Real*>(slots)),
          dx_row(arena.take<const Real*>(slots)),
          dx(arena.take<Real>(checked_product("expert gradients", slots, row_stride<Real>(width)))),
          dweight(arena.take<Real>(slots)),
          scaled(on_input ? arena.take<Real>(slots * row_stride<Real>(width)) : nullptr),
          one(on_input ? arena.take<Real>(slots) : nullptr),
          frozen(arena.take<bool>(slots)) {}
  };

  // The one list of what a call takes from its arena, in order. A call that is only measured answers with
  // bounds and measures its parts where a real one runs them.

  template <class Call>
  Routed<Real> stages(Call& call, Arena& arena) const {
    Routed<Real> routed;
    routed.table = call.keep_table(arena, [&](Arena& from) {
      return RouteTable<Real>::carve(from, call.tokens, router_.experts(), call.max_pairs,
                                     impl::codes_per_token_of(router_));
    });
    call.keep_carry(arena);
    scoped(arena, [&] { call.route(routed.table, arena); });
    const Index pairs = call.pairs(routed.table);
    routed.plan = call.keep_plan(arena, [&](Arena& from) {
      return DispatchPlan<Real>::carve(from, call.tokens, router_.experts(), pairs);
    });
    scoped(arena, [&] { call.plan(routed, arena); });
    call.decided(routed, arena);
    scoped(arena, [&] {
      const Scratch scratch(arena, call.slots(routed.plan), width(), weighs_input());
      scoped(arena, [&] { call.run_experts(routed.plan, scratch, arena); });
      call.combine(routed, scratch);
    });
    return routed;
  }

  template <class Call>
  const Real* backward_stages(Call& call, Arena& arena) const {
    Real* const dweight = arena.take<Real>(call.pairs);  // outlives the rest
    scoped(arena, [&] {
      const BackwardScratch scratch(arena, call.slots, width(), weighs_input());
      scoped(arena, [&] { call.run_experts(scratch, arena); });
      call.combine(scratch, dweight);
    });
    return dweight;
  }

  template <class D>
  struct MeasuredForward {
    const RoutedSum& sum;
    Index tokens, max_pairs;
    const CallShape& shape;
    Index concurrency;
    const D& more;

    template <class Carve>
    auto keep_table(Arena& arena, const Carve& carve) const {
      return carve(arena);
    }
    template <class Carve>
    auto keep_plan(Arena& arena, const Carve& carve) const {
      return carve(arena);
    }
    void keep_carry(Arena& arena) const {
      arena.take<Real>(checked_product("carry", tokens, sum.carry_width()));
    }
    void route(const RouteTable<Real>&, Arena& arena) const {
      impl::measure_of(sum.router_, arena, router_shape(shape), concurrency);
    }
    Index pairs(const RouteTable<Real>&) const noexcept { return max_pairs; }
    void plan(const Routed<Real>&, Arena& arena) const {
      measure_plan(arena, sum.capacity_, max_pairs, sum.router_.experts());
    }
    void decided(const Routed<Real>&, Arena& arena) const { more(arena); }
    Index slots(const DispatchPlan<Real>&) const noexcept { return max_pairs; }
    void run_experts(const DispatchPlan<Real>&, const Scratch&, Arena& arena) const {
      impl::measure_of(sum.experts_, arena, max_pairs, concurrency);
    }
    void combine(const Routed<Real>&, const Scratch&) const noexcept {}
  };

  struct MeasuredBackward {
    const RoutedSum& sum;
    Index pairs, slots, concurrency;

    void run_experts(const BackwardScratch&, Arena& arena) const {
      impl::measure_backward_of(sum.experts_, arena, slots, concurrency);
    }
    void combine(const BackwardScratch&, Real*) const noexcept {}
  };

  /// TapeType is void or Tape.
  template <class TapeType, class X, class D>
  struct Forward {
    static constexpr bool kTaped = !std::is_void_v<TapeType>;
    const RoutedSum& sum;
    Index tokens, max_pairs;
    const RouterInput<Real>& in;
    const SumRows<Real>& rows;
    TapeType* tape;
    X& executor;
    const D& more;
    RouteView<Real> seen{};

    template <class Carve>
    auto keep_table(Arena& arena, const Carve& carve) {
      if constexpr (kTaped) {
        return keep(tape->next().table_memory, carve);
      } else {
        return carve(arena);
      }
    }
    template <class Carve>
    auto keep_plan(Arena& arena, const Carve& carve) {
      if constexpr (kTaped) {
        return keep(tape->next().plan_memory, carve);
      } else {
        return carve(arena);
      }
    }
    template <class Carve>
    static auto keep(Workspace& memory, const Carve& carve) {
      Arena measuring;
      carve(measuring);
      Arena kept = memory.arena(measuring.bytes());
      return carve(kept);
    }

    /// Until stage 2 has refused nothing.
    void keep_carry(Arena& arena) {
      const Index width = sum.carry_width();
      if (rows.carry) seen.carry = MatrixView<Real>(arena.take<Real>(tokens * width), tokens, width);
    }
    void route(RouteTable<Real>& table, Arena& arena) {
      with_router_input(in, [&](const RouterInput<Real>& own) {
        if constexpr (ObservableRouter<RouterType>) {
          if (rows.observer != nullptr) show(rows.observer->memory);
          impl::TapeOf<RouterType>* router_tape = nullptr;
          if constexpr (kTaped) router_tape = &tape->next().router;
          sum.router_.route_observed(own, table, router_tape, seen, arena, executor);
        } else if constexpr (kTaped) {
          impl::route_train_of(sum.router_, own, table, tape->next().router, arena, executor);
        } else {
          sum.router_.route(own, table, arena, executor);
        }
      });
    }
    /// Memory for logits and scores.
    void show(Workspace& memory) {
      const Index outputs = sum.router_.outputs();
      const Index size = checked_product("logits", tokens, outputs);
      Arena measuring;
      measuring.take<Real>(size);
      measuring.take<Real>(size);
      Arena arena = memory.arena(measuring.bytes());
      seen.logit = MatrixView<Real>(arena.take<Real>(size), tokens, outputs);
      seen.score = MatrixView<Real>(arena.take<Real>(size), tokens, outputs);
    }

    Index pairs(const RouteTable<Real>& table) const noexcept { return table.pairs(); }
    void plan(Routed<Real>& routed, Arena& arena) const {
      routed.table.draws = {in.draws, {in.row_key.data(), in.row_key.size()}};
      impl::check_call_of(sum.experts_, in);
      if constexpr (kCapacityOfCall) {
        if (in.options.capacity_factor != 0) {
          return build_plan(routed.table, sum.capacity_.for_call(in.options), in.segments, routed.plan,
                            arena);
        }
      }
      build_plan(routed.table, sum.capacity_, in.segments, routed.plan, arena);
    }
    void decided(const Routed<Real>& routed, Arena& arena) {
      if constexpr (kTaped) {
        tape->writer_.clear();  // until the experts have written theirs
        tape->next().routed = routed;
        tape->current_ = 1 - tape->current_;
      }
      for (Index t = 0; rows.carry && t < tokens; ++t) {
        copy_row(seen.carry.row(t), rows.carry.row(t), rows.carry.cols);
      }
      if constexpr (std::is_invocable_v<const D&, Arena&, const RouteTable<Real>&>) {
        more(arena, routed.table);
      } else {
        more(arena);
      }
    }
    Index slots(const DispatchPlan<Real>& plan) const noexcept { return plan.slots(); }
    void run_experts(const DispatchPlan<Real>& plan, const Scratch& scratch, Arena& arena) const {
      RowBatch<Real> batch = make_batch(plan, rows.x, scratch.x_row, scratch.scaled, executor);
      const RowDraws draws{in.draws, {in.row_key.data(), in.row_key.size()}};
      if (in.training) batch.draws = &draws;
      if (in.probes) batch.probes = &in.probes;
      if (impl::kRemembers<Bank> && in.carry) batch.memory = &in.carry;
      const RowSink<Real> sink = sum.make_sink(scratch.z, scratch.z_row, plan.slots());
      if constexpr (kTaped) {
        impl::forward_train_of(sum.experts_, batch, sink, tape->experts_, arena, executor);
      } else {
        sum.experts_.forward(batch, sink, arena, executor);
      }
    }
    void combine(const Routed<Real>& routed, const Scratch& scratch) const {
      combine_row_pointers(routed.plan, scratch.z_row, sum.weighs_input() ? nullptr : routed.plan.weight,
                           rows.y, executor, rows.from);
      if (rows.observer == nullptr) return;
      rows.observer->see(
          CallView<Real>{routed.table, routed.plan, seen.logit, seen.score, rows.x, scratch.z_row, rows.y});
    }
  };

  template <class X>
  struct Backward {
    const RoutedSum& sum;
    Index pairs, slots;
    const Tape& tape;
    const ConstMatrixView<Real>& x;
    const SumGradients<Real>& out;
    impl::GradientsOf<Bank>* gradients;
    X& executor;

    /// Stages 4 and 3: the experts' input gradients are summed like results.
    void run_experts(const BackwardScratch& scratch, Arena& arena) const {
      const DispatchPlan<Real>& plan = tape.plan();
      const bool on_input = sum.weighs_input();
      gather_row_pointers(plan, out.dy, scratch.dy_row);
      for (Index s = 0; on_input && s < slots; ++s) scratch.one[s] = 1;
      const bool freezes = !out.frozen_pair.empty();
      for (Index s = 0; freezes && s < slots; ++s) scratch.frozen[s] = out.frozen_pair[plan.pair[s]];
      const RowSink<Real> dx =
          sum.make_sink(out.dx || on_input ? scratch.dx : nullptr, scratch.dx_row, slots);
      RowBatch<Real> batch = make_batch(plan, x, scratch.x_row, scratch.scaled, executor);
      batch.probes = out.probes;
      if (out.memory) batch.memory = &out.memory;
      sum.experts_.backward(batch, tape.experts_,
                            RowGradients<Real>{scratch.dy_row, on_input ? scratch.one : plan.weight,
                                               scratch.dweight, dx, freezes ? scratch.frozen : nullptr,
                                               out.dprobes, out.dmemory ? &out.dmemory : nullptr},
                            gradients, arena, executor);
      for (Index s = 0; on_input && s < slots; ++s) {  // the slot read w x
        const Real* const row = scratch.dx_row[s];
        scratch.dweight[s] = row == nullptr ? 0 : dot(row, x.row(Index{plan.token[s]}), x.cols);
      }
    }
    void combine(const BackwardScratch& scratch, Real* dweight) const {
      const DispatchPlan<Real>& plan = tape.plan();
      if (out.dx) {
        combine_row_pointers(plan, scratch.dx_row, sum.weighs_input() ? plan.weight : nullptr, out.dx,
                             executor, out.from);
      }
      for (Index p = 0; p < pairs; ++p) dweight[p] = 0;
      for (Index s = 0; s < slots; ++s) dweight[plan.pair[s]] = scratch.dweight[s];
    }
  };

  template <class TapeType, Executor X, class D>
  Routed<Real> run(const RouterInput<Real>& in, const SumRows<Real>& rows, TapeType* tape, Arena& arena,
                   X& executor, const D& decided) const {
    require_parts();
    const Index tokens = in.tokens();
    const CallShape shape{tokens, in.segments.count(tokens), in.options};
    Forward<TapeType, X, D> call{*this, tokens, max_pairs(shape), in, rows, tape, executor, decided};
    return stages(call, arena);
  }

  void check_frozen(const Tape& tape, const Column<bool>& frozen_pair) const {
    if (frozen_pair.empty()) return;
    if (!impl::kFreezesPairs<Bank>) {
      fail<config_error>("frozen_pair: expected none for these experts, which cannot leave pairs out, got ",
                         static_cast<Index>(frozen_pair.size()), " entries");
    }
    require_extent("frozen_pair", "entries", tape.routes().pairs(), static_cast<Index>(frozen_pair.size()));
  }

  /// A capacity that obeys the call's factor keeps it from the router, which would refuse it.
  static constexpr bool kCapacityOfCall = requires(const C& capacity, const CallOptions& options) {
    { capacity.for_call(options) } -> std::same_as<C>;
  };
  static CallShape router_shape(CallShape shape) noexcept {
    if constexpr (kCapacityOfCall) shape.options.capacity_factor = 0;
    return shape;
  }
  /// f(in), as the router sees it.
  template <class F>
  static void with_router_input(const RouterInput<Real>& in, const F& f) {
    if constexpr (kCapacityOfCall) {
      if (in.options.capacity_factor != 0) {
        RouterInput<Real> own = in;
        own.options.capacity_factor = 0;
        return f(own);
      }
    }
    f(in);
  }

  bool weighs_input() const noexcept { return impl::weight_place(router_) == WeightPlace::input; }

  /// `scaled` [P, D]: storage of the weighted rows; null if rows are read as they are.
  template <Executor X>
  static RowBatch<Real> make_batch(const DispatchPlan<Real>& plan, const ConstMatrixView<Real>& x,
                                   const Real** row, Real* scaled, X& executor) {
    gather_row_pointers(plan, x, row);
    if (scaled != nullptr) {  // slots of one token no longer read the same row
      scale_gathered_rows(plan, x.cols, row, scaled, executor);
      return {row, plan.token, plan.offsets, plan.experts};
    }
    return {row, plan.token, plan.offsets, plan.experts, plan.tokens};
  }

  RowSink<Real> make_sink(Real* data, const Real** result, Index slots) const noexcept {
    const RowSink<Real> sink{data, row_stride<Real>(width()), result};
    for (Index s = 0; s < slots; ++s) result[s] = data == nullptr ? nullptr : sink.row(s);
    return sink;
  }

  impl::Identity identity_;
  R router_;
  B experts_;
  C capacity_;
};

MOE_NAMESPACE_END
