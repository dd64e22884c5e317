// Dr.LLM, Heakl et al. 2510.12773: for a whole sequence a trained model's block is skipped, executed or
// repeated, by a small router that learns from labels which a search has found.
#pragma once

#include <type_traits>
#include <utility>
#include <vector>

#include "moe/depth/depth_layer.hpp"
#include "moe/router/balance/focal.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/two_layer.hpp"
#include "moe/router/scorer/window_pool.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/unit.hpp"

MOE_NAMESPACE_BEGIN

struct DrLlmOptions {
  Index width = 0;                            // D
  Index hidden = 128;                         // of the router: D to this, tanh, to 3
  Index windows = 8;                          // of a sequence
  double gamma = 2;                           // of the focal loss
  std::vector<double> class_weight{1, 1, 1};  // of skip, execute, repeat: class_balance()
  double coefficient = 1;                     // of the focal loss; 0: no labels are needed
  NonFinite non_finite = NonFinite::throw_;
};

template <class Real>
using DrLlmRouter = TokenChoice<WindowPool<TwoLayerScorer<Real>>, Softmax, TopKSelection, UnitWeighting,
                                Balancing<FocalLoss>>;
template <class B>
using DrLlm = DepthLayer<DrLlmRouter<typename std::remove_reference_t<B>::Real>, B>;

/// The most probable of y = x, y = x + f(x) and the same twice, for all rows of a segment: of its windows'
/// means, so it is not causal. The router learns from the column `label` (0 skip, 1 execute, 2 repeat; the
/// same for the rows of a segment) alone: nothing of the task comes through weights of 1. Throws config_error
/// for sizes below 1, weights that are not three, and what FocalLoss refuses.
template <class B>
DrLlm<std::remove_cvref_t<B>> dr_llm(const DrLlmOptions& options, B&& block) {
  using Real = typename std::remove_cvref_t<B>::Real;
  std::vector<DrLlmRouter<Real>> routers;
  routers.push_back(DrLlmRouter<Real>{
      WindowPool<TwoLayerScorer<Real>>(
          TwoLayerScorer<Real>(
              {.width = options.width, .hidden = options.hidden, .outputs = 3, .bias = true}),
          options.windows),
      Softmax{}, TopKSelection(1), UnitWeighting{},
      Balancing<FocalLoss>(FocalLoss({options.coefficient, options.gamma, options.class_weight})),
      options.non_finite});
  return {std::move(routers), DepthOptions{.form = DepthForm::times, .first = 0}, std::forward<B>(block)};
}

MOE_NAMESPACE_END
