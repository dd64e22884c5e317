// The layer: Y = sum over experts of weight * f_e(X), the five stages in order, and their backward in
// reverse.
//   tokens X[T,D] > 1 route > 2 plan > 3 dispatch > 4 experts > 5 combine > Y[T,D]
#pragma once

#include <limits>
#include <type_traits>
#include <utility>

#include "moe/combine/weighted_sum.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/dispatch/row_pointers.hpp"
#include "moe/expert/concept.hpp"
#include "moe/kernel/panel.hpp"
#include "moe/layer/call/checks.hpp"
#include "moe/layer/call/output.hpp"
#include "moe/layer/call/stored_input.hpp"
#include "moe/layer/frame/identity.hpp"
#include "moe/layer/shared/none.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "moe/plan/concept.hpp"
#include "moe/plan/dispatch_plan.hpp"
#include "moe/plan/statistics.hpp"
#include "moe/router/concept.hpp"

MOE_NAMESPACE_BEGIN

/// A Mixture-of-Experts layer of a router, a bank of experts, a capacity policy, shared experts that every
/// token visits, and a frame around the experts. Parts are values; `R&` or `B&` as template argument makes
/// the layer refer to a part that lives elsewhere (routers or pools shared by several layers). Const calls
/// may run at the same time on different workspaces.
template <class R, class B, class C = Dropless, class S = NoShared, class F = IdentityFrame>
class MoeLayer {
  using RouterType = std::remove_reference_t<R>;
  using Bank = std::remove_reference_t<B>;
  static_assert(
      Router<RouterType>,
      "moe: R is not a Router; it needs Real, coupling(bool), experts(), width(), max_pairs(shape), "
      "measure(arena, shape, concurrency) and route(in, table, arena, executor): docs/add_a_router.md");
  static_assert(
      ExpertBank<Bank>,
      "moe: B is not an ExpertBank; it needs Real, coupling, experts(), width(), "
      "measure(arena, pairs, concurrency) and forward(batch, sink, arena, executor): docs/add_an_expert.md");
  static_assert(CapacityPolicy<C>,
                "moe: C is not a CapacityPolicy; it needs coupling, measure(arena, pairs, experts) and "
                "limit(table, segments, keep, arena): moe/plan/capacity/fixed.hpp");
  static_assert(std::is_same_v<typename RouterType::Real, typename Bank::Real>,
                "moe: router and experts must compute in the same type");

 public:
  using Real = typename Bank::Real;
  static constexpr bool kTrainable = TrainableRouter<RouterType> && TrainableExpertBank<Bank>;

  /// Parameter gradients of the whole layer, same layout as the parameters.
  struct Gradients {
    impl::GradientsOf<RouterType> router;
    impl::GradientsOf<Bank> experts;
    impl::GradientsOf<S> shared;
    impl::GradientsOf<F> frame;
  };

  /// In: dy and the scale of the auxiliary losses. Out: dx (overwritten; may be absent), and added to: the
  /// gradients of every part that is not frozen (null).
  struct LayerGradients {
    ConstMatrixView<Real> dy;
    MatrixView<Real> dx{};
    MatrixView<Real> router_dx{};  // overwritten; only for calls with a separate router_x
    double auxiliary_scale = 1;
    impl::GradientsOf<RouterType>* router = nullptr;
    impl::GradientsOf<Bank>* experts = nullptr;
    impl::GradientsOf<S>* shared = nullptr;
    impl::GradientsOf<F>* frame = nullptr;

    LayerGradients() = default;
    LayerGradients(ConstMatrixView<Real> dy_, MatrixView<Real> dx_) : dy(dy_), dx(dx_) {}
    LayerGradients(ConstMatrixView<Real> dy_, MatrixView<Real> dx_, Gradients& all)
        : dy(dy_),
          dx(dx_),
          router(&all.router),
          experts(&all.experts),
          shared(&all.shared),
          frame(&all.frame) {}
  };

