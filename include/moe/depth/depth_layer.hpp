// Layers that choose how deep a row goes: which blocks of the caller's work on it, and how often. What is
// added is w f(x), so that a row no block is chosen for keeps its bits.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/column.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_hooks.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/depth/depth_rows.hpp"
#include "moe/depth/layer_calls.hpp"
#include "moe/depth/row_block.hpp"
#include "moe/kernel/row.hpp"
#include "moe/layer/call/arguments.hpp"
#include "moe/layer/call/checks.hpp"
#include "moe/layer/call/measured_calls.hpp"
#include "moe/layer/call/output.hpp"
#include "moe/layer/call/scoped.hpp"
#include "moe/layer/call/stored_input.hpp"
#include "moe/layer/concept.hpp"
#include "moe/layer/shown_parts.hpp"
#include "moe/plan/dispatch_plan.hpp"
#include "moe/plan/route_table.hpp"
#include "moe/plan/statistics.hpp"
#include "moe/router/concept.hpp"

MOE_NAMESPACE_BEGIN

/// What the routers of a depth layer decide.
enum class DepthForm : std::uint8_t {
  steps,   // one router a step; its experts are the blocks
  nested,  // the same, and a row that a step leaves out takes part in none of the later ones
  times,   // one router; expert e stands for first + e passes through the one block
};

struct DepthOptions {
  DepthForm form = DepthForm::steps;
  Index first = 1;  // of times: passes of expert 0, 0 or 1
};

