// The layer: Y = sum over experts of weight * f_e(X). The five stages are layer/sum/routed_sum.hpp; here is
// what stands around them: checks, tape, frame, shared experts, statistics, NaN rows.
//   tokens X[T,D] > 1 route > 2 plan > 3 dispatch > 4 experts > 5 combine > Y[T,D]
#pragma once

#include <limits>
#include <type_traits>
#include <utility>

#include "moe/core/column.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/expert/concept.hpp"
#include "moe/kernel/row.hpp"
#include "moe/layer/call/arguments.hpp"
#include "moe/layer/call/checks.hpp"
#include "moe/layer/call/measured_calls.hpp"
#include "moe/layer/call/output.hpp"
#include "moe/layer/call/scoped.hpp"
#include "moe/layer/call/stored_input.hpp"
#include "moe/layer/concept.hpp"
#include "moe/layer/frame/concept.hpp"
#include "moe/layer/frame/identity.hpp"
#include "moe/layer/shared/concept.hpp"
#include "moe/layer/shared/none.hpp"
#include "moe/layer/shown_parts.hpp"
#include "moe/layer/sum/routed_sum.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "moe/router/concept.hpp"

MOE_NAMESPACE_BEGIN

/// A Mixture-of-Experts layer of a router, a bank of experts, a capacity policy, shared experts that every
/// token visits, and a frame around the experts. Parts are values; `R&` or `B&` as template argument makes
/// the layer refer to a part that lives elsewhere (routers or pools shared by several layers). Const calls
/// may run at the same time on different workspaces.
template <class R, class B, class C = Dropless, class S = NoShared, class F = IdentityFrame>
class MoeLayer : public impl::RefusedCalls<MoeLayer<R, B, C, S, F>>,
                 public impl::MeasuredCalls<MoeLayer<R, B, C, S, F>>,
                 public impl::ShownParts<MoeLayer<R, B, C, S, F>> {
  using Refused = impl::RefusedCalls<MoeLayer>;
  using Measured = impl::MeasuredCalls<MoeLayer>;
  using Shown = impl::ShownParts<MoeLayer>;
  friend Measured;
  friend Shown;
  using Sum = RoutedSum<R, B, C>;
  using RouterType = std::remove_reference_t<R>;
  using Bank = std::remove_reference_t<B>;

 public:
  using Real = typename Sum::Real;
  static_assert(Shared<S, Real>,
                "moe: S is not a Shared part; it needs Tape, Gradients, width(), measure(arena, tokens, "
                "concurrency), measure_backward(...), forward(x, active, y, tape, arena, executor), "
                "backward(tape, x, dy, dx, gradients, arena, executor) and make_gradients(): "
                "moe/layer/shared/concept.hpp");
  static_assert(Frame<F, Real>,
                "moe: F is not a Frame; it needs Tape, Gradients, inner_width(w), outer_width(w), measure, "
                "measure_backward, before, inner_y, after, inner_x, after_backward, inner_dx, "
                "before_backward and make_gradients(): moe/layer/frame/concept.hpp");
  static constexpr bool kTrainable = Sum::kTrainable;
  static constexpr bool kRemembers = impl::kRemembers<Bank>;

  /// Parameter gradients of the whole layer, same layout as the parameters.
  struct Gradients {
    impl::GradientsOf<RouterType> router;
    impl::GradientsOf<Bank> experts;
    typename S::Gradients shared;
    typename F::Gradients frame;
  };

  /// In: dy, the scale of the auxiliary losses, and, each of them optional, what comes from outside:
  /// gradients of the logits, advantages of what was sampled, pairs that train no expert, gradients of what
  /// the router handed on. Out: dx and dcarry (overwritten; may be absent), and added to: the gradients of
  /// every part that is not frozen (null).
  struct LayerGradients {
    ConstMatrixView<Real> dy;
    MatrixView<Real> dx{};
    MatrixView<Real> router_dx{};  // overwritten; only for calls with a separate router_x
    double auxiliary_scale = 1;
    ConstMatrixView<Real> dlogit{};  // [T, N] and
    Column<double> advantage{};      // [T]: as in RouteGradients, router/concept.hpp
    Column<bool> frozen_pair{};      // [P] by pair of the tape's routes(); true: no gradient of the routed
                                     // experts' parameters has a part of this pair's (y, dx and d weight do
                                     // not change)
    ConstMatrixView<Real> dcarry_out{};  // [T, R] of what was handed on in LayerOutput::carry
    MatrixView<Real> dcarry{};           // [T, R] of the column `carry`, if the call had one; overwritten
    impl::GradientsOf<RouterType>* router = nullptr;
    impl::GradientsOf<Bank>* experts = nullptr;
    typename S::Gradients* shared = nullptr;
    typename F::Gradients* frame = nullptr;

    LayerGradients() = default;
    LayerGradients(ConstMatrixView<Real> dy_, MatrixView<Real> dx_) : dy(dy_), dx(dx_) {}
    LayerGradients(ConstMatrixView<Real> dy_, MatrixView<Real> dx_, Gradients& all)
        : dy(dy_),
          dx(dx_),
          router(&all.router),
          experts(&all.experts),
          shared(&all.shared),
          frame(&all.frame) {}
    template <class Dy, class Dx, class... All>
    requires(impl::MistakenMatrix<Dy, const Real> || impl::MistakenMatrix<Dx, Real>)  //
        LayerGradients(Dy&&, Dx&&, All&&...) {
      if constexpr (impl::MistakenMatrix<Dy, const Real>) impl::refuse_matrix<Dy, const Real>();
      if constexpr (impl::MistakenMatrix<Dx, Real>) impl::refuse_matrix<Dx, Real>();
    }
  };

  /// What backward needs of a forward_train; reusable, allocates while it warms up. It is for the layer that
  /// wrote it, wherever that is moved; a copy of the layer is another one.
  class Tape {
   public:
    /// Rows of the call on the tape, 0 when there is none.
    Index tokens() const noexcept { return writer_ ? tokens_ : 0; }
    const RouteTable<Real>& routes() const noexcept { return sum_.routes(); }
    const DispatchPlan<Real>& plan() const noexcept { return sum_.plan(); }

   private:
    friend class MoeLayer;
    impl::Writer writer_;
    Index tokens_ = 0;
    impl::StoredInput<Real> input_;
    typename Sum::Tape sum_;
    typename S::Tape shared_;
    typename F::Tape frame_;
  };

  /// Throws config_error unless router, experts, shared experts and frame fit together.
  MoeLayer(R router, B experts, C capacity = C{}, S shared = S{}, F frame = F{})
      : sum_(std::forward<R>(router), std::forward<B>(experts), std::move(capacity)),
        shared_(std::move(shared)),
        frame_(std::move(frame)) {
    require_fit<config_error>();
  }

  RouterType& router() noexcept { return sum_.router(); }
  const RouterType& router() const noexcept { return sum_.router(); }
  Bank& experts() noexcept { return sum_.experts(); }
  const Bank& experts() const noexcept { return sum_.experts(); }
  S& shared() noexcept { return shared_; }
  const S& shared() const noexcept { return shared_; }
  F& frame() noexcept { return frame_; }
  const F& frame() const noexcept { return frame_; }
  const C& capacity() const noexcept { return sum_.capacity(); }
  /// D: columns of X and Y.
  Index width() const noexcept { return frame_.outer_width(sum_.width()); }
  /// R: columns of what is handed on to the next layer (LayerOutput::carry); 0: nothing. By the router, or,
  /// if experts remember (expert/bank/memory.hpp), the rows of Y.
  Index carry_width() const noexcept { return kRemembers ? width() : sum_.carry_width(); }

  /// f(role, name) for every part, as they name themselves (kName): what describe() prints.
  template <class Visitor>
  void visit_names(Visitor&& f) const {
    impl::visit_names_of("router", router(), f);
    impl::visit_names_of("capacity", capacity(), f);
    impl::visit_names_of("experts", experts(), f);
    impl::visit_names_of("shared", shared_, f);
    impl::visit_names_of("frame", frame_, f);
  }

  /// How much of the batch a token's result depends on: the weakest of the parts.
  static constexpr Coupling coupling(bool training) noexcept { return Sum::coupling(training); }

  using Refused::backward, Refused::forward, Refused::forward_train;

  /// Y from X. Nothing is written if it throws: shape_error, config_error, numeric_error (non-finite logits,
  /// unless isolated), workspace_error. No allocation once the workspace has grown.
  template <Executor X = SerialExecutor>
  void forward(const LayerInput<Real>& in, LayerOutput<Real>& out, Workspace& workspace,
               X&& executor = X{}) const {
    run<void>(in, out, nullptr, workspace, executor);
  }

  /// What forward_train fills.
  Tape make_tape() const requires kTrainable { return {}; }

  /// Same, and writes the tape. What forward refuses leaves the tape as it was.
  template <Executor X = SerialExecutor>
  void forward_train(const LayerInput<Real>& in, LayerOutput<Real>& out, Tape& tape, Workspace& workspace,
                     X&& executor = X{}) const requires kTrainable {
    run<Tape>(in, out, &tape, workspace, executor);
    tape.writer_.set(sum_.identity());
  }

  /// Gradients of sum(dy * y) + auxiliary_scale * losses at the call on the tape, plus those from outside.
  /// Throws state_error for a tape without a call, of another layer or of another batch, config_error for a
  /// scale that is not finite and for what router or experts cannot obey (dlogit without logits, an advantage
  /// of choices that were not sampled, a carry that was not handed on or did not come, frozen pairs of
  /// experts as functions), numeric_error for values from outside that are not finite, shape_error (also for
  /// another layer's gradients), workspace_error, before anything is written.
  template <Executor X = SerialExecutor>
  void backward(const Tape& tape, const LayerGradients& gradients, Workspace& workspace,
                X&& executor = X{}) const requires kTrainable {
    const Index tokens = check_backward(tape, gradients);
    const RouterInput<Real>& in = tape.input_.router_input();
    Arena arena = this->backward_arena(workspace, {tokens, in.segments.count(tokens), in.options},
                                       executor.concurrency());
    this->check_gradients(gradients);
    if (tokens == 0) return;

    const ConstMatrixView<Real> x = tape.input_.x(tokens);
    const ConstMatrixView<Real> dy = dy_and_memory(gradients, tokens, arena);
    for (Index t = 0; t < gradients.dcarry.rows; ++t) {
      fill_row(Real{0}, gradients.dcarry.row(t), gradients.dcarry.cols);
    }
    const ConstMatrixView<Real> dy_inner =
        frame_.after_backward(tape.frame_, dy, gradients.frame, arena, executor);
    const MatrixView<Real> dx_inner = frame_.inner_dx(gradients.dx, tokens, arena);
    const Real* const dweight = sum_.backward_experts(
        tape.sum_, frame_.inner_x(tape.frame_, x),
        with_memory({dy_inner, dx_inner, SumFrom::zero, gradients.frozen_pair.borrow()}, in, gradients),
        gradients.experts, arena, executor);
    if (dx_inner) {
      scoped(arena, [&] {
        frame_.before_backward(tape.frame_, x, dx_inner, gradients.dx, gradients.frame, arena, executor);
      });
    }
    scoped(arena,
           [&] { shared_.backward(tape.shared_, x, dy, gradients.dx, gradients.shared, arena, executor); });
    const bool separate = tape.input_.separate_router();
    for (Index t = 0; separate && t < gradients.router_dx.rows; ++t) {
      fill_row(Real{0}, gradients.router_dx.row(t), gradients.router_dx.cols);
    }
    RouteGradients<Real> at_router = outside(gradients);
    at_router.dweight = dweight;
    at_router.auxiliary_scale = gradients.auxiliary_scale;
    at_router.dx = separate ? gradients.router_dx : gradients.dx;
    sum_.backward_router(tape.sum_, in, at_router, gradients.router, arena, executor);
  }

  /// Zero gradients of every part.
  Gradients make_gradients() const requires kTrainable {
    return {impl::make_gradients_of(router()), impl::make_gradients_of(experts()), shared_.make_gradients(),
            frame_.make_gradients()};
  }

  /// visit(part, its gradients or null) for router, experts, shared experts and frame: for who holds several
  /// layers that refer to one part. Throws shape_error for another layer's gradients.
  using Shown::visit_parts;

 private:
  template <class Visit>
  void each_part(const LayerGradients& gradients, Visit&& visit) {
    visit(router(), gradients.router);
    visit(experts(), gradients.experts);
    visit(shared_, gradients.shared);
    visit(frame_, gradients.frame);
  }

  // The layer's own memory and that of its parts; what a frame takes stays taken until the call ends, and so
  // do table, plan and d weight.
  void measure_forward(Arena& arena, const CallShape& shape, Mode, Index concurrency) const {
    arena.take<bool>(shape.tokens);
    sum_.measure(arena, shape, concurrency,
                 [&](Arena& from) { frame_.measure(from, shape.tokens, concurrency); });
    shared_.measure(arena, shape.tokens, concurrency);
  }
  void measure_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    if (kRemembers) arena.take<Real>(checked_product("memory", shape.tokens, width()));
    frame_.measure_backward(arena, shape.tokens, concurrency);
    sum_.measure_backward_experts(arena, shape, concurrency);
    scoped(arena, [&] { shared_.measure_backward(arena, shape.tokens, concurrency); });
    sum_.measure_backward_router(arena, shape, concurrency);
  }

  /// `tape` is null in forward().
  template <class TapeType, Executor X>
  void run(const LayerInput<Real>& input, LayerOutput<Real>& out, TapeType* tape, Workspace& workspace,
           X& executor) const {
    constexpr bool kTaped = !std::is_void_v<TapeType>;
    require_parts();
    const bool training = input.mode == Mode::training || (input.mode == Mode::by_call && kTaped);
    RouterInput<Real> in =
        impl::resolve_input(input, width(), router().width(), router().experts(), training);
    impl::require_segments(coupling(training), training, input.segments, input.x.rows);
    require_shape("y", out.y, input.x.rows, width());
    require_disjoint("x", input.x, "y", out.y);
    require_disjoint("router_x", input.router_x, "y", out.y);
    check_carry(input, out);
    if (out.stats != nullptr) out.stats->require_experts(router().experts());
    const Index tokens = input.x.rows;
    Arena arena = this->forward_arena(workspace, {tokens, input.segments.count(tokens), input.options},
                                      kTaped ? Mode::training : Mode::inference, executor.concurrency());
    bool* const active = arena.take<bool>(tokens);
    ConstMatrixView<Real> x = input.x;
    SumRows<Real> rows;
    rows.observer = out.observer;
    if (!kRemembers) rows.carry = out.carry;
    const auto decided = [&](Arena& from, [[maybe_unused]] const RouteTable<Real>& table) {
      if constexpr (kTaped) {
        tape->writer_.clear();
        tape->tokens_ = tokens;
        tape->input_.store(in, x);
        x = tape->input_.x(tokens);
        in = tape->input_.router_input();
      }
      auto* const framed = part_tape(tape, &Tape::frame_);
      if constexpr (requires { frame_.before(x, table, framed, from, executor); }) {
        rows.x = frame_.before(x, table, framed, from, executor);
      } else {
        rows.x = frame_.before(x, framed, from, executor);
      }
      rows.y = frame_.inner_y(out.y, from);
    };
    Routed<Real> routed;
    if constexpr (kTaped) {
      routed = sum_.forward_train(in, rows, tape->sum_, arena, executor, decided);
    } else {
      routed = sum_.forward(in, rows, arena, executor, decided);
    }
    for (Index t = 0; t < tokens; ++t) active[t] = in.takes_part(t) && !routed.table.spoiled[t];
    scoped(arena,
           [&] { frame_.after(rows.y, out.y, active, part_tape(tape, &Tape::frame_), arena, executor); });
    scoped(arena,
           [&] { shared_.forward(x, active, out.y, part_tape(tape, &Tape::shared_), arena, executor); });
    for (Index t = 0; t < tokens; ++t) {
      if (routed.table.spoiled[t]) {
        fill_row(std::numeric_limits<Real>::quiet_NaN(), out.y.row(t), out.y.cols);
      }
    }
    for (Index t = 0; kRemembers && out.carry && t < tokens; ++t) {
      active[t] ? copy_row(out.y.row(t), out.carry.row(t), width())
                : fill_row(Real{0}, out.carry.row(t), width());
    }
    if (input.draws != nullptr) input.draws->advance();
    out.losses = routed.table.losses;
    if (out.stats != nullptr) out.stats->add(routed.table, routed.plan, in.valid.data());
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

  /// What the constructor checked: a part may have been replaced since, or moved from.
  void require_parts() const {
    sum_.require_parts();
    require_fit<state_error>();
  }
  template <class Error>
  void require_fit() const {
    const Index inner = sum_.width();
    if (Index{frame_.inner_width(inner)} != inner) {
      fail<Error>("layer: expected experts of the frame's inner width ", Index{frame_.inner_width(inner)},
                  ", got ", inner);
    }
    if (Index{shared_.width()} != 0 && Index{shared_.width()} != width()) {
      fail<Error>("layer: expected shared experts of width ", width(), ", got ", Index{shared_.width()});
    }
    if constexpr (kRemembers) {
      const Index read = sum_.carry_width();
      if (inner != width() || (read != 0 && read != width())) {
        fail<Error>("layer: expected experts that remember, and a carry, of its width ", width(), ", got ",
                    inner, " and ", read);
      }
      if (impl::weight_place(router()) == WeightPlace::input) {
        fail<Error>("layer: expected weights on the results of experts that remember, got them on the input");
      }
    }
  }

  /// dY, and what comes back of Y that was handed on.
  ConstMatrixView<Real> dy_and_memory(const LayerGradients& gradients, Index tokens, Arena& arena) const {
    if constexpr (kRemembers) {
      const MatrixView<Real> sum(arena.take<Real>(tokens * width()), tokens, width());
      if (!gradients.dcarry_out) return gradients.dy;
      for (Index t = 0; t < tokens; ++t) {
        copy_row(gradients.dy.row(t), sum.row(t), width());
        add_row(gradients.dcarry_out.row(t), sum.row(t), width());
      }
      return sum;
    }
    return gradients.dy;
  }
  /// What experts that remember read, and where its gradient goes.
  static SumGradients<Real> with_memory(SumGradients<Real> at_sum, const RouterInput<Real>& in,
                                        const LayerGradients& gradients) {
    if (kRemembers) {
      at_sum.memory = in.carry;
      at_sum.dmemory = gradients.dcarry;
    }
    return at_sum;
  }

  void check_carry(const LayerInput<Real>& in, const LayerOutput<Real>& out) const {
    if (!out.carry) return;
    impl::require_carry("output carry", out.carry, in.x.rows, carry_width());
    for (const auto& [name, reads] : {std::pair{"x", in.x}, {"router_x", in.router_x}, {"carry", in.carry}}) {
      require_disjoint(name, reads, "output carry", out.carry);
    }
    require_disjoint("y", out.y, "output carry", out.carry);
  }

  /// Returns T.
  Index check_backward(const Tape& tape, const LayerGradients& gradients) const {
    require_parts();
    tape.writer_.require("tape", sum_.identity());
    const Index tokens = tape.tokens_;
    impl::check_row_gradients(gradients, tokens, width(), tape.input_.separate_router(),
                              tape.input_.router_input().x.cols);
    require_disjoint("dlogit", gradients.dlogit, "dx", gradients.dx);
    require_disjoint("dlogit", gradients.dlogit, "router_dx", gradients.router_dx);
    require_disjoint("dcarry_out", gradients.dcarry_out, "dx", gradients.dx);
    require_disjoint("dcarry_out", gradients.dcarry_out, "router_dx", gradients.router_dx);
    require_disjoint("dcarry_out", gradients.dcarry_out, "dcarry", gradients.dcarry);
    require_disjoint("dy", gradients.dy, "dcarry", gradients.dcarry);
    require_disjoint("dlogit", gradients.dlogit, "dcarry", gradients.dcarry);
    require_disjoint("dx", gradients.dx, "dcarry", gradients.dcarry);
    require_disjoint("router_dx", gradients.router_dx, "dcarry", gradients.dcarry);
    if constexpr (kRemembers) {
      RouteGradients<Real> carried;
      carried.dcarry_out = gradients.dcarry_out;
      carried.dcarry = gradients.dcarry;
      impl::check_carry_gradients(tape.input_.router_input(), carried, width());
    }
    sum_.check(tape.sum_, tape.input_.router_input(), outside(gradients), gradients.frozen_pair);
    return tokens;
  }
  RouteGradients<Real> outside(const LayerGradients& gradients) const noexcept {
    RouteGradients<Real> out;
    out.dlogit = gradients.dlogit;
    out.advantage = gradients.advantage.borrow();
    if (!kRemembers) out.dcarry_out = gradients.dcarry_out;
    if (!kRemembers || sum_.carry_width() > 0) out.dcarry = gradients.dcarry;
    return out;
  }

  Sum sum_;
  S shared_;
  F frame_;
};

MOE_NAMESPACE_END
