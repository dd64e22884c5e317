// Whatever scores above 0, or above a threshold: the selection of ReLU routing.
#pragma once

#include "moe/kernel/top_k.hpp"
#include "moe/router/selection/concept.hpp"

MOE_NAMESPACE_BEGIN

/// Every output with a choice score above the call's threshold (0 if it has none), highest first. 0 to n
/// experts a token.
class PositiveSelection {
 public:
  static constexpr const char* kName = "positive";

  Index most(const CallOptions& options, Index n) const {
    impl::refuse_option("experts per token", options.experts_per_token, "the selection ", kName);
    impl::refuse_option("capacity factor", options.capacity_factor, "the selection ", kName);
    impl::refuse_option("p", options.p, "the selection ", kName);
    return n;
  }

  template <class Real>
  Index select(const RowContext<Real>& row, Real* choice, ExpertId* out) const noexcept {
    const Real threshold = static_cast<Real>(row.call.options.threshold);
    Index count = 0;
    for (Index e = 0; e < row.n; ++e) count += choice[e] > threshold ? 1 : 0;
    top_k_row(choice, row.n, count, out);
    return count;
  }
};

MOE_NAMESPACE_END
