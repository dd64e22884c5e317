// A layer whose experts are asked before anybody has chosen: every expert probes every row, the router reads
// the responses, and the chosen go on from their probes.
//   rows X[T,D] > probe > 1 route (by responses) > 2 plan > 3 dispatch > 4 experts, on kept probes > 5
//   combine
// Otherwise as layer/moe_layer.hpp, without frame and shared experts.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/column.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/probes.hpp"
#include "moe/expert/concept.hpp"
#include "moe/kernel/row.hpp"
#include "moe/layer/call/arguments.hpp"
#include "moe/layer/call/checks.hpp"
#include "moe/layer/call/measured_calls.hpp"
#include "moe/layer/call/observer.hpp"
#include "moe/layer/call/output.hpp"
#include "moe/layer/call/rollback.hpp"
#include "moe/layer/call/row_chunk.hpp"
#include "moe/layer/call/scoped.hpp"
#include "moe/layer/call/stored_input.hpp"
#include "moe/layer/shown_parts.hpp"
#include "moe/layer/sum/routed_sum.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "moe/router/concept.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// Whether calls of a router may need probes, and whether this one does: what a router that does without them
/// at times says by `may_probe(training)` and `probes(in)`.
template <class R>
bool may_probe(const R& router, bool training) noexcept {
  if constexpr (requires { router.may_probe(training); }) return router.may_probe(training);
  return true;
}
template <class R>
bool probes_call(const R& router, const RouterInput<typename R::Real>& in) {
  if constexpr (requires { router.probes(in); }) return router.probes(in);
  return true;
}

}  // namespace impl

