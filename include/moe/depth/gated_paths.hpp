// Paths of a layer weighed by a gate that every row passes, y = sum_i a_i L_i(x), a = softmax(W x + b).
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

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
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/kernel/softmax.hpp"
#include "moe/layer/call/arguments.hpp"
#include "moe/layer/call/measured_calls.hpp"
#include "moe/layer/call/output.hpp"
#include "moe/layer/concept.hpp"
#include "moe/layer/shown_parts.hpp"
#include "moe/product/projection.hpp"

MOE_NAMESPACE_BEGIN

/// L: the paths' results side by side, [T, n D] from [T, D], as of a Parallel that concatenates. They are
/// added in ascending order. Parameters "gate.weight" [n, D] and "gate.bias" [n], 0 at first: the mean of the
/// paths; and L's. Rows that take no part are 0. A row that L isolates, or whose gate is not finite, is NaN
/// and has no gradient of y. Hands no carry on.
template <TokenLayer L>
class GatedPaths : public impl::RefusedCalls<GatedPaths<L>>,
                   public impl::MeasuredCalls<GatedPaths<L>>,
                   public impl::ShownParts<GatedPaths<L>> {
  using Refused = impl::RefusedCalls<GatedPaths>;
  using Measured = impl::MeasuredCalls<GatedPaths>;
  using Shown = impl::ShownParts<GatedPaths>;
  friend Measured;
  friend Shown;

 public:
  using Real = typename L::Real;
  static constexpr bool kTrainable = L::kTrainable;

  struct Gradients {
    typename Projection<Real>::Gradients gate;
    typename L::Gradients layer;
  };
  /// In: dy, the scale of the losses. Out: dx (overwritten; may be absent), and added to: the gradients of
  /// gate and layer (null: frozen).
  struct LayerGradients {
    ConstMatrixView<Real> dy;
    MatrixView<Real> dx{};
    MatrixView<Real> router_dx{};  // must be absent
    double auxiliary_scale = 1;
    Gradients* all = nullptr;

    LayerGradients() = default;
    LayerGradients(ConstMatrixView<Real> dy_, MatrixView<Real> dx_) : dy(dy_), dx(dx_) {}
    LayerGradients(ConstMatrixView<Real> dy_, MatrixView<Real> dx_, Gradients& gradients)
        : dy(dy_), dx(dx_), all(&gradients) {}
  };

  class Tape {
   public:
    /// Rows of the call on the tape, 0 when there is none.
    Index tokens() const noexcept { return writer_ ? shape_.tokens : 0; }
    const typename L::Tape& layer() const noexcept { return layer_; }

   private:
    friend class GatedPaths;
    explicit Tape(typename L::Tape layer) : layer_(std::move(layer)) {}

    impl::Writer writer_;
    CallShape shape_{};
    Buffer<Real> x_;               // [T, D]
    Buffer<Real> path_;            // [T, n D]
    Buffer<Real> share_;           // [T, n]
    Buffer<std::int32_t> active_;  // rows that take part, ascending
    typename L::Tape layer_;
  };

  /// Throws config_error unless the layer's results are one or more rows of its width.
  explicit GatedPaths(L layer)
      : layer_(std::move(layer)), gate_(layer_.width(), checked_paths(layer_), /*bias=*/true) {}

  L& layer() noexcept { return layer_; }
  const L& layer() const noexcept { return layer_; }
  Projection<Real>& gate() noexcept { return gate_; }
  const Projection<Real>& gate() const noexcept { return gate_; }
  /// n.
  Index paths() const noexcept { return gate_.out(); }
  Index width() const noexcept { return layer_.width(); }
  static constexpr Coupling coupling(bool training) noexcept { return L::coupling(training); }
  Index counted_experts() const { return impl::counted_experts(layer_); }

  template <class Visitor>
  void visit_names(Visitor&& f) const {
    f("paths", "softmax");
    if constexpr (requires { layer_.visit_names(f); }) layer_.visit_names(f);
  }

  using Refused::backward, Refused::forward, Refused::forward_train;

  /// Y from X. Nothing is written if it or the layer refuses.
  template <Executor X = SerialExecutor>
  void forward(const LayerInput<Real>& in, LayerOutput<Real>& out, Workspace& workspace,
               X&& executor = X{}) const {
    run<void>(in, out, nullptr, workspace, executor);
  }

  Tape make_tape() const requires kTrainable { return Tape(layer_.make_tape()); }

  /// Same, and writes the tape. A call that is refused here leaves it as it was, one that L refuses as L
  /// leaves its own.
  template <Executor X = SerialExecutor>
  void forward_train(const LayerInput<Real>& in, LayerOutput<Real>& out, Tape& tape, Workspace& workspace,
                     X&& executor = X{}) const requires kTrainable {
    run<Tape>(in, out, &tape, workspace, executor);
  }

  /// Gradients of sum(dy * y) + auxiliary_scale * losses at the call on the tape. Throws as MoeLayer's,
  /// before anything is written.
  template <Executor X = SerialExecutor>
  void backward(const Tape& tape, const LayerGradients& gradients, Workspace& workspace,
                X&& executor = X{}) const requires kTrainable {
    require_there();
    tape.writer_.require("tape", identity_);
    const Index tokens = tape.shape_.tokens, d = width(), n = paths();
    check_backward(gradients, tokens);
    Arena arena = this->backward_arena(workspace, tape.shape_, executor.concurrency());
    const Backward memory(*this, arena, tape.shape_, executor.concurrency());
    fill_row(Real{0}, memory.dpath.data, tokens * n * d);
    executor.parallel_for(tape.active_.size(), [&](Index a, Index) noexcept {
      const Index t = tape.active_[a];
      const Real *const share = tape.share_.data() + t * n, *const path = tape.path_.data() + t * n * d;
      Real* const dshare = memory.dshare.row(t);
      for (Index i = 0; i < n; ++i) {
        dshare[i] = dot(gradients.dy.row(t), path + i * d, d);
        scale_row(share[i], gradients.dy.row(t), memory.dpath.row(t) + i * d, d);
      }
      fill_row(Real{0}, memory.dlogit.row(t), n);
      softmax_backward_row(share, dshare, memory.dlogit.row(t), n);
    });
    typename L::LayerGradients inner;
    if (gradients.all != nullptr) inner = typename L::LayerGradients({}, {}, gradients.all->layer);
    inner.dy = memory.dpath;
    inner.dx = gradients.dx;
    inner.auxiliary_scale = gradients.auxiliary_scale;
    Workspace own = impl::fixed_workspace(memory.inner, memory.bytes);
    layer_.backward(tape.layer_, inner, own, executor);
    ConstMatrixView<Real> x;  // of no rows, data may be null
    x.data = tape.x_.data();
    x.rows = tokens;
    x.cols = x.stride = d;
    gate_.backward_rows(tape.active_.data(), tape.active_.size(), x, memory.dlogit, gradients.dx,
                        gradients.all == nullptr ? nullptr : &gradients.all->gate, arena, executor);
  }

  Gradients make_gradients() const requires kTrainable {
    return {gate_.make_gradients(), layer_.make_gradients()};
  }

 private:
  template <class Visit>
  void each_part(const LayerGradients& gradients, Visit&& visit) {
    impl::NamedPart<Projection<Real>> gate{gate_, "gate"};
    visit(gate, gradients.all == nullptr ? nullptr : &gradients.all->gate);
    visit(layer_, gradients.all == nullptr ? nullptr : &gradients.all->layer);
  }

  struct Forward {
    Index bytes;
    std::byte* inner;
    MatrixView<Real> path;   // [T, n D]
    MatrixView<Real> share;  // [T, n]
    Forward(const GatedPaths& own, Arena& arena, const CallShape& shape, Mode mode, Index concurrency)
        : bytes(own.layer_.workspace_bytes(shape, mode, concurrency)),
          inner(arena.take<std::byte>(bytes)),
          path(impl::take_rows<Real>(arena, shape.tokens, own.paths() * own.width())),
          share(impl::take_rows<Real>(arena, shape.tokens, own.paths())) {
      if (arena.measuring()) own.gate_.measure(arena, shape.tokens);
    }
  };
  struct Backward {
    Index bytes;
    std::byte* inner;
    MatrixView<Real> dpath;   // [T, n D]
    MatrixView<Real> dshare;  // [T, n]
    MatrixView<Real> dlogit;  // [T, n]
    Backward(const GatedPaths& own, Arena& arena, const CallShape& shape, Index concurrency)
        : bytes(own.layer_.workspace_bytes(shape, Mode::training, concurrency)),
          inner(arena.take<std::byte>(bytes)),
          dpath(impl::take_rows<Real>(arena, shape.tokens, own.paths() * own.width())),
          dshare(impl::take_rows<Real>(arena, shape.tokens, own.paths())),
          dlogit(impl::take_rows<Real>(arena, shape.tokens, own.paths())) {
      if (arena.measuring()) own.gate_.measure_backward(arena, shape.tokens, concurrency);
    }
  };

  static Index checked_paths(const L& layer) {
    const Index d = layer.width(), all = impl::out_width_of(layer);
    if (d < 1 || all < d || all % d != 0) {
      fail<config_error>("gated paths: expected results of n rows of width ", d, " side by side, got ", all,
                         " columns");
    }
    return all / d;
  }

  void measure_forward(Arena& arena, const CallShape& shape, Mode mode, Index concurrency) const {
    require_there();
    static_cast<void>(Forward(*this, arena, shape, mode, concurrency));
  }
  void measure_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    static_cast<void>(Backward(*this, arena, shape, concurrency));
  }
  void require_there() const { impl::require_there("layer", identity_ && paths() > 0); }

  template <class TapeType, Executor X>
  void run(const LayerInput<Real>& in, LayerOutput<Real>& out, TapeType* tape, Workspace& workspace,
           X& executor) const {
    constexpr bool kTaped = !std::is_void_v<TapeType>;
    require_there();
    const bool training = in.mode == Mode::training || (in.mode == Mode::by_call && kTaped);
    impl::check_layers_call(in, out, width(), width(), 0, coupling(training), training);
    if (!in.valid.empty()) require_extent("valid", "entries", in.x.rows, static_cast<Index>(in.valid.size()));
    const Index tokens = in.x.rows, d = width(), n = paths();
    const CallShape shape{tokens, in.segments.count(tokens), in.options};
    const Mode mode = kTaped ? Mode::training : Mode::inference;
    Arena arena = this->forward_arena(workspace, shape, mode, executor.concurrency());
    const Forward memory(*this, arena, shape, mode, executor.concurrency());
    Workspace own = impl::fixed_workspace(memory.inner, memory.bytes);
    LayerOutput<Real> paths_out(memory.path, out.stats);
    paths_out.observer = out.observer;
    if constexpr (kTaped) {
      layer_.forward_train(in, paths_out, tape->layer_, own, executor);
      tape->writer_.clear();
      tape->shape_ = shape;
      tape->x_.resize(checked_product("tape", tokens, d));
      for (Index t = 0; t < tokens; ++t) copy_row(in.x.row(t), tape->x_.data() + t * d, d);
    } else {
      layer_.forward(in, paths_out, own, executor);
    }
    out.losses = paths_out.losses;
    gate_.forward(in.x, memory.share, arena, executor);
    executor.parallel_for(tokens, [&](Index t, Index) noexcept {
      Real *const share = memory.share.row(t), *const y = out.y.row(t);
      const Real* const path = memory.path.row(t);
      if (!impl::takes_part(in, t)) {
        fill_row(Real{0}, y, d);
      } else if (!all_finite(share, n) || impl::is_spoiled(path, n * d)) {
        fill_row(std::numeric_limits<Real>::quiet_NaN(), y, d);
      } else {
        softmax_row(share, share, n);
        scale_row(share[0], path, y, d);
        for (Index i = 1; i < n; ++i) axpy_row(share[i], path + i * d, y, d);
      }
    });
    if constexpr (kTaped) {
      tape->path_.copy_from(memory.path.data, tokens * n * d);
      tape->share_.copy_from(memory.share.data, tokens * n);
      tape->active_.resize(tokens);
      Index count = 0;
      for (Index t = 0; t < tokens; ++t) {
        if (impl::takes_part(in, t) && !impl::is_spoiled(out.y.row(t), d)) {
          tape->active_[count++] = static_cast<std::int32_t>(t);
        }
      }
      tape->active_.resize(count);
      tape->writer_.set(identity_);
    }
  }

  void check_backward(const LayerGradients& gradients, Index tokens) const {
    impl::check_backward_rows(gradients, tokens, width(), width());
    if (gradients.router_dx) {
      fail<config_error>("router_dx: expected none of paths whose routers read what experts read");
    }
    this->check_gradients(gradients);
  }

  L layer_;
  Projection<Real> gate_;
  impl::Identity identity_;
};

/// The layer's, with the same gate.
template <class To, class L>
auto quantise(const GatedPaths<L>& paths) {
  GatedPaths made(quantise<To>(paths.layer()));
  made.gate() = paths.gate();
  return made;
}

MOE_NAMESPACE_END
