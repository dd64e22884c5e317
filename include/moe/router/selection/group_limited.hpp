// The best groups of experts first, then the k highest among them.
#pragma once

#include <cstdint>

#include "moe/core/check.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/top_k.hpp"
#include "moe/router/expert_blocks.hpp"
#include "moe/router/selection/concept.hpp"

MOE_NAMESPACE_BEGIN

/// How a group of experts is ranked.
enum class GroupScore : std::uint8_t {
  highest,      // best choice score of the group (DeepSeek-V2)
  top_two_sum,  // sum of its two best that are not masked (DeepSeek-V3, with a selection bias)
  sum,          // sum of all that are not masked: a group's probability, of softmax scores (SAM, SMILE)
};

/// Experts in equal groups (devices, nodes): the best `kept` groups stay, then the k highest among them.
/// DeepSeek-V2 (2405.04434) section 2.2.2, DeepSeek-V3 (2412.19437) section 2.1.2.
class GroupLimitedSelection {
 public:
  static constexpr const char* kName = "group_limited";
  struct Options {
    Index k = 8;
    Index groups = 8;
    Index kept = 4;
    GroupScore score = GroupScore::highest;
  };

  static constexpr Index kMostGroups = 256;

  /// Throws config_error unless 1 <= kept <= groups <= 256 and k >= 1.
  explicit GroupLimitedSelection(Options options) : options_(options) {
    require_range("experts per token", options.k, 1, INT32_MAX);
    require_range("groups", options.groups, 1, kMostGroups);
    require_range("kept groups", options.kept, 1, options.groups);
  }

  const Options& options() const noexcept { return options_; }

  Index most(const CallOptions& options, Index n) const {
    impl::refuse_all_but_k(options, "the selection ", kName);
    impl::require_blocks("groups", options_.groups, n);
    return impl::experts_per_token(options_.k, options, n / options_.groups * options_.kept,
                                   "experts of the kept groups");
  }

  template <class Real>
  Index select(const RowContext<Real>& row, Real* choice, ExpertId* out) const noexcept {
    const Index n = row.n, size = n / options_.groups;
    Real score[kMostGroups];
    ExpertId order[kMostGroups];
    bool stays[kMostGroups] = {};
    for (Index g = 0; g < options_.groups; ++g) score[g] = group_score(choice + g * size, size);
    top_k_row(score, options_.groups, options_.kept, order);
    for (Index i = 0; i < options_.kept; ++i) stays[order[i]] = true;
    for (Index e = 0; e < n; ++e) {
      if (!stays[e / size]) choice[e] = impl::kMasked<Real>;
    }
    const Index kept = row.k() == 0 ? options_.k : row.k();
    top_k_row(choice, n, kept, out);
    return impl::without_masked(choice, out, kept);
  }

 private:
  template <class Real>
  Real group_score(const Real* choice, Index size) const noexcept {
    Real first = impl::kMasked<Real>, second = impl::kMasked<Real>, sum = 0;
    for (Index i = 0; i < size; ++i) {
      if (!is_neg_inf(choice[i])) sum += choice[i];
      if (choice[i] > first) {
        second = first;
        first = choice[i];
      } else if (choice[i] > second) {
        second = choice[i];
      }
    }
    if (options_.score == GroupScore::sum) return is_neg_inf(first) ? first : sum;
    // A masked second is left out: a group with one open expert stays ahead of a group with none.
    return options_.score == GroupScore::highest || is_neg_inf(second) ? first : first + second;
  }

  Options options_;
};

MOE_NAMESPACE_END
