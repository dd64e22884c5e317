// Any layer of the library behind virtual calls: the model and the layers made of layers compile once, and a
// layer costs its own code alone.
#pragma once

#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

#include "moe/core/column.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/depth/layer_calls.hpp"
#include "moe/executor/any.hpp"
#include "moe/layer/concept.hpp"
#include "moe/layer/shown_parts.hpp"
#include "moe/storage/parameter.hpp"

namespace example {

using moe::Index;

/// What AnyLayer calls; tapes and gradients behind void pointers.
class ErasedLayer {
 public:
  using Held = std::shared_ptr<void>;
  using Input = moe::LayerInput<float>;
  using Output = moe::LayerOutput<float>;
  using VisitParameter = std::function<void(const moe::Parameter<float>&)>;
  using VisitStorage = std::function<void(const char*, float*, float*, Index)>;
  using VisitState = std::function<void(const char*, double*, Index)>;
  using ReadState = std::function<void(const char*, const double*, Index)>;

  /// Of a backward. What a layer cannot obey is left out by who calls.
  struct Back {
    moe::ConstMatrixView<float> dy;
    moe::MatrixView<float> dx{};
    double auxiliary_scale = 1;
    moe::Column<double> advantage{};
    moe::ConstMatrixView<float> dcarry_out{};
    moe::MatrixView<float> dcarry{};
  };

  virtual ~ErasedLayer() = default;
  virtual moe::Coupling coupled(bool training) const = 0;
  virtual Index width() const = 0;
  virtual Index carry_width() const = 0;
  virtual Index counted_experts() const = 0;
  virtual Index workspace_bytes(const moe::CallShape& shape, moe::Mode mode, Index concurrency) const = 0;
  virtual Held make_tape() const = 0;
  virtual void forward(const Input& in, Output& out, moe::Workspace& workspace,
                       moe::AnyExecutor& executor) const = 0;
  virtual void forward_train(const Input& in, Output& out, void* tape, moe::Workspace& workspace,
                             moe::AnyExecutor& executor) const = 0;
  virtual void backward(const void* tape, const Back& back, void* gradients, moe::Workspace& workspace,
                        moe::AnyExecutor& executor) const = 0;
  virtual Held make_gradients() const = 0;
  virtual void visit_parameters(void* gradients, const VisitParameter& f) = 0;
  virtual void visit_storage(void* gradients, const VisitStorage& f) = 0;
  virtual void visit_state(const VisitState& f) = 0;
  virtual void visit_state(const ReadState& f) const = 0;
  virtual void on_step_end(const moe::RouteStats& stats, void* gradients) = 0;
};

namespace impl {

/// How far what it is made of looks, where the layer's own type does not say.
template <class L>
moe::Coupling coupled(const L& layer, bool training) {
  if constexpr (requires { layer.coupled(training); }) {
    return layer.coupled(training);
  } else if constexpr (requires { layer.layers(); }) {
    moe::Coupling all = moe::Coupling::row_independent;
    moe::impl::each_layer([&](Index, const auto& own) { all = moe::weakest(all, coupled(own, training)); },
                          layer.layers());
    return all;
  } else if constexpr (requires { layer.layer(); }) {
    return coupled(layer.layer(), training);
  } else {
    moe::Coupling all = L::coupling(training);
    if constexpr (requires { layer.router().coupled(training); }) {
      all = layer.router().coupled(training);  // AnyRouter's type says nothing
    }
    if constexpr (requires { layer.experts().coupled(training); }) {
      all = moe::weakest(all, layer.experts().coupled(training));
    }
    return all;
  }
}

/// The end of a step: a layer's own, or that of its layers.
template <class L, class Gradients>
void end_step(L& layer, const moe::RouteStats& stats, Gradients& gradients) {
  if constexpr (requires { layer.on_step_end(stats, gradients); }) {
    layer.on_step_end(stats, gradients);
  } else if constexpr (requires { layer.on_step_end(stats); }) {
    layer.on_step_end(stats);
  }
  if constexpr (requires { layer.experts().take_statistics(gradients.experts); }) {
    layer.experts().take_statistics(gradients.experts);
  }
}

template <moe::TokenLayer L>
class HeldLayer final : public ErasedLayer {
  using Gradients = typename L::Gradients;

 public:
  HeldLayer(L layer, Held parts) : parts_(std::move(parts)), layer_(std::move(layer)) {}

  moe::Coupling coupled(bool training) const override { return impl::coupled(layer_, training); }
  Index width() const override { return layer_.width(); }
  Index carry_width() const override { return moe::impl::carry_width_of(layer_); }
  Index counted_experts() const override { return moe::impl::counted_experts(layer_); }
  Index workspace_bytes(const moe::CallShape& shape, moe::Mode mode, Index concurrency) const override {
    return layer_.workspace_bytes(shape, mode, concurrency);
  }
  Held make_tape() const override { return std::make_shared<typename L::Tape>(layer_.make_tape()); }
  void forward(const Input& in, Output& out, moe::Workspace& workspace,
               moe::AnyExecutor& executor) const override {
    layer_.forward(in, out, workspace, executor);
  }
  void forward_train(const Input& in, Output& out, void* tape, moe::Workspace& workspace,
                     moe::AnyExecutor& executor) const override {
    layer_.forward_train(in, out, *static_cast<typename L::Tape*>(tape), workspace, executor);
  }
  void backward(const void* tape, const Back& back, void* gradients, moe::Workspace& workspace,
                moe::AnyExecutor& executor) const override {
    typename L::LayerGradients own;
    if (gradients != nullptr) own = {{}, {}, *static_cast<Gradients*>(gradients)};
    own.dy = back.dy;
    own.dx = back.dx;
    own.auxiliary_scale = back.auxiliary_scale;
    if constexpr (requires { own.advantage; }) own.advantage = back.advantage.borrow();
    if constexpr (requires { own.dcarry_out; }) {
      own.dcarry_out = back.dcarry_out;
      own.dcarry = back.dcarry;
    }
    layer_.backward(*static_cast<const typename L::Tape*>(tape), own, workspace, executor);
  }
  Held make_gradients() const override { return std::make_shared<Gradients>(layer_.make_gradients()); }
  void visit_parameters(void* gradients, const VisitParameter& f) override {
    moe::impl::show_parameters(layer_, static_cast<Gradients*>(gradients), f);
  }
  void visit_storage(void* gradients, const VisitStorage& f) override {
    moe::impl::show_storage(layer_, static_cast<Gradients*>(gradients), f);
  }
  void visit_state(const VisitState& f) override { moe::impl::visit_state_of(layer_, f); }
  void visit_state(const ReadState& f) const override { moe::impl::visit_state_of(layer_, f); }
  void on_step_end(const moe::RouteStats& stats, void* gradients) override {
    end_step(layer_, stats, *static_cast<Gradients*>(gradients));
  }

