// Layers side by side over the same rows, their results beside each other or added up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/depth/layer_calls.hpp"
#include "moe/depth/layer_group.hpp"
#include "moe/depth/layer_list.hpp"
#include "moe/kernel/row.hpp"
#include "moe/layer/call/arguments.hpp"
#include "moe/layer/call/output.hpp"
#include "moe/layer/call/rollback.hpp"

MOE_NAMESPACE_BEGIN

/// y = (L_0(x), L_1(x), ...), as wide as all of them together, or y = L_0(x) + L_1(x) + ..., in this order.
enum class Join : std::uint8_t { add, concatenate };

/// Branches of one type, as many as there are in the vector, or of several types, one of each. Every branch's
/// layer gets the call as it is (router_x is refused). Rows that take no part are 0; a row that any branch
/// isolates is NaN throughout and has no gradient of y. Losses, counts and observer: as Chain's. dx is the
/// sum over the branches, ascending; gradients of a part that several refer to are one object, added to in
/// this order.
template <class L, class... More>
class Parallel : public LayerGroup<L, More...>, public impl::RefusedCalls<Parallel<L, More...>> {
  using Group = LayerGroup<L, More...>;
  using Refused = impl::RefusedCalls<Parallel>;

 public:
  using Real = typename Group::Real;
  using Group::coupling;
  using Group::kTrainable;
  using typename Group::Gradients;
  using typename Group::LayerGradients;
  using typename Group::Layers;

  /// Reusable; allocates while it warms up.
  class Tape {
   public:
    /// Rows of the call on the tape, 0 when there is none.
    Index tokens() const noexcept { return writer_ ? shape_.tokens : 0; }
    /// The branches' tapes: a vector of one type, else a tuple.
    const auto& layers() const noexcept { return layers_; }

   private:
    friend class Parallel;
    using Tapes = impl::LayersOf<typename L::Tape, typename More::Tape...>;
    explicit Tape(Tapes layers) : layers_(std::move(layers)) {}

    impl::Writer writer_;
    CallShape shape_{};
    Buffer<bool> active_;  // [T]
    Tapes layers_;
  };

  /// Throws config_error for no branches, branches that do not read rows of one width and, to be added, that
  /// do not write rows of one width.
  explicit Parallel(Layers branches, Join join = Join::add)
      : Group("branch", std::move(branches)), join_(join) {
    require_fit<config_error>();
  }

  Join join() const noexcept { return join_; }
  /// D: columns of x.
  Index width() const noexcept {
    Index width = 0;
    impl::each_layer([&](Index i, const auto& branch) { width = i == 0 ? Index{branch.width()} : width; },
                     this->layers());
    return width;
  }
  /// Columns of y.
  Index out_width() const noexcept {
    Index all = 0;
    impl::each_layer(
        [&](Index i, const auto& branch) {
          const Index own = impl::out_width_of(branch);
          all = i == 0 ? own : join_ == Join::add ? all : all + own;
        },
        this->layers());
    return all;
  }

  /// Bytes of workspace that a call of this shape takes.
  Index workspace_bytes(const CallShape& shape, Mode mode = Mode::inference, Index concurrency = 1) const {
    this->require_there();
    Arena arena;
    static_cast<void>(Forward(*this, arena, shape, mode, concurrency, nullptr, nullptr));
    arena.rewind(0);
    if (mode == Mode::training) Backward(*this, arena, shape, concurrency);
    return arena.bytes();
  }
  Index workspace_bytes(Index tokens, Mode mode = Mode::inference, Index concurrency = 1) const {
    return workspace_bytes(CallShape{tokens, tokens}, mode, concurrency);
  }

  using Refused::backward, Refused::forward, Refused::forward_train;

  /// Y from X. Nothing is written if a branch refuses: what it throws is that layer's.
  template <Executor X = SerialExecutor>
  void forward(const LayerInput<Real>& in, LayerOutput<Real>& out, Workspace& workspace,
               X&& executor = X{}) const {
    run<void>(in, out, nullptr, workspace, executor);
  }

  /// What forward_train fills.
  Tape make_tape() const requires kTrainable { return Tape(Group::make_tapes(this->layers())); }

