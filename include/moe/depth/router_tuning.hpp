// Router-Tuning, He et al. 2410.13184: of a trained model only routers are trained, which learn to go past a
// block (its attention) with whole sequences.
#pragma once

#include <type_traits>
#include <utility>

#include "moe/depth/depth_layer.hpp"
#include "moe/router/balance/ratio.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/scorer/segment_pool.hpp"
#include "moe/router/scorer/zero_last.hpp"
#include "moe/router/selection/gate.hpp"
#include "moe/router/weighting/gate.hpp"

MOE_NAMESPACE_BEGIN

struct RouterTuningOptions {
  Index width = 0;         // D
  double threshold = 0.5;  // sigma(w x) of this much executes, and so does more
  double capacity = 0.5;   // share of the rows that may execute for nothing
  double coefficient = 1;  // of what is above; 0: no loss
  NonFinite non_finite = NonFinite::throw_;
};

template <class Scorer>
using RouterTuningOf = TokenChoice<Scorer, Softmax, GateSelection, GateWeighting, Balancing<RatioLoss>>;
/// One decision for a sequence, from the mean of its rows.
template <class Real>
using RouterTuningRouter = RouterTuningOf<SegmentPool<ZeroLast<LinearScorer<Real>>>>;
/// One for each row.
template <class Real>
using TokenRouterTuningRouter = RouterTuningOf<ZeroLast<LinearScorer<Real>>>;
template <class B>
using RouterTuning = DepthLayer<RouterTuningRouter<typename std::remove_reference_t<B>::Real>, B>;
template <class B>
using TokenRouterTuning = DepthLayer<TokenRouterTuningRouter<typename std::remove_reference_t<B>::Real>, B>;

namespace impl {
template <class R, class Scorer>
R router_tuning_of(const RouterTuningOptions& options, Scorer scorer) {
  return {std::move(scorer),
          Softmax{},
          GateSelection({.threshold = options.threshold, .all_in_training = true}),
          GateWeighting({.straight_through = true, .threshold = options.threshold}),
          Balancing<RatioLoss>(RatioLoss(
              {.coefficient = options.coefficient, .target = options.capacity, .form = RatioForm::above})),
          options.non_finite};
}
}  // namespace impl

/// y = x + m f(x), m = 1 if sigma(w mean of the sequence's rows) >= threshold, else 0; the derivative of m by
/// the sigmoid is taken for 1. Training computes f of every row, so that sequences which are skipped learn
/// too; inference only of those that execute. The loss counts rows where the code counts sequences. Freeze
/// the block by null gradients; f reads what it likes of x (the code's router reads normed rows: give it a
/// layer whose x are those). Throws config_error for a width below 1, a threshold outside (0, 1), a capacity
/// outside [0, 1] or a coefficient that is not finite.
template <class B>
RouterTuning<std::remove_cvref_t<B>> router_tuning(const RouterTuningOptions& options, B&& block) {
  using Real = typename std::remove_cvref_t<B>::Real;
  return {impl::router_tuning_of<RouterTuningRouter<Real>>(
              options, SegmentPool<ZeroLast<LinearScorer<Real>>>(ZeroLast<LinearScorer<Real>>(
                           LinearScorer<Real>({.width = options.width, .outputs = 1})))),
          std::forward<B>(block)};
}
/// The same with a decision for each row. In inference f sees the rows that execute alone, where the code has
/// attention look at all.
template <class B>
TokenRouterTuning<std::remove_cvref_t<B>> token_router_tuning(const RouterTuningOptions& options, B&& block) {
  using Real = typename std::remove_cvref_t<B>::Real;
  return {
      impl::router_tuning_of<TokenRouterTuningRouter<Real>>(
          options, ZeroLast<LinearScorer<Real>>(LinearScorer<Real>({.width = options.width, .outputs = 1}))),
      std::forward<B>(block)};
}

MOE_NAMESPACE_END
