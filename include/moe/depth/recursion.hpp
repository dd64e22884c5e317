// Mixture-of-Recursions, Bae et al. 2507.10524: one block, passed by every row as often as its router says.
#pragma once

#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "moe/core/check.hpp"
#include "moe/depth/depth_layer.hpp"
#include "moe/router/balance/taken.hpp"
#include "moe/router/balance/z.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/named/switch.hpp"
#include "moe/router/score/sigmoid.hpp"
#include "moe/router/scorer/foreseen.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/foreseen_top_k.hpp"
#include "moe/router/weighting/gate.hpp"

MOE_NAMESPACE_BEGIN

struct RecursionOptions {
  Index width = 0;               // D
  std::vector<double> shares{};  // of a sequence's rows that pass recursion r: (0, 1], never rising
  double scale = 0.1;            // of the gate sigma(r) as a weight
  bool predictor = true;         // foresight by a linear predictor on detached rows; false: by sigma(r) > 1/2
  double coefficient = 1;        // of the loss that teaches foresight
  double z_loss = 0;             // coefficient, see router/balance/z.hpp: of the row's one logit
  NonFinite non_finite = NonFinite::throw_;
};

template <class Real>
using RecursionRouter = TokenChoice<ForeseenScorer<LinearScorer<Real>, LinearScorer<Real>>, SigmoidScore,
                                    ForeseenTopK, GateWeighting, Balancing<TakenLoss, ZLoss>>;
/// Rows chosen for each recursion.
template <class B>
using MixtureOfRecursions = DepthLayer<RecursionRouter<typename std::remove_reference_t<B>::Real>, B>;
/// A number of recursions chosen for each row.
template <class B>
using TokenRecursions = DepthLayer<SwitchRouter<typename std::remove_reference_t<B>::Real>, B>;

/// Expert choice: recursion r takes the best of the rows that recursion r - 1 took, h += scale sigma(w_r h)
/// f(h), and who is left out leaves for good. In training the best share of each sequence (not causal), in
/// inference who is foretold. Shares are taken of the rows still there: round down of rows * share_r /
/// share_(r-1), one at least. Keys and values of the block, by recursion, are the caller's. Throws
/// config_error for a width below 1, no shares, or shares that rise or are outside (0, 1], and a scale or
/// coefficient that is not finite.
template <class B>
MixtureOfRecursions<std::remove_cvref_t<B>> mixture_of_recursions(const RecursionOptions& options,
                                                                  B&& block) {
  using Real = typename std::remove_cvref_t<B>::Real;
  std::vector<RecursionRouter<Real>> routers;
  double before = 1;
  for (const double share : options.shares) {
    if (!(share > 0 && share <= before)) {
      fail<config_error>("shares of recursions: expected values in (0, 1] that do not rise, got ", share,
                         " after ", before);
    }
    std::optional<LinearScorer<Real>> predictor;
    if (options.predictor) predictor.emplace(LinearScorerOptions{.width = options.width, .outputs = 1});
    routers.push_back(RecursionRouter<Real>{
        ForeseenScorer<LinearScorer<Real>, LinearScorer<Real>>(
            LinearScorer<Real>({.width = options.width, .outputs = 1}), std::move(predictor)),
        SigmoidScore{}, ForeseenTopK({.share = share / before}), GateWeighting({.scale = options.scale}),
        Balancing<TakenLoss, ZLoss>(TakenLoss({.coefficient = options.coefficient}), ZLoss(options.z_loss)),
        options.non_finite});
    before = share;
  }
  return {std::move(routers), DepthOptions{.form = DepthForm::nested}, std::forward<B>(block)};
}

struct TokenRecursionOptions {
  Index width = 0;       // D
  Index depths = 3;      // 1 to this many passes
  double balance = 0.1;  // coefficient of the load-balance loss over depths
  NonFinite non_finite = NonFinite::throw_;
};

/// Token choice: the router looks at a row once, at first, and its softmax over depths 1..N says how often
/// the row passes the block, h += f(h); on its last pass h += w f(h), w the softmax. Each row for itself:
/// causal as far as the block is. Throws config_error for sizes below 1 and a coefficient that is not finite.
template <class B>
TokenRecursions<std::remove_cvref_t<B>> token_recursions(const TokenRecursionOptions& options, B&& block) {
  using Real = typename std::remove_cvref_t<B>::Real;
  std::vector<SwitchRouter<Real>> routers;
  routers.push_back(switch_router<Real>({.width = options.width,
                                         .experts = options.depths,
                                         .jitter = 0,
                                         .load_balance = options.balance,
                                         .non_finite = options.non_finite}));
  return {std::move(routers), DepthOptions{.form = DepthForm::times}, std::forward<B>(block)};
}

MOE_NAMESPACE_END
