// A layer as a block: experts for the rows that go deeper (MoDE, Raposo et al. 2404.02258, section 4.4).
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/column.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/depth/row_block.hpp"
#include "moe/layer/call/output.hpp"
#include "moe/layer/concept.hpp"

MOE_NAMESPACE_BEGIN

/// f(x) = L(x). The layer's call has the rows of the set, their segments and keys, and no other column.
template <TokenLayer L>
class LayerBlock {
 public:
  using Real = typename L::Real;
  /// Empty until the first call: a layer's tapes are made by the layer.
  using Tape = std::optional<typename L::Tape>;
  using Gradients = typename L::Gradients;
  static constexpr const char* kName = "layer";

  explicit LayerBlock(L layer) : layer_(std::move(layer)) {}

  L& layer() noexcept { return layer_; }
  const L& layer() const noexcept { return layer_; }
  Index width() const noexcept { return layer_.width(); }
  static constexpr Coupling coupling(bool training) noexcept { return L::coupling(training); }

  void measure(Arena& arena, const CallShape& shape, Index concurrency) const {
    arena.take<std::byte>(layer_.workspace_bytes(shape, Mode::training, concurrency));
  }
  void measure_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    measure(arena, shape, concurrency);
  }

  template <Executor X>
  void forward(const BlockCall& call, const ConstMatrixView<Real>& x, const MatrixView<Real>& y, Tape* tape,
               Arena& arena, X& executor) const {
    LayerInput<Real> in(x);
    in.segments = Segments(Column<Index>(call.segment_offsets, static_cast<std::size_t>(call.segments + 1)));
    in.row_key = {call.key, static_cast<std::size_t>(call.count)};
    in.mode = call.training ? Mode::training : Mode::inference;
    in.draws = call.draws;
    LayerOutput<Real> out(y);
    Workspace workspace = take(call, arena, executor);
    if (tape != nullptr) {
      if (!*tape) tape->emplace(layer_.make_tape());
      layer_.forward_train(in, out, **tape, workspace, executor);
    } else {
      layer_.forward(in, out, workspace, executor);
    }
    call.losses->add(out.losses);
  }

  template <Executor X>
  void backward(const BlockCall& call, const Tape& tape, const ConstMatrixView<Real>&,
                const ConstMatrixView<Real>& dy, const MatrixView<Real>& dx, Gradients* gradients,
                Arena& arena, X& executor) const {
    typename L::LayerGradients back;
    if (gradients != nullptr) back = typename L::LayerGradients(dy, dx, *gradients);
    back.dy = dy;
    back.dx = dx;
    back.auxiliary_scale = call.auxiliary_scale;
    if (!tape) fail<state_error>("tape of ", kName, ": expected that of a forward_train, got an empty one");
    Workspace workspace = take(call, arena, executor);
    layer_.backward(*tape, back, workspace, executor);
  }

  Gradients make_gradients() const { return layer_.make_gradients(); }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    if (gradients == nullptr) {
      layer_.visit_parameters(f);
    } else {
      layer_.visit_parameters(*gradients, f);
    }
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    typename L::LayerGradients shown;
    if (gradients != nullptr) shown = typename L::LayerGradients({}, {}, *gradients);
    layer_.visit_storage(shown, f);
  }
  template <class Visitor>
  void visit_packed(Visitor& f) {
    layer_.visit_packed(f);
  }
  template <class Visitor>
  void visit_state(Visitor& f) {
    layer_.visit_state(f);
  }

 private:
  template <class X>
  Workspace take(const BlockCall& call, Arena& arena, X& executor) const {
    const Index bytes = layer_.workspace_bytes(CallShape{call.count, call.segments, {}}, Mode::training,
                                               executor.concurrency());
    return Workspace(std::span(arena.take<std::byte>(bytes), static_cast<std::size_t>(bytes)));
  }

  L layer_;
};

template <class To, class L>
auto quantise(const LayerBlock<L>& block) {
  return LayerBlock(quantise<To>(block.layer()));
}

MOE_NAMESPACE_END
