// Layers one after the other: h_0 = x, h_t = L_t(h_{t-1}), y = h_C. With routers of their own over one bank
// that is Chain-of-Experts, 2506.18945; of two layers with banks of their own, CartesianMoE, 2410.16077.
#pragma once

#include <cstddef>
#include <cstdint>
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
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/layer/call/arguments.hpp"
#include "moe/layer/call/output.hpp"
#include "moe/layer/call/rollback.hpp"

MOE_NAMESPACE_BEGIN

/// `inner`: every step adds the rows it got to what its layer made of them, h_t = L_t(h_{t-1}) + h_{t-1}.
enum class Residual : std::uint8_t { none, inner };

/// Steps of one type, as many as there are in the vector, or of several types, one of each. A step's layer
/// gets the caller's columns, segments and options, and rows that the step before made. Rows that take no
/// part are 0 after every step. A row that a step isolates is NaN in y and has no gradient.
///
/// With a `halt`, in calls that do not train, a row to which a step added less than that part of its length
/// takes no part in further steps and stays as it is.
///
/// Losses of all steps are added up by name. Counts are added of the steps whose layers have as many experts
/// as the first, and an observer sees every step; of one step: tape.routes of that layer's tape. Gradients of
/// a bank or router that several steps refer to are one object, that of the first of them, and are added to
/// from the last step to the first.
template <class L, class... More>
class Chain : public LayerGroup<L, More...>, public impl::RefusedCalls<Chain<L, More...>> {
  using Group = LayerGroup<L, More...>;
  using Refused = impl::RefusedCalls<Chain>;

 public:
  using Real = typename Group::Real;
  using Group::coupling;
  using Group::kTrainable;
  using typename Group::Gradients;
  using typename Group::LayerGradients;
  using typename Group::Layers;

  /// Reusable; allocates while it warms up. What a step's backward needs is on that layer's own tape, which
  /// has the only copy of the step's rows.
  class Tape {
   public:
    /// Rows of the call on the tape, 0 when there is none.
    Index tokens() const noexcept { return writer_ ? shape_.tokens : 0; }
    /// The steps' tapes: a vector of one type, else a tuple.
    const auto& layers() const noexcept { return layers_; }

   private:
    friend class Chain;
    using Tapes = impl::LayersOf<typename L::Tape, typename More::Tape...>;
    explicit Tape(Tapes layers) : layers_(std::move(layers)) {}

    impl::Writer writer_;
    CallShape shape_{};
    bool had_carry_ = false;
    Buffer<bool> active_;  // [T]
    Tapes layers_;
  };

  /// Throws config_error for no steps, and unless every step's rows, and what it hands on, are as wide as the
  /// next one reads; for a halt below 0, not finite, or of steps that do not add to their rows or hand
  /// something on.
  explicit Chain(Layers steps, Residual residual = Residual::none, double halt = 0)
      : Group("step", std::move(steps)), residual_(residual), halt_(halt) {
    if (!(halt >= 0 && is_finite(halt))) {
      fail<config_error>("halt: expected a finite part of a row's length >= 0, got ", halt);
    }
    if (halt > 0 && (residual != Residual::inner || carry_width() > 0)) {
      fail<config_error>("halt: expected steps that add to their rows and hand nothing on, got a halt of ",
                         halt);
    }
    require_fit<config_error>();
  }

  Residual residual() const noexcept { return residual_; }
  double halt() const noexcept { return halt_; }
  /// D: columns of x, of every step's rows and of y.
  Index width() const noexcept {
    Index width = 0;
    impl::each_layer([&](Index i, const auto& step) { width = i == 0 ? Index{step.width()} : width; },
                     this->layers());
    return width;
  }

  /// R: columns of what the steps hand on; 0: nothing.
  Index carry_width() const noexcept {
    Index width = 0;
    impl::each_layer(
        [&](Index, const auto& step) { width = width == 0 ? impl::carry_width_of(step) : width; },
        this->layers());
    return width;
  }

  /// Bytes of workspace that a call of this shape takes.
  Index workspace_bytes(const CallShape& shape, Mode mode = Mode::inference, Index concurrency = 1) const {
    this->require_there();
    Arena arena;
    static_cast<void>(Memory(*this, arena, shape, mode, concurrency, nullptr, nullptr));
    return arena.bytes();
  }
  Index workspace_bytes(Index tokens, Mode mode = Mode::inference, Index concurrency = 1) const {
    return workspace_bytes(CallShape{tokens, tokens}, mode, concurrency);
  }

