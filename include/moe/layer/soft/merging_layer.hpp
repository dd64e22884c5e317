// The layer of merged experts: for every segment, one expert whose parameters are a mixture of all of the
// bank's, and which all rows of the segment visit. Y = E_{theta}(X), theta = sum over e of p_e theta_e.
//   segments > mix (p [S, H E]) > for each: merge > its rows > Y
#pragma once

#include <limits>
#include <type_traits>
#include <utility>

#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/expert/merging.hpp"
#include "moe/kernel/panel.hpp"
#include "moe/kernel/row.hpp"
#include "moe/layer/call/arguments.hpp"
#include "moe/layer/call/checks.hpp"
#include "moe/layer/call/measured_calls.hpp"
#include "moe/layer/call/output.hpp"
#include "moe/layer/call/scoped.hpp"
#include "moe/layer/call/stored_input.hpp"
#include "moe/layer/concept.hpp"
#include "moe/layer/shown_parts.hpp"
#include "moe/plan/statistics.hpp"
#include "moe/router/concept.hpp"
#include "moe/router/soft/mixer.hpp"

MOE_NAMESPACE_BEGIN

/// A Mixer and a MergingBank; `M&` or `B&` refers to a part that lives elsewhere. Segments go one after the
/// other, ascending, each on all workers: the memory is one packed expert a call (two in backward, which
/// merges again instead of keeping every segment's), whatever E and the workers (workspace_bytes counts it).
/// Every merge reads all experts that have a weight; a segment with the weights of the one before takes its
/// expert. So it pays where segments are long. Rows that take no part give 0 and get none, spoiled rows NaN.
///
/// Statistics: every row counts for all experts of its mixture, gate mass by their weights (the mean over
/// heads). An Observer is refused: no row is routed.
template <class M, class B>
class MergingLayer : public impl::RefusedCalls<MergingLayer<M, B>>,
                     public impl::MeasuredCalls<MergingLayer<M, B>>,
                     public impl::ShownParts<MergingLayer<M, B>> {
  using Refused = impl::RefusedCalls<MergingLayer>;
  using Measured = impl::MeasuredCalls<MergingLayer>;
  using Shown = impl::ShownParts<MergingLayer>;
  friend Measured;
  friend Shown;
  using MixerType = std::remove_reference_t<M>;
  using Bank = std::remove_reference_t<B>;
  static_assert(Mixer<MixerType>, "moe: M is not a Mixer: moe/router/soft/mixer.hpp says what it needs");
  static_assert(MergingBank<Bank>, "moe: B is not a MergingBank: moe/expert/merging.hpp says what it needs");
  static_assert(std::is_same_v<typename MixerType::Real, typename Bank::Real>,
                "moe: mixer and experts must compute in the same type");

 public:
  using Real = typename Bank::Real;
  static constexpr bool kTrainable = true;

  struct Gradients {
    typename MixerType::Gradients router;
    typename Bank::Gradients experts;
  };

  /// As MoeLayer's, without what comes from outside for routed pairs.
  struct LayerGradients {
    ConstMatrixView<Real> dy;
    MatrixView<Real> dx{};
    MatrixView<Real> router_dx{};  // overwritten; only for calls with a separate router_x
    double auxiliary_scale = 1;
    typename MixerType::Gradients* router = nullptr;
    typename Bank::Gradients* experts = nullptr;

    LayerGradients() = default;
    LayerGradients(ConstMatrixView<Real> dy_, MatrixView<Real> dx_) : dy(dy_), dx(dx_) {}
    LayerGradients(ConstMatrixView<Real> dy_, MatrixView<Real> dx_, Gradients& all)
        : dy(dy_), dx(dx_), router(&all.router), experts(&all.experts) {}
    template <class Dy, class Dx, class... All>
    requires(impl::MistakenMatrix<Dy, const Real> || impl::MistakenMatrix<Dx, Real>)  //
        LayerGradients(Dy&&, Dx&&, All&&...) {
      if constexpr (impl::MistakenMatrix<Dy, const Real>) impl::refuse_matrix<Dy, const Real>();
      if constexpr (impl::MistakenMatrix<Dx, Real>) impl::refuse_matrix<Dx, Real>();
    }
  };

  /// What backward needs of a forward_train; see MoeLayer's.
  class Tape {
   public:
    Index tokens() const noexcept { return writer_ ? tokens_ : 0; }
    /// [S, H * E] weights of the segments' mixtures.
    ConstMatrixView<Real> mixtures() const noexcept { return decided().p; }

   private:
    friend class MergingLayer;
    struct Decided {
      typename MixerType::Tape mixer;
      Buffer<Real> memory;
      MatrixView<Real> p{};  // in `memory`
      Buffer<bool> spoiled;  // [T]
    };
    const Decided& decided() const noexcept { return decided_[current_]; }
    Decided& next() noexcept { return decided_[1 - current_]; }

    impl::Writer writer_;
    Index tokens_ = 0;
    impl::StoredInput<Real> input_;
    Decided decided_[2];  // by turns: a call that is refused has written the other one
    int current_ = 0;
    typename Bank::Tape experts_;
  };

  /// Throws config_error unless mixer and bank have as many experts and heads.
  MergingLayer(M mixer, B experts) : mixer_(std::forward<M>(mixer)), experts_(std::forward<B>(experts)) {
    require_fit<config_error>();
  }

  MixerType& router() noexcept { return mixer_; }
  const MixerType& router() const noexcept { return mixer_; }
  Bank& experts() noexcept { return experts_; }
  const Bank& experts() const noexcept { return experts_; }
  Index width() const noexcept { return experts_.width(); }

  template <class Visitor>
  void visit_names(Visitor&& f) const {
    impl::visit_names_of("router", router(), f);
    impl::visit_names_of("experts", experts(), f);
  }

  static constexpr Coupling coupling(bool training) noexcept {
    return weakest(Coupling::per_segment, MixerType::coupling(training));
  }

  using Refused::backward, Refused::forward, Refused::forward_train;

  /// Y from X. Nothing is written if it throws, as MoeLayer's. No allocation once the workspace has grown.
  template <Executor X = SerialExecutor>
  void forward(const LayerInput<Real>& in, LayerOutput<Real>& out, Workspace& workspace,
               X&& executor = X{}) const {
    run(in, out, nullptr, workspace, executor);
  }

  Tape make_tape() const { return {}; }

  /// Same, and writes the tape. What forward refuses leaves the tape as it was.
  template <Executor X = SerialExecutor>
  void forward_train(const LayerInput<Real>& in, LayerOutput<Real>& out, Tape& tape, Workspace& workspace,
                     X&& executor = X{}) const {
    run(in, out, &tape, workspace, executor);
    tape.writer_.set(identity_);
  }

  /// Gradients of sum(dy * y) at the call on the tape. The gradient of a segment's merged expert is formed
  /// first: d p_e is its product with theta_e, and p_e of it is added to expert e's. Throws as MoeLayer's.
  template <Executor X = SerialExecutor>
  void backward(const Tape& tape, const LayerGradients& gradients, Workspace& workspace,
                X&& executor = X{}) const {
    check_backward(tape, gradients);
    const Index tokens = tape.tokens_;
    const RouterInput<Real>& in = tape.input_.router_input();
    const typename Tape::Decided& decided = tape.decided();
    Arena arena =
        this->backward_arena(workspace, {tokens, decided.p.rows, in.options}, executor.concurrency());
    if (tokens == 0) return;

    const ConstMatrixView<Real> x = tape.input_.x(tokens);
    const bool separate = tape.input_.separate_router();
    const MatrixView<Real>& router_dx = separate ? gradients.router_dx : gradients.dx;
    for (Index t = 0; t < tokens; ++t) {
      if (gradients.dx) fill_row(Real{0}, gradients.dx.row(t), width());
      if (separate && router_dx) fill_row(Real{0}, router_dx.row(t), router_dx.cols);
    }
    const MatrixView<Real> dp(arena.take<Real>(decided.p.rows * weights()), decided.p.rows, weights());
    scoped(arena, [&] {
      const Rows rows(arena, tokens, width());
      const BackwardRows back(arena, tokens);
      const typename Bank::Merged one = experts_.take_merged(arena), done = experts_.take_merged(arena);
      Index first = 0;
      const Real* merged = nullptr;
      for (Index s = 0; s < decided.p.rows; ++s) {
        fill_row(Real{0}, dp.row(s), weights());
        const RowBatch<Real> batch = rows.gather(in, s, decided.spoiled.data(), x);
        if (batch.slots() == 0) continue;
        const Real* const p = decided.p.row(s);
        merged = merge(merged, p, one, arena, executor);
        for (Index i = 0; i < batch.slots(); ++i) back.dy[i] = gradients.dy.row(Index{rows.token[i]});
        const RowSink<Real> dx = gradients.dx ? rows.sink(batch.slots()) : RowSink<Real>{};
        scoped(arena, [&] {
          experts_.backward_merged(one, batch, tape.experts_, first,
                                   RowGradients<Real>{back.dy, back.weight, back.dweight, dx, nullptr}, done,
                                   arena, executor);
        });
        if (gradients.dx) rows.scatter(batch.slots(), gradients.dx);
        scoped(arena,
               [&] { experts_.merge_backward(p, done, dp.row(s), gradients.experts, arena, executor); });
        first += batch.slots();
      }
    });
    scoped(arena, [&] {
      mixer_.backward(in, decided.p, decided.mixer, dp, router_dx, gradients.router, arena, executor);
    });
  }

  /// Zero gradients of both parts.
  Gradients make_gradients() const {
    return {impl::make_gradients_of(router()), impl::make_gradients_of(experts())};
  }

 private:
  /// The rows of one segment that take part, and room for their results or gradients.
  struct Rows {
    const Real** row;     // [T]
    std::int32_t* token;  // [T]
    Index* offsets;       // [2]
    const Real** result;  // [T]
    Real* data;           // [T, stride]
    Index stride;
    Rows(Arena& arena, Index tokens, Index width)
        : row(arena.take<const Real*>(tokens)),
          token(arena.take<std::int32_t>(tokens)),
          offsets(arena.take<Index>(2)),
          result(arena.take<const Real*>(tokens)),
          data(arena.take<Real>(checked_product("rows of a segment", tokens, row_stride<Real>(width)))),
          stride(row_stride<Real>(width)) {}

    RowBatch<Real> gather(const RouterInput<Real>& in, Index s, const bool* spoiled,
                          const ConstMatrixView<Real>& x) const noexcept {
      Index count = 0;
      for (Index t = in.segments.begin(s); t < in.segments.end(s, x.rows); ++t) {
        if (!in.takes_part(t) || spoiled[t]) continue;
        token[count] = static_cast<std::int32_t>(t);
        row[count++] = x.row(t);
      }
      offsets[0] = 0, offsets[1] = count;
      return {row, token, offsets, 1};
    }
    RowSink<Real> sink(Index count) const noexcept {
      const RowSink<Real> to{data, stride, result};
      for (Index i = 0; i < count; ++i) result[i] = to.row(i);
      return to;
    }
    void scatter(Index count, const MatrixView<Real>& to) const noexcept {
      for (Index i = 0; i < count; ++i) copy_row(result[i], to.row(Index{token[i]}), to.cols);
    }
  };
  struct BackwardRows {
    const Real** dy;  // [T]
    Real* weight;     // [T] 1
    Real* dweight;    // [T] of those, which nobody wants
    BackwardRows(Arena& arena, Index tokens)
        : dy(arena.take<const Real*>(tokens)),
          weight(arena.take<Real>(tokens)),
          dweight(arena.take<Real>(tokens)) {
      if (!arena.measuring()) fill_row(Real{1}, weight, tokens);
    }
  };

  /// W: entries of a mixture.
  Index weights() const noexcept { return Index{mixer_.heads()} * Index{mixer_.experts()}; }

  template <class Visit>
  void each_part(const LayerGradients& gradients, Visit&& visit) {
    visit(router(), gradients.router);
    visit(experts(), gradients.experts);
  }

  void measure_forward(Arena& arena, const CallShape& shape, Mode, Index concurrency) const {
    require_parts();
    arena.take<bool>(shape.tokens);
    arena.take<Real>(checked_product("mixtures", shape.segments, weights()));
    scoped(arena, [&] { impl::measure_of(mixer_, arena, shape, concurrency); });
    const Rows rows(arena, shape.tokens, width());
    experts_.take_merged(arena);
    scoped(arena, [&] { experts_.measure_merge(arena, concurrency); });
    experts_.measure_merged(arena, shape.tokens, concurrency);
  }
  void measure_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    arena.take<Real>(checked_product("mixtures", shape.segments, weights()));
    scoped(arena, [&] {
      const Rows rows(arena, shape.tokens, width());
      const BackwardRows back(arena, shape.tokens);
      experts_.take_merged(arena), experts_.take_merged(arena);
      scoped(arena, [&] { experts_.measure_merge(arena, concurrency); });
      scoped(arena, [&] { experts_.measure_merged_backward(arena, shape.tokens, concurrency); });
      experts_.measure_merge_backward(arena, concurrency);
    });
    impl::measure_backward_of(mixer_, arena, shape, concurrency);
  }

  /// `one` of the weights p, unless it is that of the same weights; `merged`: those it is of, or null.
  template <Executor X>
  const Real* merge(const Real* merged, const Real* p, const typename Bank::Merged& one, Arena& arena,
                    X& executor) const {
    bool same = merged != nullptr;
    for (Index i = 0; same && i < weights(); ++i) same = merged[i] == p[i];
    if (!same) scoped(arena, [&] { experts_.merge(p, one, arena, executor); });
    return p;
  }

  template <Executor X>
  void run(const LayerInput<Real>& input, LayerOutput<Real>& out, Tape* tape, Workspace& workspace,
           X& executor) const {
    require_parts();
    const bool training = input.mode == Mode::training || (input.mode == Mode::by_call && tape != nullptr);
    RouterInput<Real> in =
        impl::resolve_input(input, width(), Index{mixer_.width()}, Index{mixer_.experts()}, training);
    impl::require_segments(coupling(training), training, input.segments, input.x.rows);
    require_shape("y", out.y, input.x.rows, width());
    require_disjoint("x", input.x, "y", out.y);
    impl::require_carry("output carry", out.carry, input.x.rows, 0);
    require_disjoint("router_x", input.router_x, "y", out.y);
    if (out.stats != nullptr) out.stats->require_experts(Index{mixer_.experts()});
    if (out.observer != nullptr) {
      fail<config_error>("observer: expected none for a layer of merged experts, which routes no row");
    }
    impl::check_call_of(experts_, in);
    const Index tokens = input.x.rows, segments = input.segments.count(tokens);
    Arena arena =
        this->forward_arena(workspace, {tokens, segments, input.options},
                            tape != nullptr ? Mode::training : Mode::inference, executor.concurrency());
    bool* spoiled = arena.take<bool>(tokens);
    MatrixView<Real> p(arena.take<Real>(segments * weights()), segments, weights());
    typename MixerType::Tape* mixer_tape = nullptr;
    if (tape != nullptr) {
      typename Tape::Decided& next = tape->next();
      mixer_tape = &next.mixer;
      spoiled = next.spoiled.resize(tokens);
      next.p = p = MatrixView<Real>(next.memory.resize(segments * weights()), segments, weights());
    }
    for (Index t = 0; t < tokens; ++t) spoiled[t] = false;
    scoped(arena, [&] { mixer_.mix(in, p, spoiled, mixer_tape, arena, executor); });

    ConstMatrixView<Real> x = input.x;
    const RowDraws draws{in.draws, {in.row_key.data(), in.row_key.size()}};
    if (tape != nullptr) {  // nothing can be refused any more
      tape->writer_.clear();
      tape->current_ = 1 - tape->current_;
      tape->tokens_ = tokens;
      tape->input_.store(in, x);
      x = tape->input_.x(tokens);
      in = tape->input_.router_input();
      experts_.open_tape(tape->experts_, tokens, in.training ? &draws : nullptr);
    }
    const Rows rows(arena, tokens, width());
    const typename Bank::Merged one = experts_.take_merged(arena);
    Index first = 0;
    const Real* merged = nullptr;
    for (Index t = 0; t < tokens; ++t) {
      fill_row(spoiled[t] ? std::numeric_limits<Real>::quiet_NaN() : Real{0}, out.y.row(t), width());
    }
    for (Index s = 0; s < segments; ++s) {
      RowBatch<Real> batch = rows.gather(in, s, spoiled, x);
      if (batch.slots() == 0) continue;
      if (in.training) batch.draws = &draws;
      merged = merge(merged, p.row(s), one, arena, executor);
      scoped(arena, [&] {
        experts_.forward_merged(one, batch, rows.sink(batch.slots()),
                                tape == nullptr ? nullptr : &tape->experts_, first, arena, executor);
      });
      rows.scatter(batch.slots(), out.y);
      first += batch.slots();
      if (out.stats != nullptr) count(p.row(s), batch.slots(), *out.stats);
    }
    if (input.draws != nullptr) input.draws->advance();
    out.losses = {};
    if (out.stats == nullptr) return;
    for (Index t = 0; t < tokens; ++t) out.stats->spoiled += spoiled[t] ? 1 : 0;
  }

  void count(const Real* p, Index rows, RouteStats& stats) const {
    const Index experts = mixer_.experts(), heads = mixer_.heads();
    if (stats.experts() != experts) {
      stats.gate_mass.assign(experts, 0);
      stats.load.assign(experts, 0);
      stats.clear();
    }
    stats.tokens += rows;
    for (Index e = 0; e < experts; ++e) {
      double mass = 0;
      for (Index h = 0; h < heads; ++h) mass += static_cast<double>(p[h * experts + e]);
      stats.load[e] += mass > 0 ? rows : 0;
      stats.gate_mass[e] += mass / static_cast<double>(heads) * static_cast<double>(rows);
    }
  }

  /// What the constructor checked: a part may have been replaced since, or moved from.
  void require_parts() const {
    impl::require_there("layer", identity_ && Index{mixer_.experts()} > 0 && Index{experts_.experts()} > 0);
    require_fit<state_error>();
  }
  template <class Error>
  void require_fit() const {
    const Index experts = mixer_.experts(), banked = experts_.experts();
    const Index heads = mixer_.heads(), own = experts_.heads();
    if (experts != banked) {
      fail<Error>("layer: expected as many experts in the bank as the mixer weighs, ", experts, ", got ",
                  banked);
    }
    if (heads != own) {
      fail<Error>("layer: expected as many heads in the bank as the mixer has, ", heads, ", got ", own);
    }
    const Index columns = impl::output_width_of(experts_);
    if (columns != width()) {
      fail<Error>("layer: expected experts whose results are as wide as their rows, ", width(), ", got ",
                  columns);
    }
  }

  void check_backward(const Tape& tape, const LayerGradients& gradients) const {
    require_parts();
    tape.writer_.require("tape", identity_);
    impl::check_row_gradients(gradients, tape.tokens_, width(), tape.input_.separate_router(),
                              tape.input_.router_input().x.cols);
    this->check_gradients(gradients);
  }

  impl::Identity identity_;
  M mixer_;
  B experts_;
};

MOE_NAMESPACE_END
