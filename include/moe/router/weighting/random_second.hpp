// Choices after the first are kept at random, in proportion to their weights: GShard, Lepikhin et al.
// 2006.16668 section 2.2.
#pragma once

#include "moe/router/weighting/concept.hpp"
#include "moe/router/weighting/gather.hpp"

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

MOE_NAMESPACE_END
