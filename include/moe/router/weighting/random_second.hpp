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
  static constexpr const char* kName = "random_second";
  struct Options {
    bool random = true;  // false: every choice is kept in training too
  };

  explicit RandomSecondWeighting(Options options) : options_(options) {}
  const Options& options() const noexcept { return options_; }
  template <class Real>
  void check_call(const RouterInput<Real>& in) const {
    if (options_.random && in.training) in.require_draws("a router with random second experts");
  }

  template <class Real>
  void forward(const RowContext<Real>& row, const Chosen& chosen, Real* weight, bool* keep) const noexcept {
    shares_.forward(row, chosen, weight, keep);
    if (!options_.random || !row.training()) return;
    const double draw = row.uniform(DrawStream::second_expert);
    for (Index i = 1; i < chosen.count; ++i) keep[i] = draw < 2 * static_cast<double>(weight[i]);
  }

  template <class Real>
  void backward(const RowContext<Real>& row, const Chosen& chosen, const Real* dweight,
                Real* dscore) const noexcept {
    shares_.backward(row, chosen, dweight, dscore);
  }

 private:
  GatherWeighting shares_{{.normalise = Normalise::sum}};
  Options options_;
};

MOE_NAMESPACE_END
