// Whatever scores above 0: the selection of ReLU routing.
#pragma once

#include "moe/kernel/top_k.hpp"
#include "moe/router/selection/concept.hpp"

MOE_NAMESPACE_BEGIN

/// Every output with a positive choice score, highest first: ReLU routing. 0 to n experts a token.
class PositiveSelection {
 public:
  Index most(Index, Index n) const noexcept { return n; }

  template <class Real>
  Index select(Real* choice, Index n, Index, ExpertId* out) const noexcept {
    Index count = 0;
    for (Index e = 0; e < n; ++e) count += choice[e] > 0 ? 1 : 0;
    top_k_row(choice, n, count, out);
    return count;
  }
};

MOE_NAMESPACE_END
