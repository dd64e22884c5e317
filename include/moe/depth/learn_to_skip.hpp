// Learning to Skip for Language Modeling, Zeng et al. 2311.15436: every row executes a block or skips it, by
// a gate with Gumbel noise whose mean is held at a target.
#pragma once

#include <type_traits>
#include <utility>

#include "moe/depth/depth_layer.hpp"
#include "moe/router/balance/ratio.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/gumbel.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/gate.hpp"
#include "moe/router/weighting/gate.hpp"

MOE_NAMESPACE_BEGIN

struct LearnToSkipOptions {
  Index width = 0;         // D
  double target = 0.5;     // share of the rows that execute
  double coefficient = 1;  // of the loss that holds it there
  double noise = 1;        // scale of the Gumbel noise in training; 0: none
  NonFinite non_finite = NonFinite::throw_;
};

template <class Real>
using LearnToSkipRouter = TokenChoice<GumbelScorer<LinearScorer<Real>>, Softmax, GateSelection, GateWeighting,
                                      Balancing<RatioLoss>>;
template <class B>
using LearnToSkip = DepthLayer<LearnToSkipRouter<typename std::remove_reference_t<B>::Real>, B>;

/// y = x + f(x) for rows whose softmax over {execute, skip} is 1/2 or more for the first, y = x for the
/// others. The weight is 1 and its derivative by the softmax is taken for 1: rows that execute teach the
/// router, and the ratio's loss teaches it of all. Training calls draw. Throws config_error for a width below
/// 1, a target outside [0, 1], a coefficient that is not finite, and noise below 0 or not finite.
template <class B>
LearnToSkip<std::remove_cvref_t<B>> learn_to_skip(const LearnToSkipOptions& options, B&& block) {
  using Real = typename std::remove_cvref_t<B>::Real;
  return {LearnToSkipRouter<Real>(
              GumbelScorer<LinearScorer<Real>>(LinearScorer<Real>({.width = options.width, .outputs = 2}),
                                               options.noise),
              Softmax{}, GateSelection(GateSelection::Options{}), GateWeighting({.straight_through = true}),
              Balancing<RatioLoss>(RatioLoss({.coefficient = options.coefficient, .target = options.target})),
              options.non_finite),
          std::forward<B>(block)};
}

MOE_NAMESPACE_END
