// Calls of a layer all of whose layers run in every call, one after the other (Chain, Parallel): checks,
// memory, tape, losses, counts, and what a refusal leaves behind. What one layer reads and where its results
// go says the layer that is made of them.
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/depth/layer_calls.hpp"
#include "moe/depth/layer_group.hpp"
#include "moe/depth/layer_list.hpp"
#include "moe/layer/call/arguments.hpp"
#include "moe/layer/call/measured_calls.hpp"
#include "moe/layer/call/output.hpp"
#include "moe/layer/call/rollback.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// Base of a `Layer` that has, for this class to call,
///   Forward, Backward        views of what a call takes, made of (layer, arena, shape)
///   require_fit<Error>()     throws Error unless the layers fit together
///   calls(in, out, memory, training, executor)    what is called, in order, as f(i, layer, run): it makes
///   the
///                            layer's input and output and calls run(input, output), once
///   join(out, memory, executor)    after the last of them
template <class Layer, class... Ls>
class GroupCalls : public LayerGroup<Ls...>, public RefusedCalls<Layer>, public MeasuredCalls<Layer> {
  using Group = LayerGroup<Ls...>;
  using Refused = RefusedCalls<Layer>;
  using Measured = MeasuredCalls<Layer>;
  friend Measured;

 public:
  using Real = typename Group::Real;
  using Group::kTrainable;
  using typename Group::Layers;

  /// Reusable; allocates while it warms up. What a layer's backward needs is on that layer's own tape, which
  /// has the only copy of its rows.
  class Tape {
   public:
    /// Rows of the call on the tape, 0 when there is none.
    Index tokens() const noexcept { return writer_ ? shape_.tokens : 0; }
    /// The layers' tapes: a vector of one type, else a tuple.
    const auto& layers() const noexcept { return layers_; }

   private:
    friend class GroupCalls;
    friend Layer;
    using Tapes = LayersOf<typename Ls::Tape...>;
    explicit Tape(Tapes layers) : layers_(std::move(layers)) {}

    Writer writer_;
    CallShape shape_{};
    bool had_carry_ = false;
    Buffer<bool> active_;  // [T] rows that take part and that no layer isolated
    Tapes layers_;
  };

  using Refused::backward, Refused::forward, Refused::forward_train;

  /// Y from X. Nothing is written if a layer refuses: what it throws is that layer's.
  template <Executor X = SerialExecutor>
  void forward(const LayerInput<Real>& in, LayerOutput<Real>& out, Workspace& workspace,
               X&& executor = X{}) const {
    run<void>(in, out, nullptr, workspace, executor);
  }

  /// What forward_train fills.
  Tape make_tape() const requires kTrainable { return Tape(Group::make_tapes(this->layers())); }

  /// Same, and writes the tape. What the first layer refuses leaves the tape as it was; what a later one
  /// refuses leaves an empty one.
  template <Executor X = SerialExecutor>
  void forward_train(const LayerInput<Real>& in, LayerOutput<Real>& out, Tape& tape, Workspace& workspace,
                     X&& executor = X{}) const requires kTrainable {
    run<Tape>(in, out, &tape, workspace, executor);
    tape.writer_.set(this->identity());
  }

 protected:
  using Group::Group;

  /// The most that one of the layers takes.
  struct Inner {
    Index bytes;
    std::byte* data;
    Inner(const GroupCalls& of, Arena& arena, const CallShape& shape, Mode mode, Index concurrency)
        : bytes(most_workspace(of.layers(), shape, mode, concurrency)), data(arena.take<std::byte>(bytes)) {}
    Workspace workspace() const { return fixed_workspace(data, bytes); }
  };

  /// Throws state_error unless the layer is there and the tape one of its calls.
  void require_tape(const Tape& tape) const {
    require_parts();
    tape.writer_.require("tape", this->identity());
    this->require_tapes(tape.layers_);
  }

 private:
  const Layer& self() const noexcept { return static_cast<const Layer&>(*this); }
  void require_parts() const {
    this->require_there();
    self().template require_fit<state_error>();
  }

  void measure_forward(Arena& arena, const CallShape& shape, Mode mode, Index concurrency) const {
    this->require_there();
    static_cast<void>(Inner(*this, arena, shape, mode, concurrency));
    static_cast<void>(CallRollback(nullptr, nullptr, LayerCounts{*this}, arena));
    static_cast<void>(typename Layer::Forward(self(), arena, shape));
  }
  void measure_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    static_cast<void>(Inner(*this, arena, shape, Mode::training, concurrency));
    static_cast<void>(typename Layer::Backward(self(), arena, shape));
  }

  /// `tape` is null in forward().
  template <class TapeType, Executor X>
  void run(const LayerInput<Real>& in, LayerOutput<Real>& out, TapeType* tape, Workspace& workspace,
           X& executor) const {
    constexpr bool kTaped = !std::is_void_v<TapeType>;
    require_parts();
    const bool training = in.mode == Mode::training || (in.mode == Mode::by_call && kTaped);
    check_layers_call(in, out, self().width(), out_width_of(self()), carry_width_of(self()),
                      Layer::coupling(training), training);
    if constexpr (kTaped) this->require_tapes(tape->layers_);
    const Index tokens = in.x.rows, experts = this->counted_experts();
    const CallShape shape{tokens, in.segments.count(tokens), in.options};
    const Mode mode = kTaped ? Mode::training : Mode::inference;
    Arena arena = this->forward_arena(workspace, shape, mode, executor.concurrency());
    const Inner inner(*this, arena, shape, mode, executor.concurrency());
    CallRollback rollback(in.draws, out.stats, LayerCounts{*this}, arena);
    const typename Layer::Forward memory(self(), arena, shape);
    AuxiliaryLosses losses;
    auto calls = self().calls(in, out, memory, training, executor);
    const auto call = [&](Index i, const auto& layer, auto* taped) {
      calls(i, layer, [&](const LayerInput<Real>& own, LayerOutput<Real>& after) {
        after.observer = out.observer;
        const Index counted = impl::counted_experts(layer);
        if (out.stats != nullptr && counted > 0) {
          after.stats = out.stats->layers.data() + i;
        }
        const bool in_sum = after.stats != nullptr && counted == experts;
        if (in_sum && after.stats->experts() == experts) add_counts(*out.stats, *after.stats, -1);
        Workspace of_layer = inner.workspace();
        if constexpr (kTaped) {
          layer.forward_train(own, after, *taped, of_layer, executor);
          tape->writer_.clear();
        } else {
          static_cast<void>(taped);
          layer.forward(own, after, of_layer, executor);
        }
        losses.add(after.losses);
        if (in_sum) add_counts(*out.stats, *after.stats, 1);
      });
    };
    if constexpr (kTaped) {
      each_layer([&](Index i, const auto& layer, auto& taped) { call(i, layer, &taped); }, this->layers(),
                 tape->layers_);
    } else {
      each_layer([&](Index i, const auto& layer) { call(i, layer, tape); }, this->layers());
    }
    self().join(out, memory, executor);
    if constexpr (kTaped) {
      tape->shape_ = shape;
      tape->had_carry_ = static_cast<bool>(in.carry);
      tape->active_.resize(tokens);
      for (Index t = 0; t < tokens; ++t) {
        tape->active_[t] = takes_part(in, t) && !is_spoiled(out.y.row(t), out.y.cols);
      }
    }
    out.losses = losses;
    rollback.keep();
  }
};

}  // namespace impl

MOE_NAMESPACE_END
