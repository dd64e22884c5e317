// A layer whose rows are mixed instead of chosen: Y = C experts(D X), with dense D and C of a soft router and
// the same banks, shared experts and frames as MoeLayer. The stages are layer/soft/soft_sum.hpp; here is what
// stands around them: checks, tape, frame, shared experts, statistics, NaN rows.
#pragma once

#include <limits>
#include <type_traits>
#include <utility>

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
#include "moe/layer/soft/soft_calls.hpp"
#include "moe/layer/soft/soft_sum.hpp"
#include "moe/router/concept.hpp"
#include "moe/router/soft/concept.hpp"

MOE_NAMESPACE_BEGIN

/// A layer of a soft router, a bank of experts, shared experts that every token visits, and a frame around
/// the experts; parts as MoeLayer's. Statistics count an expert's slots as its load, and what rows give them
/// as its gate mass. A row of x that takes part and is not finite is refused, or isolated where the router
/// isolates it. Errors are MoeLayer's.
template <class R, class B, class S = NoShared, class F = IdentityFrame>
class SoftLayer : public impl::RefusedCalls<SoftLayer<R, B, S, F>>,
                  public impl::MeasuredCalls<SoftLayer<R, B, S, F>>,
                  public impl::ShownParts<SoftLayer<R, B, S, F>> {
  using Refused = impl::RefusedCalls<SoftLayer>;
  using Measured = impl::MeasuredCalls<SoftLayer>;
  using Shown = impl::ShownParts<SoftLayer>;
  friend Measured;
  friend Shown;
  using Sum = SoftSum<R, B>;
  using RouterType = std::remove_reference_t<R>;
  using Bank = std::remove_reference_t<B>;

 public:
  using Real = typename Sum::Real;
  static_assert(Shared<S, Real>, "moe: S is not a Shared part: moe/layer/shared/concept.hpp");
  static_assert(Frame<F, Real>, "moe: F is not a Frame: moe/layer/frame/concept.hpp");
  static constexpr bool kTrainable = Sum::kTrainable;

  struct Gradients {
    impl::GradientsOf<RouterType> router;
    impl::GradientsOf<Bank> experts;
    typename S::Gradients shared;
    typename F::Gradients frame;
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

  /// What backward needs of a forward_train; as MoeLayer's.
  class Tape {
   public:
    /// Rows of the call on the tape, 0 when there is none.
    Index tokens() const noexcept { return writer_ ? tokens_ : 0; }
    const MixTable<Real>& table() const noexcept { return sum_.table(); }

   private:
    friend class SoftLayer;
    impl::Writer writer_;
    Index tokens_ = 0;
    impl::StoredInput<Real> input_;
    typename Sum::Tape sum_;
    typename S::Tape shared_;
    typename F::Tape frame_;
  };

  /// Throws config_error unless router, experts, shared experts and frame fit together.
  SoftLayer(R router, B experts, S shared = S{}, F frame = F{})
      : sum_(std::forward<R>(router), std::forward<B>(experts)),
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
  /// D: columns of X and Y.
  Index width() const noexcept { return frame_.outer_width(sum_.width()); }

  /// f(role, name) for every part, as they name themselves (kName): what describe() prints.
  template <class Visitor>
  void visit_names(Visitor&& f) const {
    impl::visit_names_of("router", router(), f);
    impl::visit_names_of("experts", experts(), f);
    impl::visit_names_of("shared", shared_, f);
    impl::visit_names_of("frame", frame_, f);
  }

  static constexpr Coupling coupling(bool training) noexcept { return Sum::coupling(training); }

  using Refused::backward, Refused::forward, Refused::forward_train;

  /// Y from X. Nothing is written if it throws. No allocation once the workspace has grown. Throws
  /// config_error for an observer, who would see pairs that are not there.
  template <Executor X = SerialExecutor>
  void forward(const LayerInput<Real>& in, LayerOutput<Real>& out, Workspace& workspace,
               X&& executor = X{}) const {
    run(in, out, nullptr, workspace, executor);
  }

  Tape make_tape() const requires kTrainable { return {}; }

  /// Same, and writes the tape. What forward refuses leaves the tape as it was.
  template <Executor X = SerialExecutor>
  void forward_train(const LayerInput<Real>& in, LayerOutput<Real>& out, Tape& tape, Workspace& workspace,
                     X&& executor = X{}) const requires kTrainable {
    run(in, out, &tape, workspace, executor);
    tape.writer_.set(identity_);
  }

  /// Gradients of sum(dy * y) + auxiliary_scale * losses at the call on the tape. Throws state_error for a
  /// tape without a call, of another layer or of another batch, config_error, shape_error, workspace_error,
  /// before anything is written.
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
    const ConstMatrixView<Real> dy_inner =
        frame_.after_backward(tape.frame_, gradients.dy, gradients.frame, arena, executor);
    const MatrixView<Real> dx_inner = frame_.inner_dx(gradients.dx, tokens, arena);
    const auto d = sum_.combine_backward(tape.sum_.table(), tape.sum_.slots(), tape.sum_.slots().result,
                                         dy_inner, arena, executor);
    MixGradients<Real> at_router;
    at_router.combine = d.weight;
    at_router.dispatch = sum_.experts_backward(tape.sum_, frame_.inner_x(tape.frame_, x), d.row, dx_inner,
                                               gradients.experts, arena, executor);
    if (dx_inner) {
      scoped(arena, [&] {
        frame_.before_backward(tape.frame_, x, dx_inner, gradients.dx, gradients.frame, arena, executor);
      });
    }
    scoped(arena, [&] {
      shared_.backward(tape.shared_, x, gradients.dy, gradients.dx, gradients.shared, arena, executor);
    });
    const bool separate = tape.input_.separate_router();
    for (Index t = 0; separate && t < gradients.router_dx.rows; ++t) {
      fill_row(Real{0}, gradients.router_dx.row(t), gradients.router_dx.cols);
    }
    at_router.auxiliary_scale = gradients.auxiliary_scale;
    at_router.dx = separate ? gradients.router_dx : gradients.dx;
    sum_.mix_backward(tape.sum_, in, at_router, gradients.router, arena, executor);
  }

  /// Zero gradients of every part.
  Gradients make_gradients() const requires kTrainable {
    return {impl::make_gradients_of(router()), impl::make_gradients_of(experts()), shared_.make_gradients(),
            frame_.make_gradients()};
  }

 private:
  template <class Visit>
  void each_part(const LayerGradients& gradients, Visit&& visit) {
    visit(router(), gradients.router);
    visit(experts(), gradients.experts);
    visit(shared_, gradients.shared);
    visit(frame_, gradients.frame);
  }

  void measure_forward(Arena& arena, const CallShape& shape, Mode, Index concurrency) const {
    require_parts();
    arena.take<bool>(shape.tokens);
    sum_.measure_mix(arena, shape, concurrency);
    frame_.measure(arena, shape.tokens, concurrency);
    sum_.measure_experts(arena, shape, concurrency);
    sum_.measure_combine(arena, shape, concurrency);
    shared_.measure(arena, shape.tokens, concurrency);
  }
  void measure_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    frame_.measure_backward(arena, shape.tokens, concurrency);
    sum_.measure_combine_backward(arena, shape, concurrency);
    sum_.measure_experts_backward(arena, shape, concurrency);
    scoped(arena, [&] { shared_.measure_backward(arena, shape.tokens, concurrency); });
    sum_.measure_mix_backward(arena, shape, concurrency);
  }

  /// `tape` is null in forward().
  template <Executor X>
  void run(const LayerInput<Real>& input, LayerOutput<Real>& out, Tape* tape, Workspace& workspace,
           X& executor) const {
    require_parts();
    const bool training = input.mode == Mode::training || (input.mode == Mode::by_call && tape != nullptr);
    const Index tokens = input.x.rows, experts = router().experts();
    RouterInput<Real> in = impl::resolve_input(input, width(), router().width(), experts, training);
    impl::require_segments(coupling(training), training, input.segments, tokens);
    require_shape("y", out.y, tokens, width());
    require_disjoint("x", input.x, "y", out.y);
    impl::require_carry("output carry", out.carry, input.x.rows, 0);
    require_disjoint("router_x", input.router_x, "y", out.y);
    if (out.observer != nullptr) {
      fail<config_error>("observer: expected none for a soft layer, which has no pairs to see, got one");
    }
    if (out.stats != nullptr) out.stats->require_experts(experts);
    Arena arena =
        this->forward_arena(workspace, {tokens, input.segments.count(tokens), input.options},
                            tape != nullptr ? Mode::training : Mode::inference, executor.concurrency());
    bool* const active = arena.take<bool>(tokens);
    ConstMatrixView<Real> x = input.x;
    typename Sum::Tape* const sum_tape = part_tape(tape, &Tape::sum_);
    const MixTable<Real> table = sum_.mix(in, x, sum_tape, arena, executor);
    if (tape != nullptr) {
      tape->writer_.clear();
      tape->tokens_ = tokens;
      tape->input_.store(in, x);
      sum_.decided(tape->sum_);
      x = tape->input_.x(tokens);
      in = tape->input_.router_input();
    }
    const ConstMatrixView<Real> inner_x = frame_.before(x, part_tape(tape, &Tape::frame_), arena, executor);
    const MatrixView<Real> inner_y = frame_.inner_y(out.y, arena);
    const SlotRows<Real> slots = sum_.run_experts(in, table, inner_x, sum_tape, arena, executor);
    sum_.combine(table, slots, slots.result, inner_y, arena, executor);
    for (Index t = 0; t < tokens; ++t) active[t] = in.takes_part(t) && !table.spoiled[t];
    scoped(arena,
           [&] { frame_.after(inner_y, out.y, active, part_tape(tape, &Tape::frame_), arena, executor); });
    scoped(arena,
           [&] { shared_.forward(x, active, out.y, part_tape(tape, &Tape::shared_), arena, executor); });
    for (Index t = 0; t < tokens; ++t) {
      if (!table.spoiled[t]) continue;
      fill_row(std::numeric_limits<Real>::quiet_NaN(), out.y.row(t), out.y.cols);
    }
    if (input.draws != nullptr) input.draws->advance();
    out.losses = table.losses;
    if (out.stats != nullptr) impl::count_mix(table, active, *out.stats);
  }

  template <class Part>
  static Part* part_tape(Tape* tape, Part Tape::*part) noexcept {
    return tape == nullptr ? nullptr : &(tape->*part);
  }

  void require_parts() const {
    impl::require_there("layer", static_cast<bool>(identity_));
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
  }

  /// Returns T.
  Index check_backward(const Tape& tape, const LayerGradients& gradients) const {
    require_parts();
    tape.writer_.require("tape", identity_);
    impl::check_row_gradients(gradients, tape.tokens_, width(), tape.input_.separate_router(),
                              tape.input_.router_input().x.cols);
    return tape.tokens_;
  }

  impl::Identity identity_;
  Sum sum_;
  S shared_;
  F frame_;
};

/// As of a MoeLayer (layer/quantise.hpp).
template <class To, class R, class B, class S, class F>
auto quantise(const SoftLayer<R, B, S, F>& layer) {
  auto experts = quantise<To>(layer.experts());
  auto shared = quantise<To>(layer.shared());
  return SoftLayer<std::remove_cvref_t<R>, decltype(experts), decltype(shared), F>(
      layer.router(), std::move(experts), std::move(shared), layer.frame());
}

MOE_NAMESPACE_END
