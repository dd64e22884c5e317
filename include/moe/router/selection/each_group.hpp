// As many experts from every group: expert prototyping, M6-T, Yang et al. 2105.15082 section 3.
#pragma once

#include "moe/core/check.hpp"
#include "moe/kernel/top_k.hpp"
#include "moe/router/expert_blocks.hpp"
#include "moe/router/selection/concept.hpp"

MOE_NAMESPACE_BEGIN

/// The k highest choice scores of every group, group by group. K of a call counts all: groups * k.
class EachGroupSelection {
 public:
  static constexpr const char* kName = "each_group";
  struct Options {
    Index groups = 1;  // Z, equal blocks of ids
    Index k = 1;       // of each
  };

  /// Throws config_error for groups or k < 1.
  explicit EachGroupSelection(Options options) : options_(options) {
    require_range("groups", options.groups, 1, INT32_MAX);
    require_range("experts per group", options.k, 1, INT32_MAX);
  }
  const Options& options() const noexcept { return options_; }

  Index most(const CallOptions& options, Index n) const {
    impl::refuse_all_but_k(options, "the selection ", kName);
    impl::require_blocks("groups", options_.groups, n);
    const Index k = impl::experts_per_token(options_.groups * options_.k, options, n, "the router's outputs");
    if (k % options_.groups != 0) {
      fail<config_error>("experts per token: expected a multiple of the ", options_.groups, " groups, got ",
                         k);
    }
    return k;
  }

  template <class Real>
  Index select(const RowContext<Real>& row, Real* choice, ExpertId* out) const noexcept {
    const Index size = row.n / options_.groups;
    const Index k = row.k() == 0 ? options_.k : row.k() / options_.groups;
    Index count = 0;
    for (Index g = 0; g < options_.groups; ++g) {
      top_k_row(choice + g * size, size, k, out + count);
      const Index open = impl::without_masked(choice + g * size, out + count, k);
      for (Index i = 0; i < open; ++i) out[count++] += static_cast<ExpertId>(g * size);
    }
    return count;
  }

 private:
  Options options_;
};

MOE_NAMESPACE_END
