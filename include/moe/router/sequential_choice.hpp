// Choices drawn one after the other, each from the softmax of the logits that it may still come from: what
// selections that sample have in common.
#pragma once

#include <math.h>

#include "moe/core/types.hpp"
#include "moe/router/row_context.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// A standard Gumbel variate of u in (0, 1): the highest of logits, each plus one of its own, is a draw from
/// their softmax.
inline double gumbel(double u) noexcept {
  return -::log(-::log(u));
}

/// Whether e is one of the first `count` choices.
inline bool is_among(const Chosen& chosen, Index count, Index e) noexcept {
  for (Index j = 0; j < count; ++j) {
    if (Index{chosen.id[j]} == e) return true;
  }
  return false;
}

/// ln sum exp of the logits of the outputs for which counts(e) holds, at least one.
template <class Real, class Counts>
double log_sum_exp_of(const RowContext<Real>& row, const Counts& counts) noexcept {
  double top = -HUGE_VAL, sum = 0;
  for (Index e = 0; e < row.n; ++e) {
    const auto l = static_cast<double>(row.logit[e]);
    if (counts(e) && l > top) top = l;
  }
  for (Index e = 0; e < row.n; ++e) {
    if (counts(e)) sum += ::exp(static_cast<double>(row.logit[e]) - top);
  }
  return top + ::log(sum);
}

/// ln Q of the choices in their order. `set_of(i)`: counts(e), whether choice i could have been output e; it
/// holds for the choice itself.
template <class Real, class SetOf>
double sequential_log_probability(const RowContext<Real>& row, const Chosen& chosen,
                                  const SetOf& set_of) noexcept {
  double sum = 0;
  for (Index i = 0; i < chosen.count; ++i) {
    sum += static_cast<double>(row.logit[chosen.id[i]]) - log_sum_exp_of(row, set_of(i));
  }
  return sum;
}

/// dlogit[e] += advantage * d ln Q / d logit[e] = advantage * sum over i of ([e is choice i] - p_i(e)), with
/// the sets as they are.
template <class Real, class SetOf>
void sequential_log_probability_backward(const RowContext<Real>& row, const Chosen& chosen, double advantage,
                                         const SetOf& set_of, Real* dlogit) noexcept {
  for (Index i = 0; i < chosen.count; ++i) {
    const auto counts = set_of(i);
    const double all = log_sum_exp_of(row, counts);
    for (Index e = 0; e < row.n; ++e) {
      if (!counts(e)) continue;
      const double p = ::exp(static_cast<double>(row.logit[e]) - all);
      dlogit[e] += static_cast<Real>(advantage * ((e == Index{chosen.id[i]} ? 1.0 : 0.0) - p));
    }
  }
}

}  // namespace impl

MOE_NAMESPACE_END
