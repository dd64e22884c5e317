// FlexiDepth, Luo et al. 2503.23798: rows that skip a layer of a trained model pass a small adapter instead,
// and the loss prices how many layers a row executes over the whole depth.
#pragma once

#include <type_traits>
#include <utility>
#include <vector>

#include "moe/core/check.hpp"
#include "moe/core/view.hpp"
#include "moe/depth/adapter_block.hpp"
#include "moe/depth/depth_layer.hpp"
#include "moe/kernel/activation_policy.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/plan/route_table.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/normed.hpp"
#include "moe/router/scorer/two_layer.hpp"
#include "moe/router/scorer/zero_last.hpp"
#include "moe/router/selection/gate.hpp"
#include "moe/router/weighting/gate.hpp"

MOE_NAMESPACE_BEGIN

struct FlexiDepthOptions {
  Index width = 0;           // D
  Index bottleneck = 0;      // of the router: D to this, tanh, to 1
  Index adapter_hidden = 0;  // H of the adapter
  double threshold = 0.5;    // of g: this much executes
  NonFinite non_finite = NonFinite::throw_;
};

template <class Real>
using FlexiDepthRouter = TokenChoice<NormedScorer<ZeroLast<TwoLayerScorer<Real>>>, Softmax, GateSelection,
                                     GateWeighting, Balancing<>>;
template <class B>
using FlexiDepth = DepthLayer<FlexiDepthRouter<typename std::remove_reference_t<B>::Real>, B,
                              AdapterBlock<Silu, typename std::remove_reference_t<B>::Real>>;

/// g = sigma(router(norm(x))); y = x + g f(x) where g >= threshold, else y = x + (1 - g) adapter(norm(x)).
/// Block 0 is f, block 1 the adapter. Each row for itself: causal as far as f is. Throws config_error for
/// sizes below 1 and a threshold outside (0, 1).
template <class B>
FlexiDepth<std::remove_cvref_t<B>> flexi_depth(const FlexiDepthOptions& options, B&& block) {
  using Real = typename std::remove_cvref_t<B>::Real;
  return {
      FlexiDepthRouter<Real>(
          NormedScorer<ZeroLast<TwoLayerScorer<Real>>>(
              ZeroLast<TwoLayerScorer<Real>>(
                  TwoLayerScorer<Real>({.width = options.width, .hidden = options.bottleneck, .outputs = 1})),
              InputNorm{}),
          Softmax{}, GateSelection({.threshold = options.threshold}),
          GateWeighting({.experts = 2, .threshold = options.threshold}), Balancing<>{}, options.non_finite),
      std::forward<B>(block),
      AdapterBlock<Silu, Real>({.width = options.width, .hidden = options.adapter_hidden, .norm = true})};
}

/// coefficient * mean over rows of (sum over layers of g)^2: what a row's depth costs grows with the depth it
/// already has, so that the loss needs the routes of all layers before the first backward. Collects them
/// after the forward calls, and gives each layer's gradient of the logits (LayerGradients::dlogit) to its
/// backward. Rows that a layer did not route (padding) have g = 0 there. Memory grows at first and is kept.
template <class Real>
class LayerSkipLoss {
 public:
  /// Throws config_error for a coefficient that is not finite. Published runs: 1e-4, then 1e-5.
  explicit LayerSkipLoss(double coefficient = 1e-4) : coefficient_(coefficient) {
    if (!is_finite(coefficient)) {
      fail<config_error>("layer skip loss: expected a finite coefficient, got ", coefficient);
    }
  }

  /// Forgets the layers of the last step.
  void clear() noexcept { layers_ = 0; }
  /// The routes of the next layer, of its tape: expert 0 weighs g, expert 1 weighs 1 - g. Throws shape_error
  /// for another number of rows than the layer's before, config_error unless the experts are two.
  void add(const RouteTable<Real>& routes) {
    if (routes.experts != 2) {
      fail<config_error>("layer skip loss: expected routes of 2 experts, a block and an adapter, got ",
                         routes.experts);
    }
    if (layers_ > 0) require_extent("layer skip loss", "rows", tokens_, routes.tokens);
    if (layers_ == 0) {
      tokens_ = routes.tokens;
      sum_.assign(static_cast<std::size_t>(tokens_), 0);
      routed_.assign(static_cast<std::size_t>(tokens_), 0);
    }
    if (static_cast<Index>(gate_.size()) == layers_) gate_.emplace_back();
    std::vector<double>& gate = gate_[static_cast<std::size_t>(layers_++)];
    gate.assign(static_cast<std::size_t>(tokens_), 0);
    for (Index t = 0; t < tokens_; ++t) {
      const auto at = static_cast<std::size_t>(t);
      if (routes.count(t) == 0) continue;
      const auto w = static_cast<double>(routes.weight[routes.offsets[t]]);
      gate[at] = routes.expert[routes.offsets[t]] == 0 ? w : 1 - w;
      sum_[at] += gate[at];
      routed_[at] = 1;
    }
  }

  double value() const noexcept {
    double squares = 0;
    for (Index t = 0; layers_ > 0 && t < tokens_; ++t) {
      squares += sum_[static_cast<std::size_t>(t)] * sum_[static_cast<std::size_t>(t)];
    }
    return rows() == 0 ? 0.0 : coefficient_ * squares / rows();
  }

  /// d value / d g of row t, the same for every layer: 2 coefficient * sum over layers of g / rows.
  double dgate(Index t) const noexcept {
    return rows() == 0 ? 0.0 : 2 * coefficient_ * sum_[static_cast<std::size_t>(t)] / rows();
  }
  /// scale times the gradient by the logits [T, 2] of layer l: dgate g (1 - g) for the first, 0 for the
  /// other. Valid until the next call. Throws config_error for a layer that was not added.
  ConstMatrixView<Real> dlogit(Index layer, double scale = 1) {
    require_range("layer", layer, 0, layers_ - 1);
    dlogit_.assign(static_cast<std::size_t>(2 * tokens_), Real{0});
    for (Index t = 0; t < tokens_; ++t) {
      const double g = gate_[static_cast<std::size_t>(layer)][static_cast<std::size_t>(t)];
      dlogit_[static_cast<std::size_t>(2 * t)] = static_cast<Real>(scale * dgate(t) * g * (1 - g));
    }
    return {dlogit_.data(), tokens_, 2};
  }

 private:
  double rows() const noexcept {
    double rows = 0;
    for (Index t = 0; layers_ > 0 && t < tokens_; ++t) rows += routed_[static_cast<std::size_t>(t)];
    return rows;
  }

  double coefficient_;
  Index layers_ = 0, tokens_ = 0;
  std::vector<std::vector<double>> gate_;  // by layer [T]
  std::vector<double> sum_, routed_;       // [T]
  std::vector<Real> dlogit_;               // [T, 2]
};

MOE_NAMESPACE_END
