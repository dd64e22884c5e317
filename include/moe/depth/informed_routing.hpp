// Informed routing, Han et al. 2510.13831: a row either executes a block or takes a forecast of what the
// block would have returned, made by a small linear network that was fitted to it before.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/input.hpp"
#include "moe/core/workspace.hpp"
#include "moe/depth/adapter_block.hpp"
#include "moe/depth/depth_layer.hpp"
#include "moe/kernel/activation_policy.hpp"
#include "moe/router/balance/ratio.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/gumbel.hpp"
#include "moe/router/scorer/two_layer.hpp"
#include "moe/router/scorer/zero_last.hpp"
#include "moe/router/selection/gate.hpp"
#include "moe/router/weighting/gate.hpp"

MOE_NAMESPACE_BEGIN

struct InformedRoutingOptions {
  Index width = 0;         // D
  Index hidden = 0;        // of the router: D to this, tanh, to 1
  Index rank = 0;          // of the forecaster: D to this, to D
  double target = 0.5;     // share of the rows that execute
  double coefficient = 1;  // of the loss that holds it there
  double noise = 1;        // scale of the Gumbel noise in training; 0: none
  NonFinite non_finite = NonFinite::throw_;
};

/// Two linear layers.
template <class Real>
using Forecaster = AdapterBlock<Identity, Real>;
template <class Real>
using InformedRouter = TokenChoice<GumbelScorer<ZeroLast<TwoLayerScorer<Real>>>, Softmax, GateSelection,
                                   GateWeighting, Balancing<RatioLoss>>;
template <class B>
using InformedRouting = DepthLayer<InformedRouter<typename std::remove_reference_t<B>::Real>, B,
                                   Forecaster<typename std::remove_reference_t<B>::Real>>;

/// y = x + f(x) or y = x + forecast(x), whichever the gate says; weights are 1, and the gate's gradient goes
/// straight through to the share of what ran. Block 0 is f, block 1 the forecaster. Training calls draw.
/// Throws config_error for sizes below 1, a target outside [0, 1], a coefficient that is not finite, and
/// noise below 0 or not finite.
template <class B>
InformedRouting<std::remove_cvref_t<B>> informed_routing(const InformedRoutingOptions& options, B&& block) {
  using Real = typename std::remove_cvref_t<B>::Real;
  return {InformedRouter<Real>(
              GumbelScorer<ZeroLast<TwoLayerScorer<Real>>>(
                  ZeroLast<TwoLayerScorer<Real>>(TwoLayerScorer<Real>(
                      {.width = options.width, .hidden = options.hidden, .outputs = 1, .bias = true})),
                  options.noise),
              Softmax{}, GateSelection(GateSelection::Options{}),
              GateWeighting({.experts = 2, .straight_through = true}),
              Balancing<RatioLoss>(RatioLoss({.coefficient = options.coefficient, .target = options.target})),
              options.non_finite),
          std::forward<B>(block), Forecaster<Real>({.width = options.width, .hidden = options.rank})};
}

/// How well a forecaster forecasts, and its gradients: the stage before routing.
template <class B>
class ForecastFit {
 public:
  using Real = typename B::Real;

  /// |forecaster(x) - block(x)|^2 / D, mean over the rows; its gradient is added to `gradients`, if there.
  /// The block is as in inference, all rows of every segment, and learns nothing. Throws shape_error for x of
  /// another width or segments that are not its own.
  template <Executor X = SerialExecutor>
  double step(const B& block, const Forecaster<Real>& forecaster, const ConstMatrixView<Real>& x,
              const Segments& segments, typename Forecaster<Real>::Gradients* gradients, X&& executor = X{}) {
    const Index tokens = x.rows, width = block.width();
    require_extent("x", "columns", width, x.cols);
    require_extent("forecaster", "columns", width, forecaster.width());
    segments.check(tokens);
    impl::check_gradients_of(forecaster, gradients);
    if (tokens == 0) return 0;
    const CallShape shape{tokens, segments.count(tokens), {}};
    Arena measuring;
    take(measuring, shape, width);
    const Index mark = measuring.mark();
    impl::measure_of(block, measuring, shape, executor.concurrency());
    measuring.rewind(mark);
    forecaster.measure(measuring, shape, executor.concurrency());
    measuring.rewind(mark);
    forecaster.measure_backward(measuring, shape, executor.concurrency());
    Arena arena = memory_.arena(measuring.bytes());
    const Rows rows = take(arena, shape, width);
    AuxiliaryLosses losses;
    BlockCall call = fill(rows, segments, tokens);
    call.losses = &losses;
    const MatrixView<Real> want(rows.want, tokens, width), got(rows.got, tokens, width),
        dx(rows.dx, tokens, width);
    const Index begin = arena.mark();
    block.forward(call, x, want, nullptr, arena, executor);
    arena.rewind(begin);
    forecaster.forward(call, x, got, &tape_, arena, executor);
    arena.rewind(begin);
    double sum = 0;
    const double scale = 1.0 / static_cast<double>(checked_product("forecasts", tokens, width));
    for (Index t = 0; t < tokens; ++t) {
      for (Index j = 0; j < width; ++j) {
        const double off = static_cast<double>(got(t, j)) - static_cast<double>(want(t, j));
        sum += off * off;
        got(t, j) = static_cast<Real>(2 * scale * off);
      }
    }
    if (gradients != nullptr) {
      forecaster.backward(call, tape_, x, ConstMatrixView<Real>(got), dx, gradients, arena, executor);
    }
    return scale * sum;
  }

 private:
  struct Rows {
    std::int32_t *row, *position;  // [T]
    std::uint64_t* key;            // [T]
    Index* offsets;                // [segments + 1]
    Real *want, *got, *dx;         // [T, D]
  };
  static Rows take(Arena& arena, const CallShape& shape, Index width) {
    const Index size = checked_product("forecasts", shape.tokens, width);
    return {arena.take<std::int32_t>(shape.tokens),
            arena.take<std::int32_t>(shape.tokens),
            arena.take<std::uint64_t>(shape.tokens),
            arena.take<Index>(shape.segments + 1),
            arena.take<Real>(size),
            arena.take<Real>(size),
            arena.take<Real>(size)};
  }
  static BlockCall fill(const Rows& rows, const Segments& segments, Index tokens) noexcept {
    BlockCall call;
    call.count = tokens;
    call.segments = segments.count(tokens);
    for (Index s = 0; s < call.segments; ++s) {
      rows.offsets[s] = segments.begin(s);
      for (Index t = segments.begin(s); t < segments.end(s, tokens); ++t) {
        rows.row[t] = static_cast<std::int32_t>(t);
        rows.position[t] = static_cast<std::int32_t>(t - segments.begin(s));
        rows.key[t] = static_cast<std::uint64_t>(t);
      }
    }
    rows.offsets[call.segments] = tokens;
    call.row = rows.row;
    call.position = rows.position;
    call.key = rows.key;
    call.segment_offsets = rows.offsets;
    return call;
  }

  Workspace memory_;
  typename Forecaster<Real>::Tape tape_;
};

MOE_NAMESPACE_END