  using Refused::backward, Refused::forward, Refused::forward_train;

  /// Y from X. Nothing is written if a step refuses: what it throws is that layer's.
  template <Executor X = SerialExecutor>
  void forward(const LayerInput<Real>& in, LayerOutput<Real>& out, Workspace& workspace,
               X&& executor = X{}) const {
    run<void>(in, out, nullptr, workspace, executor);
  }

  /// What forward_train fills.
  Tape make_tape() const requires kTrainable { return Tape(Group::make_tapes(this->layers())); }

  /// Same, and writes the tape. What the first step refuses leaves the tape as it was; what a later step
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
    this->check_backward(gradients, tokens, width(), width(), carry_width(), tape.had_carry_);
    Arena measuring;
    static_cast<void>(
        Memory(*this, measuring, tape.shape_, Mode::training, executor.concurrency(), nullptr, nullptr));
    Arena arena = workspace.arena(measuring.bytes(), Mode::training, executor.concurrency());
    Memory memory(*this, arena, tape.shape_, Mode::training, executor.concurrency(), nullptr, nullptr);
    const Carriers carriers(this->layers());
    ConstMatrixView<Real> dh = gradients.dy, dcarry = gradients.dcarry_out;
    impl::each_layer_back(
        [&](Index i, const auto& step, const auto& taped) {
          const MatrixView<Real> before = i == 0 ? gradients.dx : memory.rows[i % 2];
          auto own = this->own_gradients(i, step, dh, before, gradients);
          if constexpr (requires { own.dcarry_out; }) {
            if (impl::carry_width_of(step) > 0) {
              own.dcarry_out = dcarry;
              own.dcarry = i == carriers.first ? gradients.dcarry : memory.other_carry(dcarry);
              dcarry = own.dcarry;
            }
          }
          Workspace inner = memory.workspace();
          step.backward(taped, own, inner, executor);
          if (before && residual_ == Residual::inner) add_active(dh, before, tape.active_.data(), executor);
          dh = before;
        },
        this->layers(), tape.layers_);
  }

 private:
  /// The first and the last step that hand something on.
  struct Carriers {
    Index first = -1, last = -1;
    explicit Carriers(const Layers& steps) {
      impl::each_layer(
          [&](Index i, const auto& step) {
            if (impl::carry_width_of(step) == 0) return;
            first = first < 0 ? i : first;
            last = i;
          },
          steps);
    }
  };

  /// What a call takes, either way.
  struct Memory {
    MatrixView<Real>
        rows[2];  // [T, D] between the steps: step i writes rows[i % 2], or reads its gradient there
    MatrixView<Real> carry[2];  // [T, R] what steps hand on, by turns
    bool* going;                // [T] rows that take part in the next step, if rows may halt
    Index bytes;
    std::byte* inner;
    impl::CallRollback rollback;

    Memory(const Chain& chain, Arena& arena, const CallShape& shape, Mode mode, Index concurrency,
           DrawCounter* draws, RouteStats* stats)
        : bytes(impl::most_workspace(chain.layers(), shape, mode, concurrency)),
          inner(arena.take<std::byte>(bytes)),
          rollback(draws, stats, chain.counted_experts(), arena) {
      going = arena.take<bool>(chain.halt_ > 0 ? shape.tokens : 0);
      const Index between = chain.size() - 1 < 2 ? chain.size() - 1 : 2;
      // Of two steps, what lies between them is gradient 1 and rows 0.
      if (between > 0) rows[0] = rows[1] = impl::take_rows<Real>(arena, shape.tokens, chain.width());
      if (between > 1) rows[1] = impl::take_rows<Real>(arena, shape.tokens, chain.width());
      const Index carried = between > 0 ? chain.carry_width() : 0;
      for (auto& rows_of_carry : carry) {
        if (carried > 0) rows_of_carry = impl::take_rows<Real>(arena, shape.tokens, carried);
      }
    }
    /// Which of the two `used` is not.
    MatrixView<Real> other_carry(const ConstMatrixView<Real>& used) const noexcept {
      return carry[used.data == carry[0].data ? 1 : 0];
    }
    Workspace workspace() const { return impl::fixed_workspace(inner, bytes); }
  };

  /// `tape` is null in forward().
  template <class TapeType, Executor X>
  void run(const LayerInput<Real>& in, LayerOutput<Real>& out, TapeType* tape, Workspace& workspace,
           X& executor) const {
    constexpr bool kTaped = !std::is_void_v<TapeType>;
    this->require_there();
    require_fit<state_error>();
    const bool training = in.mode == Mode::training || (in.mode == Mode::by_call && kTaped);
    impl::check_layers_call(in, out, width(), width(), carry_width(), coupling(training), training);
    const Index tokens = in.x.rows, last = this->size() - 1;
    const CallShape shape{tokens, in.segments.count(tokens), in.options};
    const Mode mode = kTaped ? Mode::training : Mode::inference;
    Arena measuring;
    static_cast<void>(Memory(*this, measuring, shape, mode, executor.concurrency(), nullptr, nullptr));
    Arena arena = workspace.arena(measuring.bytes(), mode, executor.concurrency());
    Memory memory(*this, arena, shape, mode, executor.concurrency(), in.draws, out.stats);
    AuxiliaryLosses losses;
    const Carriers carriers(this->layers());
    const bool halts = halt_ > 0 && !training;
    for (Index t = 0; halts && t < tokens; ++t) memory.going[t] = impl::takes_part(in, t);
    ConstMatrixView<Real> h = in.x, carry = in.carry;
    const auto step_through = [&](Index i, const auto& step, auto taped) {
      LayerInput<Real> own = impl::borrow_input(in, h);
      own.carry = carry;
      if (halts) own.valid = {memory.going, static_cast<std::size_t>(tokens)};
      LayerOutput<Real> after(i == last ? out.y : memory.rows[i % 2]);
      after.observer = out.observer;
      if (impl::carry_width_of(step) > 0) {
        after.carry = i == carriers.last ? out.carry : memory.other_carry(carry);
        carry = after.carry;
      }
      if (impl::counted_experts(step) == this->counted_experts()) after.stats = out.stats;
      Workspace inner = memory.workspace();
      if constexpr (kTaped) {
        step.forward_train(own, after, *taped, inner, executor);
        tape->writer_.clear();
      } else {
        step.forward(own, after, inner, executor);
      }
      if (residual_ == Residual::inner) {
        executor.parallel_for(tokens, [&](Index t, Index) noexcept {
          if (!impl::takes_part(in, t)) return;
          const Real* const before = h.row(t);
          Real* const y = after.y.row(t);
          if (halts && memory.going[t]) {
            memory.going[t] = !(squared_norm(y, h.cols) < least_ * squared_norm(before, h.cols));
          }
          add_row(before, y, h.cols);  // of rows that take no part y is 0
        });
      }
      losses.add(after.losses);
      h = after.y;
    };
    if constexpr (kTaped) {
      this->require_tapes(tape->layers_);
      impl::each_layer([&](Index i, const auto& step, auto& taped) { step_through(i, step, &taped); },
                       this->layers(), tape->layers_);
      tape->shape_ = shape;
      tape->had_carry_ = static_cast<bool>(in.carry);
      tape->active_.resize(tokens);
      for (Index t = 0; t < tokens; ++t) {
        tape->active_[t] = impl::takes_part(in, t) && !impl::is_spoiled(out.y.row(t), width());
      }
    } else {
      impl::each_layer([&](Index i, const auto& step) { step_through(i, step, nullptr); }, this->layers());
    }
    out.losses = losses;
    memory.rollback.keep();
  }

  template <class X>
  static void add_active(const ConstMatrixView<Real>& from, const MatrixView<Real>& to, const bool* active,
                         X& executor) {
    executor.parallel_for(to.rows, [&](Index t, Index) noexcept {
      if (active[t]) add_row(from.row(t), to.row(t), to.cols);
    });
  }

  template <class Error>
  void require_fit() const {
    const Index reads = width();
    impl::each_layer(
        [&](Index i, const auto& step) {
          if (Index{step.width()} != reads || impl::out_width_of(step) != reads) {
            fail<Error>("step ", i, ": expected a layer of width ", reads,
                        ", as the first reads, got one from ", Index{step.width()}, " to ",
                        impl::out_width_of(step));
          }
        },
        this->layers());
  }

  Residual residual_;
  double halt_;
  Real least_ = static_cast<Real>(halt_ * halt_);
};

template <class L>
Chain(std::vector<L>, Residual = Residual::none, double = 0) -> Chain<L>;
template <class L, class... More>
Chain(std::tuple<L, More...>, Residual = Residual::none, double = 0) -> Chain<L, More...>;

MOE_NAMESPACE_END
