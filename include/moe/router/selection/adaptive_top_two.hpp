// One expert for rows that know it, two for the others. Li et al. 2310.07188, "Adaptive gating in
// mixture-of-experts based language models".
#pragma once

#include "moe/core/check.hpp"
#include "moe/kernel/top_k.hpp"
#include "moe/router/selection/concept.hpp"

MOE_NAMESPACE_BEGIN

/// The best expert alone if its score is more than `gap` above that of the second, else both.
class AdaptiveTopTwo {
 public:
  static constexpr const char* kName = "adaptive_top_two";
  struct Options {
    double gap = 0.1;  // T of the paper, of softmax scores: 0.05 to 0.5 there
  };

  /// Throws config_error for a gap outside [0, 1].
  explicit AdaptiveTopTwo(Options options) : options_(options) {
    if (!(options.gap >= 0 && options.gap <= 1)) {
      fail<config_error>("gap of adaptive gating: expected a value in [0, 1], got ", options.gap);
    }
  }
  const Options& options() const noexcept { return options_; }

  Index most(const CallOptions& options, Index n) const {
    impl::refuse_option("experts per token", options.experts_per_token, "the selection ", kName);
    impl::refuse_all_but_k(options, "the selection ", kName);
    return n < 2 ? n : 2;
  }

  template <class Real>
  Index select(const RowContext<Real>& row, Real* choice, ExpertId* out) const noexcept {
    const Index best = row.n < 2 ? row.n : 2;
    top_k_row(choice, row.n, best, out);
    const Index open = impl::without_masked(choice, out, best);
    const bool sure =
        open == 2 &&
        static_cast<double>(row.score[out[0]]) - static_cast<double>(row.score[out[1]]) > options_.gap;
    return sure ? 1 : open;
  }

 private:
  Options options_;
};

MOE_NAMESPACE_END
