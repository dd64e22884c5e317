// One row as a part of a router sees it, for tests of single parts.
#pragma once

#include "moe/router/row_context.hpp"

namespace test {

/// Of a call that says nothing else.
template <class Real>
moe::RowContext<Real> one_row(const Real* logit, const Real* score, moe::Index n) {
  static const moe::RouterInput<Real> call{};
  return {call, 0, n, logit, score};
}
/// Row 0 of `call`.
template <class Real>
moe::RowContext<Real> one_row(const moe::RouterInput<Real>& call, const Real* logit, const Real* score,
                              moe::Index n) {
  return {call, 0, n, logit, score};
}

}  // namespace test
