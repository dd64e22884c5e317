// The k highest: the selection of most routers.
#pragma once

#include "moe/core/check.hpp"
#include "moe/kernel/top_k.hpp"
#include "moe/router/selection/concept.hpp"

MOE_NAMESPACE_BEGIN

/// The k highest choice scores.
class TopKSelection {
 public:
  static constexpr const char* kName = "top_k";
  struct Options {
    Index k = 1;
  };

  /// Throws config_error for k < 1.
  explicit TopKSelection(Options options) : TopKSelection(options.k) {}
  explicit TopKSelection(Index k) : k_(k) { require_range("experts per token", k, 1, INT32_MAX); }

  Index k() const noexcept { return k_; }
  Options options() const noexcept { return {k_}; }

  Index most(const CallOptions& options, Index n) const {
    impl::refuse_all_but_k(options, "the selection ", kName);
    return impl::experts_per_token(k_, options, n, "the router's outputs");
  }

  template <class Real>
  Index select(const RowContext<Real>& row, Real* choice, ExpertId* out) const noexcept {
    const Index kept = row.k() == 0 ? k_ : row.k();
    top_k_row(choice, row.n, kept, out);
    return impl::without_masked(choice, out, kept);
  }

 private:
  Index k_;
};

MOE_NAMESPACE_END