  /// What backward needs of a forward_train; reusable, allocates while it warms up.
  class Tape {
   public:
    /// Rows of the call on the tape, 0 when there is none.
    Index tokens() const noexcept { return ready_ ? tokens_ : 0; }
    const RouteTable<Real>& routes() const noexcept { return table_; }
    const DispatchPlan<Real>& plan() const noexcept { return plan_; }

   private:
    friend class MoeLayer;
    bool ready_ = false;
    Index tokens_ = 0;
    impl::StoredInput<Real> input_;
    Workspace route_memory_;
    Workspace plan_memory_;
    RouteTable<Real> table_{};
    DispatchPlan<Real> plan_{};
    impl::TapeOf<RouterType> router_;
    impl::TapeOf<Bank> experts_;
    impl::TapeOf<S> shared_;
    impl::TapeOf<F> frame_;
  };

  /// Throws config_error unless router, experts, shared experts and frame fit together.
  MoeLayer(R router, B experts, C capacity = C{}, S shared = S{}, F frame = F{})
      : router_(std::forward<R>(router)),
        experts_(std::forward<B>(experts)),
        capacity_(std::move(capacity)),
        shared_(std::move(shared)),
        frame_(std::move(frame)) {
    if (Index{router_.experts()} != Index{experts_.experts()}) {
      fail<config_error>("layer: expected as many experts in the bank as the router has ids, ",
                         router_.experts(), ", got ", experts_.experts());
    }
    if (frame_.inner_width(experts_.width()) != Index{experts_.width()}) {
      fail<config_error>("layer: expected experts of the frame's inner width ",
                         frame_.inner_width(experts_.width()), ", got ", experts_.width());
    }
    if (shared_.width() != 0 && shared_.width() != width()) {
      fail<config_error>("layer: expected shared experts of width ", width(), ", got ", shared_.width());
    }
  }

  RouterType& router() noexcept { return router_; }
  const RouterType& router() const noexcept { return router_; }
  Bank& experts() noexcept { return experts_; }
  const Bank& experts() const noexcept { return experts_; }
  S& shared() noexcept { return shared_; }
  F& frame() noexcept { return frame_; }
  const C& capacity() const noexcept { return capacity_; }
  /// D: columns of X and Y.
  Index width() const noexcept { return frame_.outer_width(experts_.width()); }

  /// How much of the batch a token's result depends on: the weakest of the parts.
  static constexpr Coupling coupling(bool training) noexcept {
    return weakest(weakest(RouterType::coupling(training), C::coupling), Bank::coupling);
  }

  /// Bytes of workspace that a call of this shape takes; forward_train and backward may take more than
  /// forward.
  Index workspace_bytes(const CallShape& shape, Mode mode = Mode::inference, Index concurrency = 1) const {
    Arena arena;
    measure_forward(arena, shape, concurrency);
    if constexpr (kTrainable) {
      if (mode == Mode::training) measure_backward(arena, shape, concurrency);
    }
    return arena.bytes();
  }
  Index workspace_bytes(Index tokens, Mode mode = Mode::inference, Index concurrency = 1) const {
    return workspace_bytes(CallShape{tokens, tokens}, mode, concurrency);
  }

  /// Y from X. Nothing is written if it throws: shape_error, config_error, numeric_error (non-finite logits,
  /// unless isolated), workspace_error. No allocation once the workspace has grown.
  template <Executor X = SerialExecutor>
  void forward(const LayerInput<Real>& in, LayerOutput<Real>& out, Workspace& workspace,
               X&& executor = X{}) const {
    run<void>(in, out, nullptr, workspace, executor);
  }

  /// Same, and writes the tape.
  template <Executor X = SerialExecutor>
  void forward_train(const LayerInput<Real>& in, LayerOutput<Real>& out, Tape& tape, Workspace& workspace,
                     X&& executor = X{}) const requires kTrainable {
    tape.ready_ = false;
    run<Tape>(in, out, &tape, workspace, executor);
    tape.ready_ = true;
  }

