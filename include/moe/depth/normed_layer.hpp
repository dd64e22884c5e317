// A layer of normed rows, y = L(rms_norm(x)): what a chain with residuals is made of.
#pragma once

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
#include "moe/kernel/finite.hpp"
#include "moe/kernel/rms_norm.hpp"
#include "moe/kernel/row.hpp"
#include "moe/layer/call/arguments.hpp"
#include "moe/layer/call/measured_calls.hpp"
#include "moe/layer/call/output.hpp"
#include "moe/layer/concept.hpp"
#include "moe/layer/shown_parts.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

/// Parameters "norm.scale" [D, 1], 1 at first, and L's. Rows that take no part are 0, as L gives them. Hands
/// no carry on.
template <TokenLayer L>
class NormedLayer : public impl::RefusedCalls<NormedLayer<L>>,
                    public impl::MeasuredCalls<NormedLayer<L>>,
                    public impl::ShownParts<NormedLayer<L>> {
  using Refused = impl::RefusedCalls<NormedLayer>;
  using Measured = impl::MeasuredCalls<NormedLayer>;
  using Shown = impl::ShownParts<NormedLayer>;
  friend Measured;
  friend Shown;

 public:
  using Real = typename L::Real;
  static constexpr bool kTrainable = L::kTrainable;

  struct Gradients {
    Buffer<Real> scale;  // [D]
    typename L::Gradients layer;
  };
  /// In: dy, the scale of the losses. Out: dx (overwritten; may be absent), and added to: the gradients of
  /// scale and layer (null: frozen).
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
    friend class NormedLayer;
    explicit Tape(typename L::Tape layer) : layer_(std::move(layer)) {}

    impl::Writer writer_;
    CallShape shape_{};
    Buffer<Real> x_;       // [T, D]
    Buffer<bool> active_;  // [T]
    typename L::Tape layer_;
  };

  /// Throws config_error for an eps below 0 or not finite.
  explicit NormedLayer(L layer, double eps = 1e-6) : layer_(std::move(layer)), eps_(eps) {
    if (!(eps >= 0 && is_finite(eps))) {
      fail<config_error>("norm eps: expected a finite value >= 0, got ", eps);
    }
    scale_.assign(layer_.width(), Real{1});
  }

  /// The same norm in front of another layer: see quantise(). Throws shape_error for one of another width.
  template <class Other>
  NormedLayer<Other> with_layer(Other other) const {
    require_extent("layer of normed rows", "columns", width(), Index{other.width()});
    NormedLayer<Other> made(std::move(other), eps_);
    made.scale_ = scale_;
    return made;
  }

  L& layer() noexcept { return layer_; }
  const L& layer() const noexcept { return layer_; }
  double eps() const noexcept { return eps_; }
  Index width() const noexcept { return layer_.width(); }
  static constexpr Coupling coupling(bool training) noexcept { return L::coupling(training); }
  Index counted_experts() const { return impl::counted_experts(layer_); }

  template <class Visitor>
  void visit_names(Visitor&& f) const {
    f("rows", "rms_norm");
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

  /// Same, and writes the tape. What is refused leaves the tape as it was.
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
    const Index tokens = tape.shape_.tokens, d = width();
    check_backward(gradients, tokens);
    Arena arena = this->backward_arena(workspace, tape.shape_, executor.concurrency());
    const Memory memory(*this, arena, tape.shape_, Mode::training, executor.concurrency());
    typename L::LayerGradients inner;
    if (gradients.all != nullptr) inner = typename L::LayerGradients({}, {}, gradients.all->layer);
    inner.dy = gradients.dy;
    inner.dx = memory.rows;
    inner.auxiliary_scale = gradients.auxiliary_scale;
    Workspace own = impl::fixed_workspace(memory.inner, memory.bytes);
    layer_.backward(tape.layer_, inner, own, executor);
    const auto back = [&](Index t, Real* dscale, Real* dx) noexcept {
      rms_norm_backward_row(tape.x_.data() + t * d, scale_.data(), Real{1}, static_cast<Real>(eps_),
                            memory.rows.row(t), dscale, dx, d);
    };
    for (Index t = 0; gradients.all != nullptr && t < tokens; ++t) {
      if (tape.active_[t]) back(t, gradients.all->scale.data(), nullptr);
    }
    if (!gradients.dx) return;
    executor.parallel_for(tokens, [&](Index t, Index) noexcept {
      fill_row(Real{0}, gradients.dx.row(t), d);
      if (tape.active_[t]) back(t, nullptr, gradients.dx.row(t));
    });
  }

  Gradients make_gradients() const requires kTrainable {
    return {Buffer<Real>(scale_.size()), layer_.make_gradients()};
  }

 private:
  template <TokenLayer Other>
  friend class NormedLayer;

  /// The norm's scale as a part.
  struct Scale {
    using Gradients = typename NormedLayer::Gradients;
    Buffer<Real>& values;

    template <class Visitor>
    void visit_parameters(Gradients* gradients, Visitor& f) {
      const auto view = [](Buffer<Real>& of) { return ParameterView<Real>{of.data(), of.size(), 1}; };
      f(Parameter<Real>{kName, view(values),
                        gradients == nullptr ? ParameterView<Real>{} : view(gradients->scale)});
    }
    template <class Visitor>
    void visit_storage(Gradients* gradients, Visitor& f) {
      visit_buffer(f, kName, values, gradients, &Gradients::scale);
    }
    static constexpr const char* kName = "norm.scale";
  };
  template <class Visit>
  void each_part(const LayerGradients& gradients, Visit&& visit) {
    Scale scale{scale_};
    visit(scale, gradients.all);
    visit(layer_, gradients.all == nullptr ? nullptr : &gradients.all->layer);
  }

  /// What a call takes, either way.
  struct Memory {
    Index bytes;
    std::byte* inner;
    MatrixView<Real> rows;  // [T, D] normed, or their gradients
    Memory(const NormedLayer& own, Arena& arena, const CallShape& shape, Mode mode, Index concurrency)
        : bytes(own.layer_.workspace_bytes(shape, mode, concurrency)),
          inner(arena.take<std::byte>(bytes)),
          rows(impl::take_rows<Real>(arena, shape.tokens, own.width())) {}
  };

  void measure_forward(Arena& arena, const CallShape& shape, Mode mode, Index concurrency) const {
    require_there();
    static_cast<void>(Memory(*this, arena, shape, mode, concurrency));
  }
  void measure_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    measure_forward(arena, shape, Mode::training, concurrency);
  }
  void require_there() const { impl::require_there("layer", identity_ && scale_.size() > 0); }

  template <class TapeType, Executor X>
  void run(const LayerInput<Real>& in, LayerOutput<Real>& out, TapeType* tape, Workspace& workspace,
           X& executor) const {
    constexpr bool kTaped = !std::is_void_v<TapeType>;
    require_there();
    const bool training = in.mode == Mode::training || (in.mode == Mode::by_call && kTaped);
    impl::check_layers_call(in, out, width(), width(), 0, coupling(training), training);
    if (!in.valid.empty()) require_extent("valid", "entries", in.x.rows, static_cast<Index>(in.valid.size()));
    const Index tokens = in.x.rows, d = width();
    const CallShape shape{tokens, in.segments.count(tokens), in.options};
    const Mode mode = kTaped ? Mode::training : Mode::inference;
    Arena arena = this->forward_arena(workspace, shape, mode, executor.concurrency());
    const Memory memory(*this, arena, shape, mode, executor.concurrency());
    executor.parallel_for(tokens, [&](Index t, Index) noexcept {
      if (impl::takes_part(in, t)) {
        rms_norm_row(in.x.row(t), scale_.data(), Real{1}, static_cast<Real>(eps_), memory.rows.row(t), d);
      } else {
        fill_row(Real{0}, memory.rows.row(t), d);
      }
    });
    Workspace own = impl::fixed_workspace(memory.inner, memory.bytes);
    const LayerInput<Real> normed = impl::borrow_input(in, ConstMatrixView<Real>(memory.rows));
    if constexpr (kTaped) {
      layer_.forward_train(normed, out, tape->layer_, own, executor);
      tape->writer_.clear();
      tape->shape_ = shape;
      tape->x_.resize(checked_product("tape", tokens, d));
      tape->active_.resize(tokens);
      for (Index t = 0; t < tokens; ++t) {
        copy_row(in.x.row(t), tape->x_.data() + t * d, d);
        tape->active_[t] = impl::takes_part(in, t) && !impl::is_spoiled(out.y.row(t), d);
      }
      tape->writer_.set(identity_);
    } else {
      layer_.forward(normed, out, own, executor);
    }
  }

  void check_backward(const LayerGradients& gradients, Index tokens) const {
    impl::check_backward_rows(gradients, tokens, width(), width());
    if (gradients.router_dx) {
      fail<config_error>("router_dx: expected none of a layer of normed rows, which the router reads, too");
    }
    this->check_gradients(gradients);
  }

  L layer_;
  double eps_;
  Buffer<Real> scale_;  // [D]
  impl::Identity identity_;
};

/// The layer's, with the same norm.
template <class To, class L>
auto quantise(const NormedLayer<L>& normed) {
  return normed.with_layer(quantise<To>(normed.layer()));
}

MOE_NAMESPACE_END
