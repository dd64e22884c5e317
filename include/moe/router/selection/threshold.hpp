// Every expert whose score is above a threshold, the best ones in any case: DynaMoE, and the dense-to-sparse
// gate of EvoMoE, Nie et al. 2112.14397, which chooses so in training alone.
#pragma once

#include "moe/core/check.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/top_k.hpp"
#include "moe/router/selection/concept.hpp"

MOE_NAMESPACE_BEGIN

/// Every output with a choice score above the threshold, highest first, and at least the `least` best. With
/// `inference_k` the k best in inference instead; K of a call takes its place there. CallOptions::threshold
/// takes the place of the threshold.
class ThresholdSelection {
 public:
  static constexpr const char* kName = "threshold";
  struct Options {
    double threshold = 0.1;
    Index least = 1;
    Index inference_k = 0;  // 0: in inference as in training
  };

  /// Throws config_error for a threshold that is not finite, least < 1 or inference_k < 0.
  explicit ThresholdSelection(Options options) : options_(options) {
    check_threshold(options.threshold);
    require_range("least experts per token", options.least, 1, INT32_MAX);
    require_range("experts per token in inference", options.inference_k, 0, INT32_MAX);
  }
  const Options& options() const noexcept { return options_; }

  void check(Index outputs) const {
    require_range("least experts per token", options_.least, 1, outputs);
    require_range("experts per token in inference", options_.inference_k, 0, outputs);
  }
  template <class Real>
  void check_call(const RouterInput<Real>& in) const {
    if (in.training || options_.inference_k == 0) {
      impl::refuse_option("experts per token", in.options.experts_per_token, "the selection ", kName);
    }
  }
  Index most(const CallOptions& options, Index n) const {
    impl::refuse_option("capacity factor", options.capacity_factor, "the selection ", kName);
    impl::refuse_option("p", options.p, "the selection ", kName);
    check_threshold(options.threshold);
    require_range("experts per token", options.experts_per_token, 0, n);
    return n;
  }

  template <class Real>
  Index select(const RowContext<Real>& row, Real* choice, ExpertId* out) const noexcept {
    const Index count = options_.inference_k > 0 && !row.training()
                            ? (row.k() == 0 ? options_.inference_k : row.k())
                            : above_threshold(row, choice);
    top_k_row(choice, row.n, count, out);
    return impl::without_masked(choice, out, count);
  }

 private:
  static void check_threshold(double threshold) {
    if (!is_finite(threshold)) fail<config_error>("threshold: expected a finite value, got ", threshold);
  }

  template <class Real>
  Index above_threshold(const RowContext<Real>& row, const Real* choice) const noexcept {
    const double asked = row.call.options.threshold;
    const Real threshold = static_cast<Real>(asked == 0 ? options_.threshold : asked);
    Index count = 0;
    for (Index e = 0; e < row.n; ++e) count += choice[e] > threshold ? 1 : 0;
    return count < options_.least ? options_.least : count;
  }

  Options options_;
};

MOE_NAMESPACE_END