  /// Gradients of sum(dy * y) + auxiliary_scale * losses at the call on the tape. Throws state_error for a
  /// tape without a call or of another batch, shape_error, workspace_error, before anything is written.
  template <Executor X = SerialExecutor>
  void backward(const Tape& tape, LayerGradients& gradients, Workspace& workspace,
                X&& executor = X{}) const requires kTrainable {
    const Index tokens = check_gradients(tape, gradients);
    const RouterInput<Real>& in = tape.input_.router_input();
    const CallShape shape{tokens, in.segments.count(tokens), in.options};
    Arena measuring;
    measure_backward(measuring, shape, executor.concurrency());
    Arena arena = workspace.arena(measuring.bytes());
    if (tokens == 0) return;

    const DispatchPlan<Real>& plan = tape.plan_;
    const ConstMatrixView<Real> x = tape.input_.x(tokens);
    const bool on_input = weighs_input();
    const BackwardScratch scratch(arena, plan.slots(), tape.table_.pairs(), experts_.width(), on_input);

    // 5 combine: every slot gets its token's dY and its weight.
    const ConstMatrixView<Real> dy_inner =
        frame_.after_backward(tape.frame_, gradients.dy, gradients.frame, arena, executor);
    gather_row_pointers(plan, dy_inner, scratch.dy_row);

    // 4 experts, 3 dispatch: their input gradients are summed like results.
    const ConstMatrixView<Real> x_inner = frame_.inner_x(tape.frame_, x);
    const MatrixView<Real> dx_inner = frame_.inner_dx(gradients.dx, tokens, arena);
    const RowSink<Real> dx_rows =
        make_sink(dx_inner || on_input ? scratch.dx : nullptr, scratch.dx_row, plan.slots());
    const Index mark = arena.mark();
    for (Index s = 0; on_input && s < plan.slots(); ++s) scratch.one[s] = 1;
    experts_.backward(make_batch(plan, x_inner, scratch.x_row, scratch.scaled, executor), tape.experts_,
                      RowGradients<Real>{scratch.dy_row, on_input ? scratch.one : plan.weight,
                                         scratch.dweight_slot, dx_rows},
                      gradients.experts, arena, executor);
    arena.rewind(mark);
    for (Index s = 0; on_input && s < plan.slots(); ++s) {  // the slot read w x
      const Real* const row = scratch.dx_row[s];
      scratch.dweight_slot[s] =
          row == nullptr ? 0 : dot(row, x_inner.row(Index{plan.token[s]}), x_inner.cols);
    }
    if (dx_inner) {
      combine_rows(plan, scratch.dx_row, on_input ? plan.weight : nullptr, dx_inner, arena, executor);
      arena.rewind(mark);
      frame_.before_backward(tape.frame_, x, dx_inner, gradients.dx, gradients.frame, arena, executor);
      arena.rewind(mark);
    }
    shared_.backward(tape.shared_, x, gradients.dy, gradients.dx, gradients.shared, arena, executor);
    arena.rewind(mark);

    // 1 route. (2 plan has nothing to differentiate: a dropped pair's weight has no gradient.)
    for (Index p = 0; p < tape.table_.pairs(); ++p) scratch.dweight_pair[p] = 0;
    for (Index s = 0; s < plan.slots(); ++s) scratch.dweight_pair[plan.pair[s]] = scratch.dweight_slot[s];
    const bool separate = tape.input_.separate_router();
    for (Index t = 0; separate && t < gradients.router_dx.rows; ++t) {
      fill_row(Real{0}, gradients.router_dx.row(t), gradients.router_dx.cols);
    }
    router_.backward(in, tape.table_, tape.router_,
                     RouteGradients<Real>{scratch.dweight_pair, gradients.auxiliary_scale,
                                          separate ? gradients.router_dx : gradients.dx},
                     gradients.router, arena, executor);
  }

