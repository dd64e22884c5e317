// The k highest: the selection of most routers.
#pragma once

#include "moe/core/check.hpp"
#include "moe/kernel/top_k.hpp"
#include "moe/router/selection/concept.hpp"

MOE_NAMESPACE_BEGIN

/// The k highest.
class TopKSelection {
 public:
  /// Throws config_error for k < 1.
  explicit TopKSelection(Index k) : k_(k) { require_range("experts per token", k, 1, INT32_MAX); }

  Index k() const noexcept { return k_; }

  Index most(Index k, Index n) const {
    const Index kept = k == 0 ? k_ : k;
    if (kept < 1 || kept > n) {
      fail<config_error>("experts per token: expected K in [1, ", n, "] (the router's outputs), got ", kept);
    }
    return kept;
  }

  template <class Real>
  Index select(Real* choice, Index n, Index k, ExpertId* out) const noexcept {
    const Index kept = k == 0 ? k_ : k;
    top_k_row(choice, n, kept, out);
    return impl::without_masked(choice, out, kept);
  }

 private:
  Index k_;
};

MOE_NAMESPACE_END
