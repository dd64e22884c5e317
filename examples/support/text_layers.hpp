// The MoE layers of a model, one for each block, as one thing: each has parts of its own, or they share some.
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "any_layer.hpp"
#include "moe/depth/shared_parts.hpp"
#include "moe/executor/pool.hpp"

namespace example {

/// With tapes and gradients. `i`: of the block.
class TextLayers {
 public:
  using Input = ErasedLayer::Input;
  using Output = ErasedLayer::Output;
  using Back = ErasedLayer::Back;
  using VisitParameter = ErasedLayer::VisitParameter;
  using VisitStorage = ErasedLayer::VisitStorage;
  using VisitState = ErasedLayer::VisitState;

  virtual ~TextLayers() = default;
  virtual Index size() const = 0;
  virtual Index width() const = 0;
  /// Whether in inference a row depends on no other.
  virtual bool by_row() const = 0;
  /// Columns that layer i hands on, if that is as many as layer i - 1 does.
  virtual Index carry_width(Index i) const = 0;
  virtual void forward(Index i, Input& in, Output& out, moe::Workspace& workspace,
                       moe::PoolExecutor& pool) = 0;
  virtual void forward_train(Index i, Input& in, Output& out, moe::Workspace& workspace,
                             moe::PoolExecutor& pool) = 0;
  virtual void backward(Index i, const Back& back, moe::Workspace& workspace, moe::PoolExecutor& pool) = 0;
  /// `stats`: of every layer, counted since the last step.
  virtual void on_step_end(const std::vector<const moe::RouteStats*>& stats) = 0;

  /// What optimisers and archives ask for.
  template <class Visitor>
  void visit_storage(Visitor&& f) {
    show_storage(std::ref(f));
  }
  template <class Visitor>
  void visit_parameters(Visitor&& f) {
    show_parameters(std::ref(f));
  }
  template <class Visitor>
  void visit_state(Visitor&& f) {
    show_state(std::ref(f));
  }

 private:
  virtual void show_storage(const VisitStorage& f) = 0;
  virtual void show_parameters(const VisitParameter& f) = 0;
  virtual void show_state(const VisitState& f) = 0;
};

/// L: AnyLayer, or a MoeLayer that refers to shared parts.
template <class L>
class HeldTextLayers : public TextLayers {
 public:
  /// `parts`: what the layers refer to. `counted_together`: routers are told what all layers chose.
  explicit HeldTextLayers(moe::SharedParts<L> layers, std::shared_ptr<void> parts = {},
                          bool counted_together = false)
      : parts_(std::move(parts)),
        layers_(std::move(layers)),
        gradients_(layers_.make_gradients()),
        counted_together_(counted_together) {
    for (Index i = 0; i < size(); ++i) tapes_.push_back(layers_[i].make_tape());
  }

  Index size() const override { return layers_.size(); }
  Index width() const override { return layers_[0].width(); }
  bool by_row() const override { return impl::coupled(layers_, false) == moe::Coupling::row_independent; }
  Index carry_width(Index i) const override {
    const Index own = moe::impl::carry_width_of(layers_[i]);
    return i == 0 || own == moe::impl::carry_width_of(layers_[i - 1]) ? own : 0;
  }
  void forward(Index i, Input& in, Output& out, moe::Workspace& workspace, moe::PoolExecutor& pool) override {
    layers_[i].forward(in, out, workspace, pool);
  }
  void forward_train(Index i, Input& in, Output& out, moe::Workspace& workspace,
                     moe::PoolExecutor& pool) override {
    prepare(i, in);
    layers_[i].forward_train(in, out, tapes_[static_cast<std::size_t>(i)], workspace, pool);
  }
  void backward(Index i, const Back& back, moe::Workspace& workspace, moe::PoolExecutor& pool) override {
    typename L::LayerGradients own = layers_.gradients_of(i, back.dy, back.dx, gradients_);
    own.advantage = back.advantage.borrow();
    own.dcarry_out = back.dcarry_out;
    own.dcarry = back.dcarry;
    layers_[i].backward(tapes_[static_cast<std::size_t>(i)], own, workspace, pool);
  }
  void on_step_end(const std::vector<const moe::RouteStats*>& stats) override {
    moe::RouteStats all;
    if (counted_together_) {
      for (const moe::RouteStats* own : stats) all.add(*own);
    }
    for (Index i = 0; i < size(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      if constexpr (requires { layers_[i].router(); }) {
        if (i > 0 && &layers_[i].router() == &layers_[0].router()) continue;  // it has been told
      }
      impl::end_step(layers_[i], counted_together_ ? all : *stats[at], gradients_.layers[at]);
    }
  }

 private:
  /// What a call that trains is to bring besides.
  virtual void prepare(Index, Input&) {}

  void show_storage(const VisitStorage& f) override { layers_.visit_storage(gradients_, f); }
  void show_parameters(const VisitParameter& f) override { layers_.visit_parameters(gradients_, f); }
  void show_state(const VisitState& f) override { layers_.visit_state(f); }

  std::shared_ptr<void> parts_;
  moe::SharedParts<L> layers_;
  typename moe::SharedParts<L>::Gradients gradients_;
  std::vector<typename L::Tape> tapes_;
  bool counted_together_;
};

}  // namespace example
