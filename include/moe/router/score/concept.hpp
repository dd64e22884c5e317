// Score functions: logits of one row -> scores of one row, with their backward, and the probabilities that
// the balance losses are built on.
#pragma once

#include <concepts>

#include "moe/core/part_traits.hpp"
#include "moe/router/row_context.hpp"

MOE_NAMESPACE_BEGIN

/// Rows of row.n entries; row.logit is there, and behind `forward` row.score. `backward` adds to dlogit.
/// `probability` turns scores into a distribution over the row's outputs (for losses); its backward adds to
/// dscore. A masked output (logit -inf) has probability 0. May have: kName, check(outputs), check_call(call),
/// coupling(training), state, and parameters (LearningScore).
template <class F>
concept ScoreFunction = std::copy_constructible<F> &&
    requires(const F& f, const RowContext<impl::RealOf<F>>& row, const impl::RealOf<F>* in,
             impl::RealOf<F>* out) {
  f.forward(row, out);                       // score
  f.backward(row, in, out);                  // dscore, dlogit +=
  f.probability(row, out);                   // probability
  f.probability_backward(row, in, in, out);  // probability, dprobability, dscore +=
};

/// A score function with parameters: Gradients, make_gradients, visit_parameters, visit_storage as of a
/// scorer, and `add_gradients(row, dscore, gradients)`, called for the rows that take part, ascending
/// (contract C3).
template <class F, class Real>
concept LearningScore = requires(const F& f, const RowContext<Real>& row, const Real* dscore,
                                 impl::GradientsOf<F>& gradients) {
  f.add_gradients(row, dscore, gradients);
};

MOE_NAMESPACE_END