  /// Same, and writes the tape. What the first branch refuses leaves the tape as it was; what a later one
  /// refuses leaves an empty one.
  template <Executor X = SerialExecutor>
  void forward_train(const LayerInput<Real>& in, LayerOutput<Real>& out, Tape& tape, Workspace& workspace,
                     X&& executor = X{}) const requires kTrainable {
    run<Tape>(in, out, &tape, workspace, executor);
    tape.writer_.set(this->identity());
  }

  /// Gradients of sum(dy * y) + auxiliary_scale * losses at the call on the tape. Throws as MoeLayer's,
  /// before anything is written.
  template <Executor X = SerialExecutor>
  void backward(const Tape& tape, const LayerGradients& gradients, Workspace& workspace,
                X&& executor = X{}) const requires kTrainable {
    this->require_there();
    require_fit<state_error>();
    tape.writer_.require("tape", this->identity());
    this->require_tapes(tape.layers_);
    const Index tokens = tape.shape_.tokens;
    this->check_backward(gradients, tokens, width(), out_width());
    Arena measuring;
    static_cast<void>(Backward(*this, measuring, tape.shape_, executor.concurrency()));
    Arena arena = workspace.arena(measuring.bytes(), Mode::training, executor.concurrency());
    const Backward memory(*this, arena, tape.shape_, executor.concurrency());
    // What one branch isolated has no gradient in the others either.
    executor.parallel_for(tokens, [&](Index t, Index) noexcept {
      if (tape.active_[t]) {
        copy_row(gradients.dy.row(t), memory.dy.row(t), memory.dy.cols);
      } else {
        fill_row(Real{0}, memory.dy.row(t), memory.dy.cols);
      }
    });
    Index column = 0;
    impl::each_layer(
        [&](Index i, const auto& branch, const auto& taped) {
          const MatrixView<Real> dx = i == 0 || !gradients.dx ? gradients.dx : memory.dx;
          const MatrixView<Real> dy =
              block(memory.dy, join_ == Join::add ? 0 : column, impl::out_width_of(branch));
          Workspace inner = impl::fixed_workspace(memory.inner, memory.bytes);
          branch.backward(taped, this->own_gradients(i, branch, dy, dx, gradients), inner, executor);
          column += dy.cols;
          if (i == 0 || !gradients.dx) return;
          executor.parallel_for(
              tokens, [&](Index t, Index) noexcept { add_row(dx.row(t), gradients.dx.row(t), dx.cols); });
        },
        this->layers(), tape.layers_);
  }

 private:
  /// What a forward takes.
  struct Forward {
    MatrixView<Real> rows;  // [T, sum of out widths] the branches' results
    Index bytes;
    std::byte* inner;
    impl::CallRollback rollback;

    Forward(const Parallel& of, Arena& arena, const CallShape& shape, Mode mode, Index concurrency,
            DrawCounter* draws, RouteStats* stats)
        : rows(impl::take_rows<Real>(arena, shape.tokens, of.all_widths())),
          bytes(impl::most_workspace(of.layers(), shape, mode, concurrency)),
          inner(arena.take<std::byte>(bytes)),
          rollback(draws, stats, of.counted_experts(), arena) {}
  };
  /// What a backward takes.
  struct Backward {
    MatrixView<Real> dy;  // [T, out width], 0 for rows that take no part
    MatrixView<Real> dx;  // [T, D] of one branch
    Index bytes;
    std::byte* inner;

    Backward(const Parallel& of, Arena& arena, const CallShape& shape, Index concurrency)
        : dy(impl::take_rows<Real>(arena, shape.tokens, of.out_width())),
          dx(impl::take_rows<Real>(arena, shape.tokens, of.width())),
          bytes(impl::most_workspace(of.layers(), shape, Mode::training, concurrency)),
          inner(arena.take<std::byte>(bytes)) {}
  };

  Index all_widths() const noexcept {
    Index all = 0;
    impl::each_layer([&](Index, const auto& branch) { all += impl::out_width_of(branch); }, this->layers());
    return all;
  }
  /// Columns [first, first + cols).
  static MatrixView<Real> block(const MatrixView<Real>& of, Index first, Index cols) noexcept {
    MatrixView<Real> view = of;
    view.data += first;
    view.cols = cols;
    return view;
  }