/// A router that reads probes (ResponseRouter, CompetingRouter), a ProbingBank and a capacity policy.
///
/// In inference rows that do not feel each other go through all five stages rows_at_a_time() by turns, with
/// the bits of one call of all: so many x E x r numbers of probes, however many rows there are. All at once
/// are those of a router or a capacity that looks at several, and those that an observer sees. A call in the
/// mode of training keeps T x E x r numbers, as many again for their gradients in a backward, and a tape
/// twice as many, for two calls by turns: the responses of experts that were not chosen have a gradient too
/// (through the softmax over all of them, and through what the router learns), which is formed from their
/// probes.
template <class R, class B, class C = Dropless>
class ProbingLayer : public impl::RefusedCalls<ProbingLayer<R, B, C>>,
                     public impl::MeasuredCalls<ProbingLayer<R, B, C>>,
                     public impl::ShownParts<ProbingLayer<R, B, C>> {
  using Refused = impl::RefusedCalls<ProbingLayer>;
  using Measured = impl::MeasuredCalls<ProbingLayer>;
  using Shown = impl::ShownParts<ProbingLayer>;
  friend Measured;
  friend Shown;
  using Sum = RoutedSum<R, B, C>;
  using RouterType = std::remove_reference_t<R>;
  using Bank = std::remove_reference_t<B>;
  static_assert(ProbingBank<Bank>,
                "moe: B is not a ProbingBank; it needs probe_width(), carve_probes, probe, probe_train, "
                "probe_backward and their measures: moe/expert/concept.hpp");
  static_assert(TrainableRouter<RouterType>, "moe: R is not a TrainableRouter");

 public:
  using Real = typename Sum::Real;
  using Gradients = typename Sum::Gradients;
  static constexpr bool kTrainable = true;

  /// As MoeLayer's.
  struct LayerGradients {
    ConstMatrixView<Real> dy;
    MatrixView<Real> dx{};
    MatrixView<Real> router_dx{};  // overwritten; only for calls with a separate router_x
    double auxiliary_scale = 1;
    ConstMatrixView<Real> dlogit{};
    Column<double> advantage{};
    Column<bool> frozen_pair{};
    impl::GradientsOf<RouterType>* router = nullptr;
    impl::GradientsOf<Bank>* experts = nullptr;

    LayerGradients() = default;
    LayerGradients(ConstMatrixView<Real> dy_, MatrixView<Real> dx_) : dy(dy_), dx(dx_) {}
    LayerGradients(ConstMatrixView<Real> dy_, MatrixView<Real> dx_, Gradients& all)
        : dy(dy_), dx(dx_), router(&all.router), experts(&all.experts) {}
  };

  class Tape {
   public:
    /// Rows of the call on the tape, 0 when there is none.
    Index tokens() const noexcept { return writer_ ? tokens_ : 0; }
    const RouteTable<Real>& routes() const noexcept { return sum_.routes(); }
    const DispatchPlan<Real>& plan() const noexcept { return sum_.plan(); }
    /// Empty if the call did without.
    const Probes<Real>& probes() const noexcept { return input_.router_input().probes; }

   private:
    friend class ProbingLayer;
    struct Probed {
      Workspace memory;
      typename Bank::ProbeTape bank;
    };
    impl::Writer writer_;
    Index tokens_ = 0;
    impl::StoredInput<Real> input_;
    typename Sum::Tape sum_;
    Probed probed_[2];  // by turns: a call that is refused has written the other one
    int current_ = 0;
  };

  /// Throws config_error unless router and experts fit together.
  ProbingLayer(R router, B experts, C capacity = C{})
      : sum_(std::forward<R>(router), std::forward<B>(experts), std::move(capacity)) {}

  RouterType& router() noexcept { return sum_.router(); }
  const RouterType& router() const noexcept { return sum_.router(); }
  Bank& experts() noexcept { return sum_.experts(); }
  const Bank& experts() const noexcept { return sum_.experts(); }
  const C& capacity() const noexcept { return sum_.capacity(); }
  Index width() const noexcept { return sum_.width(); }

  template <class Visitor>
  void visit_names(Visitor&& f) const {
    impl::visit_names_of("router", router(), f);
    impl::visit_names_of("capacity", capacity(), f);
    impl::visit_names_of("experts", experts(), f);
  }

  static constexpr Coupling coupling(bool training) noexcept { return Sum::coupling(training); }

  /// How many rows are asked about at once in inference.
  Index rows_at_a_time() const noexcept { return rows_at_a_time_; }
  /// Changes no bit. Throws config_error for less than 1.
  void set_rows_at_a_time(Index rows) {
    require_range("rows at a time", rows, 1, PTRDIFF_MAX);
    rows_at_a_time_ = rows;
  }

  using Refused::backward, Refused::forward, Refused::forward_train;

  /// Y from X, and errors, as MoeLayer. In the mode of training a call takes what workspace_bytes says for
  /// training.
  template <Executor X = SerialExecutor>
  void forward(const LayerInput<Real>& in, LayerOutput<Real>& out, Workspace& workspace,
               X&& executor = X{}) const {
    run<void>(in, out, nullptr, workspace, executor);
  }

  Tape make_tape() const { return {}; }

  /// Same, and writes the tape. What forward refuses leaves the tape as it was.
  template <Executor X = SerialExecutor>
  void forward_train(const LayerInput<Real>& in, LayerOutput<Real>& out, Tape& tape, Workspace& workspace,
                     X&& executor = X{}) const {
    run<Tape>(in, out, &tape, workspace, executor);
    tape.writer_.set(sum_.identity());
  }

  /// Gradients of sum(dy * y) + auxiliary_scale * losses, and errors, as MoeLayer. An expert's gradients are
  /// added to by its slots first, then by its probes.
  template <Executor X = SerialExecutor>
  void backward(const Tape& tape, const LayerGradients& gradients, Workspace& workspace,
                X&& executor = X{}) const {
    const Index tokens = check_backward(tape, gradients);
    const RouterInput<Real>& in = tape.input_.router_input();
    Arena arena = this->backward_arena(workspace, {tokens, in.segments.count(tokens), in.options},
                                       executor.concurrency());
    this->check_gradients(gradients);
    if (tokens == 0) return;

    const ConstMatrixView<Real> x = tape.input_.x(tokens);
    Probes<Real> dprobes;
    if (in.probes) {
      dprobes = experts().carve_probes(arena, tokens);
      fill_row(Real{0}, dprobes.data, dprobes.size);
      fill_row(Real{0}, dprobes.response.data, tokens * dprobes.experts());
    }
    const Probes<Real>* const at_probes = in.probes ? &dprobes : nullptr;
    const Real* const dweight = sum_.backward_experts(
        tape.sum_, x,
        SumGradients<Real>{gradients.dy, gradients.dx, SumFrom::zero, gradients.frozen_pair.borrow(),
                           in.probes ? &in.probes : nullptr, at_probes},
        gradients.experts, arena, executor);
    const bool separate = tape.input_.separate_router();
    for (Index t = 0; separate && t < gradients.router_dx.rows; ++t) {
      fill_row(Real{0}, gradients.router_dx.row(t), gradients.router_dx.cols);
    }
    RouteGradients<Real> at_router = outside(gradients);
    at_router.dweight = dweight;
    at_router.auxiliary_scale = gradients.auxiliary_scale;
    at_router.dx = separate ? gradients.router_dx : gradients.dx;
    at_router.dprobes = at_probes;
    sum_.backward_router(tape.sum_, in, at_router, gradients.router, arena, executor);
    if (!in.probes || (!gradients.dx && gradients.experts == nullptr)) return;
    std::int32_t* const rows = arena.take<std::int32_t>(tokens);
    const bool* const spoiled = tape.routes().spoiled;
    const ProbeRows<Real> asked = rows_of(in, x, rows, [&](Index t) { return !spoiled[t]; });
    experts().probe_backward(asked, tape.probed_[tape.current_].bank, in.probes, dprobes, gradients.dx,
                             gradients.experts, arena, executor);
  }

  Gradients make_gradients() const { return sum_.make_gradients(); }

  /// As MoeLayer's.
  using Shown::visit_parts;

 private:
  template <class Visit>
  void each_part(const LayerGradients& gradients, Visit&& visit) {
    visit(router(), gradients.router);
    visit(experts(), gradients.experts);
  }

  /// Whether a call in inference goes by turns.
  bool by_turns(Index tokens) const noexcept {
    return Sum::coupling(false) == Coupling::row_independent && tokens > rows_at_a_time_ &&
           impl::may_probe(router(), false);
  }
  /// What is there for all turns: until the last is through nothing of the caller's is written.
  struct Turns {
    MatrixView<Real> y;   // [T, D]
    std::uint64_t* keys;  // [rows of a turn] what they draw by
    impl::CallRollback rollback;

    Turns(const ProbingLayer& layer, Arena& arena, Index tokens, RouteStats* stats)
        : keys(arena.take<std::uint64_t>(layer.rows_at_a_time_)),
          rollback(nullptr, stats, layer.router().experts(), arena) {
      y.data = arena.take<Real>(checked_product("rows", tokens, layer.width()));
      y.rows = tokens;
      y.cols = y.stride = layer.width();
    }
  };

  void measure_forward(Arena& arena, const CallShape& shape, Mode mode, Index concurrency) const {
    sum_.require_parts();
    if (mode == Mode::training || !by_turns(shape.tokens)) {
      return measure_rows(arena, shape, mode, concurrency);
    }
    static_cast<void>(Turns(*this, arena, shape.tokens, nullptr));
    measure_rows(arena, {rows_at_a_time_, 1, shape.options}, mode, concurrency);
  }
  /// The probes included if the router may need them.
  void measure_rows(Arena& arena, const CallShape& shape, Mode mode, Index concurrency) const {
    if (impl::may_probe(router(), mode == Mode::training)) {
      arena.take<std::int32_t>(shape.tokens);
      experts().carve_probes(arena, shape.tokens);
      scoped(arena, [&] { experts().measure_probe(arena, shape.tokens, concurrency); });
    }
    sum_.measure(arena, shape, concurrency);
  }
  void measure_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    const bool probes = impl::may_probe(router(), true) || impl::may_probe(router(), false);
    if (probes) experts().carve_probes(arena, shape.tokens);
    sum_.measure_backward_experts(arena, shape, concurrency);
    sum_.measure_backward_router(arena, shape, concurrency);
    if (probes) {
      arena.take<std::int32_t>(shape.tokens);
      experts().measure_probe_backward(arena, shape.tokens, concurrency);
    }
  }

  /// The rows of `in` that take part and that `more(t)`; `rows` [T].
  template <class More>
  static ProbeRows<Real> rows_of(const RouterInput<Real>& in, const ConstMatrixView<Real>& x,
                                 std::int32_t* rows, const More& more) {
    ProbeRows<Real> asked{x, rows};
    for (Index t = 0; t < in.tokens(); ++t) {
      if (in.takes_part(t) && more(t)) rows[asked.count++] = static_cast<std::int32_t>(t);
    }
    return asked;
  }

  template <class TapeType, Executor X>
  void run(const LayerInput<Real>& input, LayerOutput<Real>& out, TapeType* tape, Workspace& workspace,
           X& executor) const {
    constexpr bool kTaped = !std::is_void_v<TapeType>;
    sum_.require_parts();
    const bool training = input.mode == Mode::training || (input.mode == Mode::by_call && kTaped);
    RouterInput<Real> in =
        impl::resolve_input(input, width(), router().width(), router().experts(), training);
    impl::require_segments(coupling(training), training, input.segments, input.x.rows);
    require_shape("y", out.y, input.x.rows, width());
    require_disjoint("x", input.x, "y", out.y);
    require_disjoint("router_x", input.router_x, "y", out.y);
    impl::require_carry("output carry", out.carry, input.x.rows, 0);
    if (out.stats != nullptr) out.stats->require_experts(router().experts());
    const Index tokens = input.x.rows;
    const CallShape shape{tokens, input.segments.count(tokens), input.options};
    const Mode mode = training || kTaped ? Mode::training : Mode::inference;
    if (mode == Mode::inference && out.observer == nullptr && by_turns(tokens)) {
      Arena arena = this->forward_arena(workspace, shape, mode, executor.concurrency());
      run_by_turns(in, input.x, out, arena, executor);
    } else {
      Arena measuring;
      measure_rows(measuring, shape, mode, executor.concurrency());
      Arena arena = workspace.arena(measuring.bytes(), mode, executor.concurrency());
      out.losses = run_rows(std::move(in), input.x, out.y, out.stats, out.observer, tape, arena, executor);
    }
    if (input.draws != nullptr) input.draws->advance();
  }

  /// y [T, D] of all rows.
  template <class X>
  void run_by_turns(const RouterInput<Real>& in, const ConstMatrixView<Real>& x, LayerOutput<Real>& out,
                    Arena& arena, X& executor) const {
    Turns turns(*this, arena, x.rows, out.stats);
    AuxiliaryLosses losses;
    for (Index first = 0; first < x.rows; first += rows_at_a_time_) {
      const Index count = (std::min)(rows_at_a_time_, x.rows - first);
      scoped(arena, [&] {
        const RouterInput<Real> some = impl::rows_of_call(in, first, count, turns.keys);
        const MatrixView<Real> y(turns.y.row(first), count, width());
        losses.add(run_rows<void>(some, impl::rows_from(x, first, count), y, out.stats, nullptr, nullptr,
                                  arena, executor));
      });
    }
    turns.rollback.keep();
    for (Index t = 0; t < x.rows; ++t) copy_row(turns.y.row(t), out.y.row(t), width());
    out.losses = losses;
  }

  /// Returns the losses.
  template <class TapeType, class X>
  AuxiliaryLosses run_rows(RouterInput<Real> in, const ConstMatrixView<Real>& x, const MatrixView<Real>& y,
                           RouteStats* stats, Observer<Real>* observer, TapeType* tape, Arena& arena,
                           X& executor) const {
    constexpr bool kTaped = !std::is_void_v<TapeType>;
    const Index tokens = x.rows;
    ask(in, x, tape, arena, executor);
    SumRows<Real> rows;
    rows.observer = observer;
    rows.y = y;
    const auto decided = [&](Arena&) {
      if constexpr (kTaped) {
        tape->writer_.clear();
        tape->tokens_ = tokens;
        tape->input_.store(in, x);
        tape->current_ = 1 - tape->current_;
        in = tape->input_.router_input();
        rows.x = tape->input_.x(tokens);
      } else {
        rows.x = x;
      }
    };
    Routed<Real> routed;
    if constexpr (kTaped) {
      routed = sum_.forward_train(in, rows, tape->sum_, arena, executor, decided);
    } else {
      routed = sum_.forward(in, rows, arena, executor, decided);
    }
    for (Index t = 0; t < tokens; ++t) {
      if (routed.table.spoiled[t]) fill_row(std::numeric_limits<Real>::quiet_NaN(), y.row(t), y.cols);
    }
    if (stats != nullptr) stats->add(routed.table, routed.plan, in.valid.data());
    return routed.table.losses;
  }

  /// Sets in.probes, if the router wants them; on a tape, those of the call to come.
  template <class TapeType, Executor X>
  void ask(RouterInput<Real>& in, const ConstMatrixView<Real>& x, TapeType* tape, Arena& arena,
           X& executor) const {
    if (!impl::may_probe(router(), in.training) || !impl::probes_call(router(), in)) return;
    const Index tokens = in.tokens();
    std::int32_t* const rows = arena.take<std::int32_t>(tokens);
    ProbeRows<Real> asked = rows_of(in, x, rows, [](Index) { return true; });
    const RowDraws draws{in.draws, {in.row_key.data(), in.row_key.size()}};
    if (in.training) asked.draws = &draws;
    if constexpr (!std::is_void_v<TapeType>) {
      auto& probed = tape->probed_[1 - tape->current_];
      Arena measured;
      experts().carve_probes(measured, tokens);
      Arena kept = probed.memory.arena(measured.bytes());
      in.probes = experts().carve_probes(kept, tokens);
      impl::check_call_of(experts(), in);
      scoped(arena, [&] { experts().probe_train(asked, in.probes, probed.bank, arena, executor); });
    } else {
      in.probes = experts().carve_probes(arena, tokens);
      impl::check_call_of(experts(), in);
      scoped(arena, [&] { experts().probe(asked, in.probes, arena, executor); });
    }
  }

  /// Returns T.
  Index check_backward(const Tape& tape, const LayerGradients& gradients) const {
    sum_.require_parts();
    tape.writer_.require("tape", sum_.identity());
    const Index tokens = tape.tokens_;
    impl::check_row_gradients(gradients, tokens, width(), tape.input_.separate_router(),
                              tape.input_.router_input().x.cols);
    require_disjoint("dlogit", gradients.dlogit, "dx", gradients.dx);
    require_disjoint("dlogit", gradients.dlogit, "router_dx", gradients.router_dx);
    sum_.check(tape.sum_, tape.input_.router_input(), outside(gradients), gradients.frozen_pair);
    return tokens;
  }
  static RouteGradients<Real> outside(const LayerGradients& gradients) noexcept {
    RouteGradients<Real> out;
    out.dlogit = gradients.dlogit;
    out.advantage = gradients.advantage.borrow();
    return out;
  }

  static constexpr Index kRowsAtATime = 256;  // the experts' products are as fast as of more rows

  Sum sum_;
  Index rows_at_a_time_ = kRowsAtATime;
};

/// As of a MoeLayer (layer/quantise.hpp); probes of WholeResults are those of the rounded experts.
template <class To, class R, class B, class C>
auto quantise(const ProbingLayer<R, B, C>& layer) {
  auto experts = quantise<To>(layer.experts());
  return ProbingLayer<std::remove_cvref_t<R>, decltype(experts), C>(layer.router(), std::move(experts),
                                                                    layer.capacity());
}

MOE_NAMESPACE_END
