// Logarithms of probabilities, which do not underflow. NaN gives NaN: rows that take no part may hold some.
#pragma once

#include "moe/core/types.hpp"
#include "moe/kernel/math.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// ln sum exp of value(0), ..., value(n - 1).
template <class F>
auto log_sum_exp(Index n, F value) noexcept {
  auto top = value(0);
  using Real = decltype(top);
  Real sum = 0;
  for (Index i = 1; i < n; ++i) top = value(i) > top ? value(i) : top;
  for (Index i = 0; i < n; ++i) sum += math::exp_nonpositive(Real(value(i) - top));
  return Real(top + math::log_positive(sum));
}

/// row_i = ln softmax(row)_i.
template <class Real>
void log_softmax_row(Real* row, Index n) noexcept {
  const Real all = log_sum_exp(n, [row](Index i) { return row[i]; });
  for (Index i = 0; i < n; ++i) row[i] -= all;
}

}  // namespace impl

MOE_NAMESPACE_END