  /// Zero gradients of every part.
  Gradients make_gradients() const requires kTrainable {
    return {router_.make_gradients(), experts_.make_gradients(), shared_.make_gradients(),
            frame_.make_gradients()};
  }

  /// f(Parameter<Real>) for every named parameter, values only.
  template <class Visitor>
  void visit_parameters(Visitor&& f) {
    visit_parts(nullptr, [&](auto& part, auto* gradients) { part.visit_parameters(gradients, f); });
  }
  /// f(Parameter<Real>) with gradients.
  template <class Visitor>
  void visit_parameters(Gradients& gradients, Visitor&& f) {
    visit_parts(&gradients, [&](auto& part, auto* own) { part.visit_parameters(own, f); });
  }
  /// f(name, Real* values, Real* gradients, n) for every flat range, packed as the kernels read it (padding
  /// included, always 0): what elementwise optimisers want.
  template <class Visitor>
  void visit_storage(Gradients& gradients, Visitor&& f) {
    visit_parts(&gradients, [&](auto& part, auto* own) { part.visit_storage(own, f); });
  }
  /// f(name, std::byte* data, bytes) for weights of a block storage, as they lie in memory: what
  /// visit_parameters cannot show.
  template <class Visitor>
  void visit_packed(Visitor&& f) {
    visit_parts(nullptr, [&](auto& part, auto*) {
      if constexpr (requires { part.visit_packed(f); }) part.visit_packed(f);
    });
  }
  /// f(name, double* values, n) for everything that is saved but not trained by gradient.
  template <class Visitor>
  void visit_state(Visitor&& f) {
    router_.visit_state(f);
  }

  void zero_gradients(Gradients& gradients) requires kTrainable {
    visit_storage(gradients, [](const char*, Real*, Real* g, Index n) {
      for (Index i = 0; i < n; ++i) g[i] = 0;
    });
  }

  /// After an optimiser step: the router's state from the counts of the step (all micro-batches).
  void on_step_end(const RouteStats& stats) requires kTrainable { router_.on_step_end(stats); }

 private:
  struct ForwardScratch {
    const Real** x_row;  // [P] what the experts read
    const Real** z_row;  // [P] their results
    Real* z;             // [P, D] storage of the results
    Real* scaled;        // [P, D] weighted rows; null unless weights are on the input
    ForwardScratch(Arena& arena, Index slots, Index width, bool on_input)
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
    Real* dweight_slot;   // [P]
    Real* dweight_pair;   // [pairs of the table]
    Real* scaled;         // [P, D], null unless weights are on the input, as is:
    Real* one;            // [P] the weights of the results
    BackwardScratch(Arena& arena, Index slots, Index pairs, Index width, bool on_input)
        : x_row(arena.take<const Real*>(slots)),
          dy_row(arena.take<const Real*>(slots)),
          dx_row(arena.take<const Real*>(slots)),
          dx(arena.take<Real>(checked_product("expert gradients", slots, row_stride<Real>(width)))),
          dweight_slot(arena.take<Real>(slots)),
          dweight_pair(arena.take<Real>(pairs)),
          scaled(on_input ? arena.take<Real>(slots * row_stride<Real>(width)) : nullptr),
          one(on_input ? arena.take<Real>(slots) : nullptr) {}
  };

  // What run() takes from its arena, in its order.
  void measure_forward(Arena& arena, const CallShape& shape, Index concurrency) const {
    const Index tokens = shape.tokens, pairs = router_.max_pairs(shape), width = experts_.width();
    RouteTable<Real>::carve(arena, tokens, router_.experts(), pairs);
    const Index start = arena.mark();
    router_.measure(arena, shape, concurrency);
    arena.rewind(start);
    DispatchPlan<Real>::carve(arena, tokens, router_.experts(), pairs);
    const Index planned = arena.mark();
    measure_plan(arena, capacity_, pairs, router_.experts());
    arena.rewind(planned);
    arena.take<bool>(tokens);
    frame_.measure(arena, tokens, concurrency);
    ForwardScratch{arena, pairs, width, weighs_input()};
    const Index carved = arena.mark();
    experts_.measure(arena, pairs, concurrency);
    arena.rewind(carved);
    measure_combine<Real>(arena, pairs);
    arena.rewind(carved);
    shared_.measure(arena, tokens, concurrency);
    arena.rewind(0);
  }