 private:
  Held parts_;  // what the layer refers to
  L layer_;
};

}  // namespace impl

/// A layer that owns any other, and the parts that the other refers to. As AnyRouter it is as coupled as can
/// be to who asks its type; what a row depends on is coupled().
class AnyLayer {
 public:
  using Real = float;
  static constexpr bool kTrainable = true;
  class Tape {
    friend class AnyLayer;
    explicit Tape(ErasedLayer::Held held) : held_(std::move(held)) {}
    ErasedLayer::Held held_;
  };
  class Gradients {
    friend class AnyLayer;
    explicit Gradients(ErasedLayer::Held held) : held_(std::move(held)) {}
    ErasedLayer::Held held_;
  };
  struct LayerGradients : ErasedLayer::Back {
    moe::MatrixView<float> router_dx{};  // must be absent
    Gradients* all = nullptr;

    LayerGradients() = default;
    LayerGradients(moe::ConstMatrixView<float> dy_, moe::MatrixView<float> dx_) {
      dy = dy_;
      dx = dx_;
    }
    LayerGradients(moe::ConstMatrixView<float> dy_, moe::MatrixView<float> dx_, Gradients& gradients)
        : LayerGradients(dy_, dx_) {
      all = &gradients;
    }
  };

  template <class L>
  requires(!std::is_same_v<L, AnyLayer> && moe::TokenLayer<L>)  // in this order: the concept asks of copies
      explicit AnyLayer(L layer, ErasedLayer::Held parts = {})
      : held_(std::make_unique<impl::HeldLayer<L>>(std::move(layer), std::move(parts))) {}

  static constexpr moe::Coupling coupling(bool) noexcept { return moe::Coupling::per_batch; }
  moe::Coupling coupled(bool training) const { return held_->coupled(training); }
  Index width() const { return held_->width(); }
  Index carry_width() const { return held_->carry_width(); }
  Index counted_experts() const { return held_->counted_experts(); }
  Index workspace_bytes(const moe::CallShape& shape, moe::Mode mode = moe::Mode::inference,
                        Index concurrency = 1) const {
    return held_->workspace_bytes(shape, mode, concurrency);
  }
  Tape make_tape() const { return Tape(held_->make_tape()); }
  template <moe::Executor X>
  void forward(const ErasedLayer::Input& in, ErasedLayer::Output& out, moe::Workspace& workspace,
               X& executor) const {
    moe::AnyExecutor any(executor);
    held_->forward(in, out, workspace, any);
  }
  template <moe::Executor X>
  void forward_train(const ErasedLayer::Input& in, ErasedLayer::Output& out, Tape& tape,
                     moe::Workspace& workspace, X& executor) const {
    moe::AnyExecutor any(executor);
    held_->forward_train(in, out, tape.held_.get(), workspace, any);
  }
  template <moe::Executor X>
  void backward(const Tape& tape, const LayerGradients& gradients, moe::Workspace& workspace,
                X& executor) const {
    moe::AnyExecutor any(executor);
    held_->backward(tape.held_.get(), gradients, of(gradients.all), workspace, any);
  }

  Gradients make_gradients() const { return Gradients(held_->make_gradients()); }
  template <class Visitor>
  void visit_parameters(Visitor&& f) {
    held_->visit_parameters(nullptr, std::ref(f));
  }
  template <class Visitor>
  void visit_parameters(Gradients& gradients, Visitor&& f) {
    held_->visit_parameters(of(&gradients), std::ref(f));
  }
  template <class Visitor>
  void visit_storage(Gradients& gradients, Visitor&& f) {
    held_->visit_storage(of(&gradients), std::ref(f));
  }
  template <class Visitor>
  void visit_storage(const LayerGradients& gradients, Visitor&& f) {
    held_->visit_storage(of(gradients.all), std::ref(f));
  }
  template <class Visitor>
  void visit_state(Visitor&& f) {
    held_->visit_state(ErasedLayer::VisitState(std::ref(f)));
  }
  template <class Visitor>
  void visit_state(Visitor&& f) const {
    std::as_const(*held_).visit_state(ErasedLayer::ReadState(std::ref(f)));
  }
  void on_step_end(const moe::RouteStats& stats, Gradients& gradients) {
    held_->on_step_end(stats, of(&gradients));
  }

 private:
  static void* of(Gradients* gradients) noexcept {
    return gradients == nullptr ? nullptr : gradients->held_.get();
  }

  std::unique_ptr<ErasedLayer> held_;
};

}  // namespace example