/// h_0 = x, h_{s+1} = h_s + sum over blocks b of w_b f_b(rows of h_s that chose b), y = h_S. A block gets its
/// rows of a step side by side, and knows their places and segments (BlockCall); blocks are added in
/// ascending order. The routers read h_s and may be of any kind. `DepthForm::times`: w = 1, but on a row's
/// last pass, which its router weighs; the router reads x. `B&`: a block that lives elsewhere.
///
/// Padding is 0 in y, a row that a router isolates is NaN and takes part in no later step. Gradients of a
/// block are one object, to which steps add from the last to the first. A router that draws has a call of
/// its own of the DrawCounter, and so has whatever a block draws. Statistics: the sum over steps, and of
/// several routers each one's as `layers`. No observer is called: what there is to see is on the tape.
template <class R, class... B>
class DepthLayer : public impl::RefusedCalls<DepthLayer<R, B...>>,
                   public impl::MeasuredCalls<DepthLayer<R, B...>>,
                   public impl::ShownParts<DepthLayer<R, B...>> {
  using Refused = impl::RefusedCalls<DepthLayer>;
  using Measured = impl::MeasuredCalls<DepthLayer>;
  using Shown = impl::ShownParts<DepthLayer>;
  friend Measured;
  friend Shown;
  static_assert(Router<R>, "moe: R is not a Router: moe/router/concept.hpp");
  static_assert(sizeof...(B) > 0 && (RowBlock<std::remove_reference_t<B>> && ...),
                "moe: B is not a RowBlock; it needs Real, coupling(training), width() and forward(call, x, "
                "y, tape, arena, executor): moe/depth/row_block.hpp");
  static_assert(impl::refuse_wrong_default_hooks<R, Arena, CallShape, Index>() &&
                (impl::refuse_wrong_default_hooks<std::remove_cvref_t<B>, Arena, CallShape, Index>() && ...));
  static_assert((std::is_same_v<typename R::Real, typename std::remove_reference_t<B>::Real> && ...),
                "moe: router and blocks must compute in the same type");
  static constexpr Index kBlocks = Index{sizeof...(B)};

 public:
  using Real = typename R::Real;
  static constexpr bool kTrainable =
      TrainableRouter<R> && (TrainableRowBlock<std::remove_reference_t<B>> && ...);

  struct Gradients {
    std::vector<impl::GradientsOf<R>> routers;  // by step
    std::tuple<impl::GradientsOf<std::remove_reference_t<B>>...> blocks;
  };

  /// As MoeLayer's; gradients from outside (dlogit, advantage) are for layers of one router.
  struct LayerGradients {
    ConstMatrixView<Real> dy;
    MatrixView<Real> dx{};
    MatrixView<Real> router_dx{};  // none: routers read the layer's rows
    double auxiliary_scale = 1;
    ConstMatrixView<Real> dlogit{};  // [T, N]
    Column<double> advantage{};      // [T]
    std::vector<impl::GradientsOf<R>>* routers = nullptr;
    std::tuple<impl::GradientsOf<std::remove_reference_t<B>>*...> blocks{};

    LayerGradients() = default;
    LayerGradients(ConstMatrixView<Real> dy_, MatrixView<Real> dx_) : dy(dy_), dx(dx_) {}
    LayerGradients(ConstMatrixView<Real> dy_, MatrixView<Real> dx_, Gradients& all)
        : dy(dy_),
          dx(dx_),
          routers(&all.routers),
          blocks(std::apply([](auto&... own) { return std::make_tuple(&own...); }, all.blocks)) {}
    template <class Dy, class Dx, class... All>
    requires(impl::MistakenMatrix<Dy, const Real> || impl::MistakenMatrix<Dx, Real>)  //
        LayerGradients(Dy&&, Dx&&, All&&...) {
      if constexpr (impl::MistakenMatrix<Dy, const Real>) impl::refuse_matrix<Dy, const Real>();
      if constexpr (impl::MistakenMatrix<Dx, Real>) impl::refuse_matrix<Dx, Real>();
    }
  };

 private:
  struct Step {
    Workspace table_memory;
    impl::Movable<RouteTable<Real>> table;
    impl::TapeOf<R> router;
    std::optional<DrawKey> draws;
    Buffer<bool> valid;  // [T] rows that the router saw; of the first step the call's own
    Buffer<Real> h;      // [T, D] what the step read; of the first step the call's rows
    Buffer<Real> f;      // [P, D] what the blocks returned
    std::tuple<impl::TapeOf<std::remove_reference_t<B>>...> blocks;
  };
  struct Call {
    Index tokens = 0;
    impl::StoredInput<Real> input;
    std::vector<Step> steps;
  };

 public:
  /// As MoeLayer's.
  class Tape {
   public:
    Index tokens() const noexcept { return writer_ ? call().tokens : 0; }
    /// The routes of a step; `DepthForm::times` has one.
    const RouteTable<Real>& routes(Index step = 0) const noexcept {
      return call().steps[static_cast<std::size_t>(step)].table.get();
    }

   private:
    friend class DepthLayer;
    const Call& call() const noexcept { return calls_[current_]; }
    impl::Writer writer_;
    Call calls_[2];  // by turns: a call that is refused has written the other one
    int current_ = 0;
  };

  /// One router for each step. Throws config_error unless the routers have an expert for each block, and
  /// read rows of the blocks' width, or none.
  DepthLayer(std::vector<R> routers, DepthOptions options, B... blocks)
      : routers_(std::move(routers)), options_(options), blocks_(std::forward<B>(blocks)...) {
    require_fit<config_error>();
  }
  /// Of one step.
  DepthLayer(R router, B... blocks)
      : DepthLayer(one(std::move(router)), DepthOptions{}, std::forward<B>(blocks)...) {}

  std::vector<R>& routers() noexcept { return routers_; }
  const std::vector<R>& routers() const noexcept { return routers_; }
  R& router(Index step = 0) noexcept { return routers_[static_cast<std::size_t>(step)]; }
  const R& router(Index step = 0) const noexcept { return routers_[static_cast<std::size_t>(step)]; }
  template <std::size_t I = 0>
  auto& block() noexcept {
    return std::get<I>(blocks_);
  }
  template <std::size_t I = 0>
  const auto& block() const noexcept {
    return std::get<I>(blocks_);
  }
  const DepthOptions& options() const noexcept { return options_; }
  DepthForm form() const noexcept { return options_.form; }
  /// S.
  Index steps() const noexcept {
    if (options_.form != DepthForm::times || routers_.empty()) return static_cast<Index>(routers_.size());
    return options_.first + Index{routers_[0].experts()} - 1;
  }
  Index width() const noexcept { return Index{std::get<0>(blocks_).width()}; }

  template <class Visitor>
  void visit_names(Visitor&& f) const {
    for (const R& router : routers_) impl::visit_names_of("router", router, f);
    std::apply([&](const auto&... block) { (impl::visit_names_of("block", block, f), ...); }, blocks_);
  }

  static constexpr Coupling coupling(bool training) noexcept {
    Coupling all = R::coupling(training);
    ((all = weakest(all, std::remove_reference_t<B>::coupling(training))), ...);
    return all;
  }

  using Refused::backward, Refused::forward, Refused::forward_train;

  /// As MoeLayer's; besides, config_error for a router_x, and what the blocks throw: nothing is written then.
  template <Executor X = SerialExecutor>
  void forward(const LayerInput<Real>& in, LayerOutput<Real>& out, Workspace& workspace,
               X&& executor = X{}) const {
    run<void>(in, out, nullptr, workspace, executor);
  }

  Tape make_tape() const requires kTrainable { return {}; }

  template <Executor X = SerialExecutor>
  void forward_train(const LayerInput<Real>& in, LayerOutput<Real>& out, Tape& tape, Workspace& workspace,
                     X&& executor = X{}) const requires kTrainable {
    run<Tape>(in, out, &tape, workspace, executor);
  }

  template <Executor X = SerialExecutor>
  void backward(const Tape& tape, const LayerGradients& gradients, Workspace& workspace,
                X&& executor = X{}) const requires kTrainable {
    const Index tokens = check_backward(tape, gradients);
    const Call& call = tape.call();
    const RouterInput<Real>& in = call.input.router_input();
    const CallShape shape{tokens, in.segments.count(tokens), in.options};
    Arena arena = this->backward_arena(workspace, shape, executor.concurrency());
    if (tokens == 0) return;

    const BackwardScratch scratch(arena, tokens, width(), most_pairs(shape));
    for (Index t = 0; t < tokens; ++t) {
      scratch.active[t] = in.takes_part(t) && !spoiled(call, t);
    }
    ConstMatrixView<Real> d = gradients.dy;
    for (Index s = steps() - 1; s >= 0; --s) {
      const bool to_caller = s == 0 && gradients.dx;
      const MatrixView<Real> dh =
          to_caller ? gradients.dx : MatrixView<Real>(scratch.d[s % 2], tokens, width());
      for (Index t = 0; t < tokens; ++t) {
        if (scratch.active[t]) {
          copy_row(d.row(t), dh.row(t), width());
        } else {
          fill_row(Real{0}, dh.row(t), width());
        }
      }
      const RouteTable<Real>& table = table_of(call, s);
      if (options_.form != DepthForm::times || s == steps() - 1) {
        fill_row(Real{0}, scratch.dweight, table.pairs());
      }
      scoped(arena, [&] { blocks_backward(call, s, d, dh, gradients, scratch.dweight, arena, executor); });
      if (routes(s)) {
        scoped(arena, [&] { router_backward(call, s, dh, gradients, scratch.dweight, arena, executor); });
      }
      d = dh;
    }
  }

  Gradients make_gradients() const requires kTrainable {
    std::vector<impl::GradientsOf<R>> routers;
    for (const R& router : routers_) routers.push_back(impl::make_gradients_of(router));
    return {
        std::move(routers),
        std::apply([](const auto&... block) { return std::make_tuple(impl::make_gradients_of(block)...); },
                   blocks_)};
  }

  /// After an optimiser step. Of several routers each gets its own counts, stats.layers[step], as calls leave
  /// them; counts without `layers` go to all. Blocks get none. Throws shape_error for counts of another
  /// number of routers.
  void on_step_end(const RouteStats& stats) requires kTrainable {
    if (!stats.layers.empty()) {
      require_extent("statistics", "layers", static_cast<Index>(routers_.size()),
                     static_cast<Index>(stats.layers.size()));
    }
    for (std::size_t r = 0; r < routers_.size(); ++r) {
      impl::on_step_end_of(routers_[r], stats.layers.empty() ? stats : stats.layers[r]);
    }
  }

 private:
  /// Names: "router.", or "router<step>." of several; "block.", or "block<b>." of several.
  template <class Visit>
  void each_part(const LayerGradients& gradients, Visit&& visit) {
    auto* const own = gradients.routers;
    if (own != nullptr) {
      require_extent("gradients of routers", "entries", static_cast<Index>(routers_.size()),
                     static_cast<Index>(own->size()));
    }
    for (std::size_t r = 0; r < routers_.size(); ++r) {
      visit(routers_[r], own == nullptr ? nullptr : &(*own)[r], "router",
            routers_.size() == 1 ? Index{-1} : static_cast<Index>(r));
    }
    each_block(blocks_, gradients, [&](auto& block, auto* of_block, auto number) {
      visit(block, of_block, "block", kBlocks == 1 ? Index{-1} : static_cast<Index>(decltype(number)::value));
    });
  }

  static std::vector<R> one(R router) {
    std::vector<R> all;
    all.push_back(std::move(router));
    return all;
  }

  /// Whether step s asks a router.
  bool routes(Index s) const noexcept { return s == 0 || options_.form != DepthForm::times; }
  std::size_t router_at(Index s) const noexcept { return routes(s) ? static_cast<std::size_t>(s) : 0; }
  const RouteTable<Real>& table_of(const Call& call, Index s) const noexcept {
    return call.steps[router_at(s)].table.get();
  }
  bool spoiled(const Call& call, Index t) const noexcept {
    for (std::size_t r = 0; r < routers_.size(); ++r) {
      if (call.steps[r].table->spoiled[t]) return true;
    }
    return false;
  }

  /// f(block, its gradients or null, its number) for every block.
  template <class Blocks, class F>
  static void each_block(Blocks& blocks, const LayerGradients& gradients, const F& f) {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (f(std::get<I>(blocks), std::get<I>(gradients.blocks), std::integral_constant<std::size_t, I>{}), ...);
    }
    (std::index_sequence_for<B...>{});
  }

  /// Pairs that a step may have.
  Index most_pairs(const CallShape& shape) const {
    Index most = 0;
    for (const R& router : routers_) most = (std::max)(most, impl::max_pairs_of(router, shape));
    return most;
  }
  /// Rows of one block, of a step.
  static CallShape block_shape(const CallShape& shape, Index rows) noexcept {
    return {(std::min)(shape.tokens, rows), shape.segments, {}};
  }

  struct ForwardScratch {
    bool* open;                // [T] rows that the next step may route
    bool* seen;                // [routers, T] rows that each router saw
    bool* spoiled;             // [T]
    Index* last;               // [E] while a table is checked
    RouteTable<Real>* tables;  // by router
    Real* h;                   // [T, D] between steps; null if there is one
    ForwardScratch(Arena& arena, Index tokens, Index width, Index experts, Index routers, bool between)
        : open(arena.take<bool>(tokens)),
          seen(arena.take<bool>(checked_product("rows", tokens, routers))),
          spoiled(arena.take<bool>(tokens)),
          last(arena.take<Index>(experts)),
          tables(arena.take<RouteTable<Real>>(routers)),
          h(between ? arena.take<Real>(checked_product("rows", tokens, width)) : nullptr) {}
  };
  struct BackwardScratch {
    bool* active;   // [T]
    Real* d[2];     // [T, D] gradients of h, by turns
    Real* dweight;  // [P]
    BackwardScratch(Arena& arena, Index tokens, Index width, Index pairs)
        : active(arena.take<bool>(tokens)),
          d{arena.take<Real>(checked_product("rows", tokens, width)), arena.take<Real>(tokens * width)},
          dweight(arena.take<Real>(pairs)) {}
  };

  void measure_forward(Arena& arena, const CallShape& shape, Mode, Index concurrency) const {
    require_parts();
    const Index tokens = shape.tokens, pairs = most_pairs(shape);
    ForwardScratch{
        arena,      tokens, width(), Index{routers_[0].experts()}, static_cast<Index>(routers_.size()),
        steps() > 1};
    for (const R& router : routers_) {
      RouteTable<Real>::carve(arena, tokens, router.experts(), impl::max_pairs_of(router, shape));
      scoped(arena, [&] { impl::measure_of(router, arena, shape, concurrency); });
    }
    scoped(arena, [&] {
      const CallShape rows = block_shape(shape, pairs);
      impl::DepthRows<Real>{arena, kBlocks, pairs, shape.segments};
      arena.take<Real>(checked_product("results of blocks", pairs, width()));
      arena.take<Real>(rows.tokens * width());
      each_block(blocks_, {}, [&](const auto& block, auto*, auto) {
        scoped(arena, [&] { impl::measure_of(block, arena, rows, concurrency); });
      });
    });
  }
  void measure_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    const Index pairs = most_pairs(shape);
    BackwardScratch{arena, shape.tokens, width(), pairs};
    scoped(arena, [&] {
      const CallShape rows = block_shape(shape, pairs);
      impl::DepthRows<Real>{arena, kBlocks, pairs, shape.segments};
      for (int i = 0; i < 3; ++i) arena.take<Real>(checked_product("gradients", rows.tokens, width()));
      each_block(blocks_, {}, [&](const auto& block, auto*, auto) {
        scoped(arena, [&] { impl::measure_backward_of(block, arena, rows, concurrency); });
      });
    });
    for (const R& router : routers_) {
      scoped(arena, [&] { impl::measure_backward_of(router, arena, shape, concurrency); });
    }
  }

  /// What a pair of step s means.
  auto visit_of(const RouteTable<Real>& table, Index s) const noexcept {
    return [this, &table, s](Index p) noexcept -> impl::Visit<Real> {
      if (options_.form != DepthForm::times) return {table.expert[p], table.weight[p], true};
      const Index passes = options_.first + table.expert[p];
      if (passes <= s) return {};
      if (passes > s + 1) return {0, Real{1}, false};
      return {0, table.weight[p], true};
    };
  }

  template <class TapeType, Executor X>
  void run(const LayerInput<Real>& input, LayerOutput<Real>& out, TapeType* tape, Workspace& workspace,
           X& executor) const {
    constexpr bool kTaped = !std::is_void_v<TapeType>;
    require_parts();
    const bool training = input.mode == Mode::training || (input.mode == Mode::by_call && kTaped);
    if (input.router_x) {
      fail<config_error>("router_x: expected none, for the routers of a depth layer read its rows");
    }
    RouterInput<Real> in = impl::resolve_input(input, width(), Index{routers_[0].width()},
                                               Index{routers_[0].experts()}, training);
    impl::require_segments(coupling(training), training, input.segments, input.x.rows);
    require_shape("y", out.y, input.x.rows, width());
    require_disjoint("x", input.x, "y", out.y);
    impl::require_carry("output carry", out.carry, input.x.rows, 0);
    if (out.stats != nullptr) impl::LayerCounts{*this}.open(*out.stats);
    each_block(blocks_, {}, [&](const auto& block, auto*, auto) { impl::check_call_of(block, in); });
    const Index tokens = input.x.rows, count = steps();
    const CallShape shape{tokens, input.segments.count(tokens), input.options};
    Arena arena = this->forward_arena(workspace, shape, kTaped ? Mode::training : Mode::inference,
                                      executor.concurrency());
    const ForwardScratch scratch(arena, tokens, width(), Index{routers_[0].experts()},
                                 static_cast<Index>(routers_.size()), count > 1);
    Call* call = nullptr;
    ConstMatrixView<Real> h = input.x;
    if constexpr (kTaped) {
      call = &tape->calls_[1 - tape->current_];
      call->tokens = tokens;
      call->input.store(in, input.x);
      if (static_cast<Index>(call->steps.size()) < count) {
        call->steps.resize(static_cast<std::size_t>(count));
      }
      h = call->input.x(tokens);
      in = call->input.router_input();
    }
    DrawCounter draws = input.draws != nullptr ? *input.draws : DrawCounter(0);
    AuxiliaryLosses losses;
    for (Index t = 0; t < tokens; ++t) {
      scratch.open[t] = in.takes_part(t);
      scratch.spoiled[t] = false;
    }

    for (Index s = 0; s < count; ++s) {
      RouteTable<Real>& table = scratch.tables[router_at(s)];
      Step* const step = call == nullptr ? nullptr : &call->steps[static_cast<std::size_t>(s)];
      if (routes(s))
        route(in, h, s, scratch, table, step, draws, losses, input.draws, shape, arena, executor);
      scoped(arena, [&] {
        const impl::DepthRows<Real> rows(arena, kBlocks, most_pairs(shape), shape.segments);
        rows.fill(table, in, visit_of(table, s));
        const Index size = rows.size() * width();
        Real* const f = step != nullptr
                            ? step->f.resize(size)
                            : arena.take<Real>(checked_product("results of blocks", rows.size(), width()));
        run_blocks(rows, h, f, in, step, input.draws == nullptr ? nullptr : &draws, losses, arena, executor);
        const MatrixView<Real> to = s + 1 == count ? out.y : between(scratch, call, s, tokens);
        if (to.data != h.data) {
          executor.parallel_for(tokens,
                                [&](Index t, Index) noexcept { copy_row(h.row(t), to.row(t), width()); });
        }
        for (Index b = 0; b < kBlocks; ++b) {
          rows.scatter_weighted(b, {f + rows.begin(b) * width(), rows.count(b), width()}, to, executor);
        }
        h = to;
      });
    }
    for (Index t = 0; t < tokens; ++t) {
      if (!in.takes_part(t)) fill_row(Real{0}, out.y.row(t), width());
      if (scratch.spoiled[t]) fill_row(std::numeric_limits<Real>::quiet_NaN(), out.y.row(t), width());
    }
    if constexpr (kTaped) {
      tape->current_ = 1 - tape->current_;
      tape->writer_.set(identity_);
    }
    if (input.draws != nullptr) *input.draws = draws;
    out.losses = losses;
    for (std::size_t r = 0; out.stats != nullptr && r < routers_.size(); ++r) {
      const bool* const seen = scratch.seen + static_cast<Index>(r) * tokens;
      out.stats->add(scratch.tables[r], DispatchPlan<Real>{}, seen);
      if (routers_.size() > 1) out.stats->layers[r].add(scratch.tables[r], DispatchPlan<Real>{}, seen);
    }
  }

  /// Where the rows go that step s + 1 reads.
  MatrixView<Real> between(const ForwardScratch& scratch, Call* call, Index s, Index tokens) const {
    Real* const to =
        call == nullptr ? scratch.h : call->steps[static_cast<std::size_t>(s + 1)].h.resize(tokens * width());
    return {to, tokens, width()};
  }

  /// Fills the table of step s, and closes rows for the steps to come.
  template <Executor X>
  void route(const RouterInput<Real>& call_in, const ConstMatrixView<Real>& h, Index s,
             const ForwardScratch& scratch, RouteTable<Real>& table, Step* step, DrawCounter& draws,
             AuxiliaryLosses& losses, const DrawCounter* given, const CallShape& shape, Arena& arena,
             X& executor) const {
    const R& router = routers_[static_cast<std::size_t>(s)];
    const Index tokens = h.rows;
    std::copy_n(scratch.open, tokens, scratch.seen + s * tokens);
    const auto carve = [&](Arena& from) {
      return RouteTable<Real>::carve(from, tokens, router.experts(), impl::max_pairs_of(router, shape));
    };
    RouterInput<Real> in = call_in;
    in.x = h;
    if (given != nullptr) in.draws = draws.key();
    if (step != nullptr) {
      Arena measuring;
      carve(measuring);
      Arena kept = step->table_memory.arena(measuring.bytes());
      std::construct_at(&table, carve(kept));
      step->draws = in.draws;
      if (s > 0) {
        step->valid.copy_from(scratch.open, tokens);
        in.valid = {step->valid.data(), static_cast<std::size_t>(tokens)};
      }
    } else {
      std::construct_at(&table, carve(arena));
      if (s > 0) in.valid = {scratch.open, static_cast<std::size_t>(tokens)};
    }
    scoped(arena, [&] {
      if (step == nullptr) {
        router.route(in, table, arena, executor);
      } else if constexpr (kTrainable) {
        impl::route_train_of(router, in, table, step->router, arena, executor);
      }
    });
    impl::check_table(table, scratch.last);
    draws.advance();
    losses.add(table.losses);
    for (Index t = 0; t < tokens; ++t) {
      if (options_.form == DepthForm::times && table.count(t) > 1) {
        fail<config_error>("router of a depth layer: expected one number of passes for a row, got ",
                           table.count(t), " for token ", t);
      }
      if (table.spoiled[t]) scratch.spoiled[t] = true;
      if (table.spoiled[t] || (options_.form == DepthForm::nested && table.count(t) == 0)) {
        scratch.open[t] = false;
      }
    }
    if (step != nullptr) step->table = table;
  }

  template <Executor X>
  void run_blocks(const impl::DepthRows<Real>& rows, const ConstMatrixView<Real>& h, Real* f,
                  const RouterInput<Real>& in, Step* step, DrawCounter* draws, AuxiliaryLosses& losses,
                  Arena& arena, X& executor) const {
    each_block(blocks_, {}, [&](const auto& block, auto*, auto number) {
      constexpr std::size_t kBlock = decltype(number)::value;
      const auto b = static_cast<Index>(kBlock);
      scoped(arena, [&] {
        const Index n = rows.count(b);
        const MatrixView<Real> x(arena.take<Real>(n * width()), n, width());
        rows.gather(b, h, x, executor);
        BlockCall call = rows.call(b, in.training);
        call.draws = draws;
        call.losses = &losses;
        block.forward(call, x, MatrixView<Real>(f + rows.begin(b) * width(), n, width()),
                      step == nullptr ? nullptr : &std::get<kBlock>(step->blocks), arena, executor);
      });
    });
  }

  /// To dh what comes through the blocks of step s, from the gradient d of its result, and to their weights.
  template <Executor X>
  void blocks_backward(const Call& call, Index s, const ConstMatrixView<Real>& d, const MatrixView<Real>& dh,
                       const LayerGradients& gradients, Real* dweight, Arena& arena, X& executor) const {
    const RouterInput<Real>& in = call.input.router_input();
    const Step& step = call.steps[static_cast<std::size_t>(s)];
    const RouteTable<Real>& table = table_of(call, s);
    const CallShape shape{call.tokens, in.segments.count(call.tokens), in.options};
    const impl::DepthRows<Real> rows(arena, kBlocks, most_pairs(shape), shape.segments);
    rows.fill(table, in, visit_of(table, s));
    const ConstMatrixView<Real> h = rows_of(call, s);
    each_block(blocks_, gradients, [&](const auto& block, auto* own, auto number) {
      constexpr std::size_t kBlock = decltype(number)::value;
      const auto b = static_cast<Index>(kBlock);
      scoped(arena, [&] {
        const Index n = rows.count(b), first = rows.begin(b), size = n * width();
        const MatrixView<Real> x(arena.take<Real>(size), n, width()), dy(arena.take<Real>(size), n, width()),
            dx(arena.take<Real>(size), n, width());
        rows.gather(b, h, x, executor);
        rows.gather_weighted(b, d, dy, executor);
        executor.parallel_for(n, [&](Index i, Index) noexcept {
          if (rows.pair(first + i) < 0) return;
          dweight[rows.pair(first + i)] =
              dot(d.row(rows.row(first + i)), step.f.data() + (first + i) * width(), width());
        });
        BlockCall back = rows.call(b, in.training);
        back.auxiliary_scale = gradients.auxiliary_scale;
        block.backward(back, std::get<kBlock>(step.blocks), ConstMatrixView<Real>(x),
                       ConstMatrixView<Real>(dy), dx, own, arena, executor);
        rows.scatter(b, dx, dh, executor);
      });
    });
  }

  template <Executor X>
  void router_backward(const Call& call, Index s, const MatrixView<Real>& dh, const LayerGradients& gradients,
                       const Real* dweight, Arena& arena, X& executor) const {
    RouteGradients<Real> at_router = outside(gradients);
    at_router.dweight = dweight;
    at_router.auxiliary_scale = gradients.auxiliary_scale;
    at_router.dx = dh;
    const auto r = static_cast<std::size_t>(s);
    routers_[r].backward(router_input(call, s), call.steps[r].table.get(), call.steps[r].router, at_router,
                         gradients.routers == nullptr ? nullptr : &(*gradients.routers)[r], arena, executor);
  }

  /// h_s.
  ConstMatrixView<Real> rows_of(const Call& call, Index s) const {
    if (s == 0) return call.input.x(call.tokens);
    return {call.steps[static_cast<std::size_t>(s)].h.data(), call.tokens, width()};
  }
  RouterInput<Real> router_input(const Call& call, Index s) const {
    const Step& step = call.steps[static_cast<std::size_t>(s)];
    RouterInput<Real> in = call.input.router_input();
    in.x = rows_of(call, s);
    in.draws = step.draws;
    if (s > 0) in.valid = {step.valid.data(), static_cast<std::size_t>(call.tokens)};
    return in;
  }
  static RouteGradients<Real> outside(const LayerGradients& gradients) noexcept {
    RouteGradients<Real> out;
    out.dlogit = gradients.dlogit;
    out.advantage = gradients.advantage.borrow();
    return out;
  }

  void require_parts() const {
    impl::require_there("layer", identity_ && !routers_.empty());
    require_fit<state_error>();
  }
  template <class Error>
  void require_fit() const {
    if (routers_.empty()) fail<Error>("depth layer: expected a router for each step, got none");
    require_range("passes of expert 0", options_.first, 0, 1);
    if (options_.form == DepthForm::times && (kBlocks != 1 || routers_.size() != 1)) {
      fail<Error>(
          "depth layer: expected one router and one block where the router chooses a number of passes, ",
          "got ", routers_.size(), " routers and ", kBlocks, " blocks");
    }
    each_block(blocks_, {}, [&](const auto& block, auto*, auto) {
      if (Index{block.width()} != width() || width() < 1) {
        fail<Error>("depth layer: expected blocks of one width, ", width(), ", got ", Index{block.width()});
      }
    });
    for (const R& router : routers_) {
      const Index experts = router.experts(), reads = router.width();
      if (experts < 1 || (options_.form != DepthForm::times && experts != kBlocks)) {
        fail<Error>("depth layer: expected as many experts of a router as there are blocks, ", kBlocks,
                    ", got ", experts);
      }
      if (reads != 0 && reads != width()) {
        fail<Error>("depth layer: expected routers that read rows of width ", width(), ", got ", reads);
      }
    }
    if (steps() < 1) fail<Error>("depth layer: expected a pass at least, got none");
  }

  Index check_backward(const Tape& tape, const LayerGradients& gradients) const {
    require_parts();
    tape.writer_.require("tape", identity_);
    const Call& call = tape.call();
    const Index tokens = call.tokens;
    impl::check_backward_rows(gradients, tokens, width(), width());
    if (gradients.router_dx) {
      fail<config_error>("router_dx: expected none, for the routers read the layer's rows");
    }
    if (routers_.size() > 1 && (gradients.dlogit || !gradients.advantage.empty())) {
      fail<config_error>("dlogit, advantage: expected none for a layer of ", routers_.size(), " routers");
    }
    require_disjoint("dlogit", gradients.dlogit, "dx", gradients.dx);
    this->check_gradients(gradients);
    for (std::size_t r = 0; r < routers_.size(); ++r) {
      impl::check_backward_of(routers_[r], router_input(call, static_cast<Index>(r)),
                              call.steps[r].table.get(), call.steps[r].router, outside(gradients));
    }
    return tokens;
  }

  impl::Identity identity_;
  std::vector<R> routers_;
  DepthOptions options_;
  std::tuple<B...> blocks_;
};

namespace impl {
template <class To, class Block>
inline constexpr bool kQuantises = requires(const Block& block) {
  quantise<To>(block);
};
/// A block without a quantise() of its own is copied.
template <class To, class Block>
auto quantised_block(const Block& block) {
  if constexpr (kQuantises<To, Block>) {
    return quantise<To>(block);
  } else {
    return block;
  }
}
}  // namespace impl

/// The same routers over quantise<To>() of the blocks that have it (LayerBlock; one of yours, found where its
/// type is declared) and copies of the others. Blocks that live elsewhere become the layer's own.
template <class To, class R, class... B>
auto quantise(const DepthLayer<R, B...>& layer) {
  static_assert((impl::kQuantises<To, std::remove_cvref_t<B>> || ...),
                "moe: no block of this depth layer has a quantise<To>(const Block&)");
  return [&]<std::size_t... kI>(std::index_sequence<kI...>) {
    return DepthLayer<R, decltype(impl::quantised_block<To>(layer.template block<kI>()))...>(
        layer.routers(), layer.options(), impl::quantised_block<To>(layer.template block<kI>())...);
  }
  (std::index_sequence_for<B...>{});
}

MOE_NAMESPACE_END