  void measure_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    const Index tokens = shape.tokens, pairs = router_.max_pairs(shape);
    BackwardScratch{arena, pairs, pairs, experts_.width(), weighs_input()};
    frame_.measure_backward(arena, tokens, concurrency);
    const Index carved = arena.mark();
    experts_.measure_backward(arena, pairs, concurrency);
    arena.rewind(carved);
    measure_combine<Real>(arena, pairs);
    arena.rewind(carved);
    shared_.measure_backward(arena, tokens, concurrency);
    arena.rewind(carved);
    router_.measure_backward(arena, shape, concurrency);
    arena.rewind(0);
  }

  /// The five stages. `tape` is null in forward().
  template <class TapeType, Executor X>
  void run(const LayerInput<Real>& input, LayerOutput<Real>& out, TapeType* tape, Workspace& workspace,
           X& executor) const {
    constexpr bool kTaped = !std::is_void_v<TapeType>;
    const bool training = input.mode == Mode::training || (input.mode == Mode::by_call && kTaped);
    RouterInput<Real> in = impl::resolve_input(input, width(), router_.width(), router_.experts(), training);
    impl::require_segments(coupling(training), training, input.segments);
    require_shape("y", out.y, input.x.rows, width());
    require_disjoint("x", input.x, "y", out.y);
    require_disjoint("router_x", input.router_x, "y", out.y);
    const Index tokens = input.x.rows;
    const CallShape shape{tokens, input.segments.count(tokens), input.options};
    const Index max_pairs = router_.max_pairs(shape);
    Arena measuring;
    measure_forward(measuring, shape, executor.concurrency());
    Arena arena = workspace.arena(measuring.bytes());
    ConstMatrixView<Real> x = input.x;
    if constexpr (kTaped) {
      tape->tokens_ = tokens;
      tape->input_.store(in, x);
      x = tape->input_.x(tokens);
      in = tape->input_.router_input();
    }

    // 1 route
    RouteTable<Real> table = carve_kept(arena, tape, [&](Arena& from) {
      return RouteTable<Real>::carve(from, tokens, router_.experts(), max_pairs);
    });
    Index mark = arena.mark();
    if constexpr (kTaped) {
      router_.route_train(in, table, tape->router_, arena, executor);
    } else {
      router_.route(in, table, arena, executor);
    }
    arena.rewind(mark);

    // 2 plan
    DispatchPlan<Real> plan = carve_kept(arena, tape, [&](Arena& from) {
      return DispatchPlan<Real>::carve(from, tokens, router_.experts(), table.pairs());
    });
    mark = arena.mark();
    build_plan(table, capacity_, in.segments, plan, arena);
    arena.rewind(mark);

    // 3 dispatch, 4 experts
    bool* const active = arena.take<bool>(tokens);
    for (Index t = 0; t < tokens; ++t) active[t] = in.takes_part(t) && !table.spoiled[t];
    const ConstMatrixView<Real> x_inner = frame_.before(x, part_tape(tape, &Tape::frame_), arena, executor);
    const MatrixView<Real> y_inner = frame_.inner_y(out.y, arena);
    const ForwardScratch scratch(arena, plan.slots(), experts_.width(), weighs_input());
    const RowBatch<Real> batch = make_batch(plan, x_inner, scratch.x_row, scratch.scaled, executor);
    const RowSink<Real> sink = make_sink(scratch.z, scratch.z_row, plan.slots());
    mark = arena.mark();
    if constexpr (kTaped) {
      experts_.forward_train(batch, sink, tape->experts_, arena, executor);
    } else {
      experts_.forward(batch, sink, arena, executor);
    }
    arena.rewind(mark);

    // 5 combine
    combine_rows(plan, scratch.z_row, weighs_input() ? nullptr : plan.weight, y_inner, arena, executor);
    arena.rewind(mark);
    frame_.after(y_inner, out.y, active, part_tape(tape, &Tape::frame_), arena, executor);
    arena.rewind(mark);
    shared_.forward(x, active, out.y, part_tape(tape, &Tape::shared_), arena, executor);
    for (Index t = 0; t < tokens; ++t) {
      if (table.spoiled[t]) fill_row(std::numeric_limits<Real>::quiet_NaN(), out.y.row(t), out.y.cols);
    }

    out.losses = table.losses;
    if (out.stats != nullptr) out.stats->add(table, plan, in.valid.data());
    if constexpr (kTaped) {
      tape->table_ = table;
      tape->plan_ = plan;
    }
  }

  /// Carves from the tape's memory where there is a tape, else from the call's arena.
  template <class TapeType, class Carve>
  static auto carve_kept(Arena& arena, TapeType* tape, Carve&& carve) {
    if constexpr (std::is_void_v<TapeType>) {
      static_cast<void>(tape);
      return carve(arena);
    } else {
      Arena measuring;
      using Value = decltype(carve(measuring));
      constexpr bool kIsTable = std::is_same_v<Value, RouteTable<Real>>;
      carve(measuring);
      Arena kept = (kIsTable ? tape->route_memory_ : tape->plan_memory_).arena(measuring.bytes());
      return carve(kept);
    }
  }

  template <class TapeType, class Part>
  static Part* part_tape(TapeType* tape, Part Tape::*part) noexcept {
    if constexpr (std::is_void_v<TapeType>) {
      static_cast<void>(tape);
      static_cast<void>(part);
      return nullptr;
    } else {
      return &(tape->*part);
    }
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
    const RowSink<Real> sink{data, row_stride<Real>(experts_.width()), result};
    for (Index s = 0; s < slots; ++s) result[s] = data == nullptr ? nullptr : sink.row(s);
    return sink;
  }

  /// Returns T.
  Index check_gradients(const Tape& tape, const LayerGradients& gradients) const {
    if (!tape.ready_)
      fail<state_error>("tape: expected a tape of a finished forward_train, got an empty one");
    const Index tokens = tape.tokens_;
    if (gradients.dy.rows != tokens) {
      fail<state_error>("tape: expected the tape of a call with ", gradients.dy.rows,
                        " rows (as dy has), got one of ", tokens);
    }
    require_shape("dy", gradients.dy, tokens, width());
    if (gradients.dx) {
      require_shape("dx", gradients.dx, tokens, width());
      require_disjoint("dy", gradients.dy, "dx", gradients.dx);
    }
    const Index router_width = tape.input_.router_input().x.cols;
    if (gradients.router_dx) {
      if (!tape.input_.separate_router()) {
        fail<config_error>(
            "router_dx: expected none, for the call had no router_x; its gradient is part of dx");
      }
      require_shape("router_dx", gradients.router_dx, tokens, router_width);
      require_disjoint("dy", gradients.dy, "router_dx", gradients.router_dx);
      require_disjoint("dx", gradients.dx, "router_dx", gradients.router_dx);
    }
    return tokens;
  }

  template <class Visit>
  void visit_parts(Gradients* gradients, Visit&& visit) {
    visit(router_, gradients == nullptr ? nullptr : &gradients->router);
    visit(experts_, gradients == nullptr ? nullptr : &gradients->experts);
    visit(shared_, gradients == nullptr ? nullptr : &gradients->shared);
    visit(frame_, gradients == nullptr ? nullptr : &gradients->frame);
  }

  R router_;
  B experts_;
  C capacity_;
  S shared_;
  F frame_;
};

MOE_NAMESPACE_END
