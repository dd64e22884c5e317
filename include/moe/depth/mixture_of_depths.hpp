// Mixture-of-Depths, Raposo et al. 2404.02258: a block works on the C rows of a sequence that its router
// scores highest, the others go past it.
#pragma once

#include <cstdint>
#include <optional>
#include <type_traits>
#include <utility>

#include "moe/depth/depth_layer.hpp"
#include "moe/router/balance/taken.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/identity.hpp"
#include "moe/router/scorer/foreseen.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/scorer/two_layer.hpp"
#include "moe/router/selection/foreseen_top_k.hpp"
#include "moe/router/weighting/gate.hpp"

MOE_NAMESPACE_BEGIN

/// How a row's own numbers tell, in inference, whether it would have been among the best of its sequence.
enum class Foresight : std::uint8_t {
  predictor,  // a small network beside the router, on rows whose gradient stops there
  loss,       // sigma(r) > 1/2, which an auxiliary loss on r makes true
};

struct MixtureOfDepthsOptions {
  Index width = 0;       // D
  double share = 0.125;  // of a sequence's rows, in training
  Foresight foresight = Foresight::predictor;
  Index hidden = 0;        // of the predictor, two layers with tanh; 0: D / 2, at least 1
  double coefficient = 1;  // of the loss that teaches foresight
  NonFinite non_finite = NonFinite::throw_;
};

template <class Real>
using MixtureOfDepthsRouter = TokenChoice<ForeseenScorer<LinearScorer<Real>, TwoLayerScorer<Real>>,
                                          IdentityScore, ForeseenTopK, GateWeighting, Balancing<TakenLoss>>;
template <class B>
using MixtureOfDepths = DepthLayer<MixtureOfDepthsRouter<typename std::remove_reference_t<B>::Real>, B>;

/// r = w x, no bias. Throws config_error for a width or hidden units below 1, a share outside (0, 1] or a
/// coefficient that is not finite.
template <class Real>
MixtureOfDepthsRouter<Real> mixture_of_depths_router(const MixtureOfDepthsOptions& options) {
  std::optional<TwoLayerScorer<Real>> predictor;
  if (options.foresight == Foresight::predictor) {
    const Index half = options.width < 2 ? 1 : options.width / 2;
    predictor.emplace(TwoLayerScorerOptions{.width = options.width,
                                            .hidden = options.hidden == 0 ? half : options.hidden,
                                            .outputs = 1,
                                            .bias = true});
  }
  return {ForeseenScorer<LinearScorer<Real>, TwoLayerScorer<Real>>(
              LinearScorer<Real>({.width = options.width, .outputs = 1}), std::move(predictor)),
          IdentityScore{},
          ForeseenTopK({.share = options.share}),
          GateWeighting(GateWeighting::Options{}),
          Balancing<TakenLoss>(TakenLoss({.coefficient = options.coefficient})),
          options.non_finite};
}

/// y = x + r f(x) for the rows that are taken, r as it is; y = x for the others, bit for bit. In training f
/// sees the best rows of each sequence, in their order and at their places; in inference the foretold ones.
/// A call with Mode::training takes the best ones whatever it is for.
template <class B>
MixtureOfDepths<std::remove_cvref_t<B>> mixture_of_depths(const MixtureOfDepthsOptions& options, B&& block) {
  return {mixture_of_depths_router<typename std::remove_cvref_t<B>::Real>(options), std::forward<B>(block)};
}

MOE_NAMESPACE_END
