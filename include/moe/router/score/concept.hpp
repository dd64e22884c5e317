// Score functions: logits of one row -> scores of one row, with their backward, and the probabilities that
// the balance losses are built on.
#pragma once

#include <concepts>

#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

/// Rows of n entries. `backward` adds to dlogit. `probability` turns scores into a distribution over the
/// row's outputs (for losses); its backward adds to dscore. A masked output (logit -inf) has probability 0.
template <class F>
concept ScoreFunction = std::copy_constructible<F> &&
    requires(const F& f, const double* in, double* out, Index n) {
  f.forward(in, out, n);                       // logit, score
  f.backward(in, in, in, out, n);              // logit, score, dscore, dlogit +=
  f.probability(in, out, n);                   // score, probability
  f.probability_backward(in, in, in, out, n);  // score, probability, dprobability, dscore +=
};

MOE_NAMESPACE_END
