// A softmax within every group of outputs: expert prototyping, M6-T, Yang et al. 2105.15082 section 3.
#pragma once

#include "moe/core/check.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/softmax.hpp"
#include "moe/router/expert_blocks.hpp"
#include "moe/router/row_context.hpp"
#include "moe/router/score/elementwise.hpp"

MOE_NAMESPACE_BEGIN

/// The scores of every group with an open output sum to 1; probabilities are shares of all.
class GroupSoftmax : public impl::ShareOfSum {
 public:
  static constexpr const char* kName = "group_softmax";
  struct Options {
    Index groups = 1;  // Z, equal blocks of ids
  };

  /// Throws config_error for groups < 1.
  explicit GroupSoftmax(Options options) : options_(options) {
    require_range("groups", options.groups, 1, INT32_MAX);
  }
  const Options& options() const noexcept { return options_; }
  void check(Index outputs) const { impl::require_blocks("groups", options_.groups, outputs); }

  template <class Real>
  void forward(const RowContext<Real>& row, Real* score) const noexcept {
    const Index size = row.n / options_.groups;
    for (Index first = 0; first < row.n; first += size) {
      if (any_above_neg_inf(row.logit + first, size)) {
        softmax_row(row.logit + first, score + first, size);
      } else {
        fill_row(Real{0}, score + first, size);
      }
    }
  }
  template <class Real>
  void backward(const RowContext<Real>& row, const Real* dscore, Real* dlogit) const noexcept {
    const Index size = row.n / options_.groups;
    for (Index first = 0; first < row.n; first += size) {
      softmax_backward_row(row.score + first, dscore + first, dlogit + first, size);
    }
  }

 private:
  Options options_;
};

MOE_NAMESPACE_END
