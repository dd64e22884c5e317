// GShard's top-2 routing: the second expert is taken at random, in proportion to its weight. Lepikhin et al.
// 2006.16668 section 2.2, algorithm 1.
#pragma once

#include "moe/router/linear_scorer.hpp"
#include "moe/router/load_balance.hpp"
#include "moe/router/token_choice.hpp"
#include "moe/router/z_loss.hpp"

MOE_NAMESPACE_BEGIN

/// Scores of the chosen divided by their sum. In training a choice after the first is kept with probability
/// min(1, 2 * its weight); what is left keeps its weight. One draw per token.
class RandomSecondWeighting {
 public:
  /// `random` false: every choice is kept in training too.
  explicit RandomSecondWeighting(bool random = true)
      : shares_({.normalise = Normalise::sum}), random_(random) {}

  Index experts(Index outputs) const noexcept { return outputs; }

  template <class Real>
  void forward(const Chosen& chosen, const Real* score, Real* weight, bool* keep) const noexcept {
    shares_.forward(chosen, score, weight, keep);
    if (!random_ || !chosen.training) return;
    for (Index i = 1; i < chosen.count; ++i) keep[i] = chosen.draw < 2 * static_cast<double>(weight[i]);
  }

  template <class Real>
  void backward(const Chosen& chosen, const Real* score, const Real* dweight, Real* dscore) const noexcept {
    shares_.backward(chosen, score, dweight, dscore);
  }

 private:
  GatherWeighting shares_;
  bool random_;
};

struct GShardOptions {
  Index width = 0;             // D
  Index experts = 0;           // E >= 2
  bool random_second = true;   // training: the second expert with probability min(1, 2 w_2)
  double load_balance = 0.01;  // coefficient, see router/load_balance.hpp; E^2 times the paper's loss
  double z_loss = 0;           // coefficient, see router/z_loss.hpp
  NonFinite non_finite = NonFinite::throw_;
};

/// softmax over all experts, the two best, weights normalised over the pair; the load balance counts first
/// choices. The paper's capacity is a FixedCapacity with first_choices_first (moe/plan/capacity.hpp).
template <class Real>
using GShardRouter = TokenChoice<LinearScorer<Real>, Softmax, TopKSelection, RandomSecondWeighting,
                                 Balancing<LoadBalance, ZLoss>>;

/// Throws config_error for sizes that do not fit.
template <class Real>
GShardRouter<Real> gshard_router(const GShardOptions& options) {
  return {LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
          Softmax{},
          TopKSelection(2),
          RandomSecondWeighting(options.random_second),
          Balancing<LoadBalance, ZLoss>(
              LoadBalance({.coefficient = options.load_balance, .first_choice_only = true}),
              ZLoss(options.z_loss)),
          options.non_finite};
}

MOE_NAMESPACE_END