  /// `tape` is null in forward().
  template <class TapeType, Executor X>
  void run(const LayerInput<Real>& in, LayerOutput<Real>& out, TapeType* tape, Workspace& workspace,
           X& executor) const {
    constexpr bool kTaped = !std::is_void_v<TapeType>;
    this->require_there();
    require_fit<state_error>();
    const bool training = in.mode == Mode::training || (in.mode == Mode::by_call && kTaped);
    impl::check_layers_call(in, out, width(), out_width(), 0, coupling(training), training);
    const Index tokens = in.x.rows;
    const CallShape shape{tokens, in.segments.count(tokens), in.options};
    const Mode mode = kTaped ? Mode::training : Mode::inference;
    Arena measuring;
    static_cast<void>(Forward(*this, measuring, shape, mode, executor.concurrency(), nullptr, nullptr));
    Arena arena = workspace.arena(measuring.bytes(), mode, executor.concurrency());
    Forward memory(*this, arena, shape, mode, executor.concurrency(), in.draws, out.stats);
    AuxiliaryLosses losses;
    Index column = 0;
    const auto run_branch = [&](const auto& branch, auto taped) {
      const LayerInput<Real> own = impl::borrow_input(in, in.x);
      LayerOutput<Real> after(block(memory.rows, column, impl::out_width_of(branch)));
      after.observer = out.observer;
      if (impl::counted_experts(branch) == this->counted_experts()) after.stats = out.stats;
      Workspace inner = impl::fixed_workspace(memory.inner, memory.bytes);
      if constexpr (kTaped) {
        branch.forward_train(own, after, *taped, inner, executor);
        tape->writer_.clear();
      } else {
        branch.forward(own, after, inner, executor);
      }
      losses.add(after.losses);
      column += after.y.cols;
    };
    if constexpr (kTaped) {
      this->require_tapes(tape->layers_);
      impl::each_layer([&](Index, const auto& branch, auto& taped) { run_branch(branch, &taped); },
                       this->layers(), tape->layers_);
      tape->shape_ = shape;
      tape->active_.resize(tokens);
    } else {
      impl::each_layer([&](Index, const auto& branch) { run_branch(branch, nullptr); }, this->layers());
    }
    executor.parallel_for(tokens, [&](Index t, Index) noexcept {
      const bool spoiled = join_row(memory.rows.row(t), out.y.row(t));
      if constexpr (kTaped) tape->active_[t] = impl::takes_part(in, t) && !spoiled;
    });
    out.losses = losses;
    memory.rollback.keep();
  }

  /// Whether a branch isolated the row, which then is NaN.
  bool join_row(const Real* results, Real* y) const noexcept {
    bool spoiled = false;
    Index column = 0;
    impl::each_layer(
        [&](Index i, const auto& branch) {
          const Index own = impl::out_width_of(branch);
          const Real* const result = results + column;
          spoiled = spoiled || impl::is_spoiled(result, own);
          if (join_ == Join::concatenate) {
            copy_row(result, y + column, own);
          } else if (i == 0) {
            copy_row(result, y, own);
          } else {
            add_row(result, y, own);
          }
          column += own;
        },
        this->layers());
    if (spoiled) fill_row(std::numeric_limits<Real>::quiet_NaN(), y, out_width());
    return spoiled;
  }

  template <class Error>
  void require_fit() const {
    const Index reads = width(), writes = out_width();
    impl::each_layer(
        [&](Index i, const auto& branch) {
          if (Index{branch.width()} != reads) {
            fail<Error>("branch ", i, ": expected a layer of width ", reads, ", as the first reads, got ",
                        Index{branch.width()});
          }
          if (join_ == Join::add && impl::out_width_of(branch) != writes) {
            fail<Error>("branch ", i, ": expected results of ", writes,
                        " columns to add, as the first's, got ", impl::out_width_of(branch));
          }
        },
        this->layers());
  }

  Join join_;
};

template <class L>
Parallel(std::vector<L>, Join = Join::add) -> Parallel<L>;
template <class L, class... More>
Parallel(std::tuple<L, More...>, Join = Join::add) -> Parallel<L, More...>;

MOE_NAMESPACE_END
