// GRIN's draws: every choice from the softmax of the logits near the best one that is left, in training. Liu
// et al. 2409.12136; the released code of Phi-3.5-MoE.
#pragma once

#include "moe/core/check.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/top_k.hpp"
#include "moe/router/near_best.hpp"
#include "moe/router/selection/concept.hpp"
#include "moe/router/sequential_choice.hpp"

MOE_NAMESPACE_BEGIN

/// Training: choice i is drawn from the softmax of the open logits without choices 0 .. i - 1 (what was
/// drawn, not what was best) and without those that impl::is_near_best leaves out, best being the highest of
/// them; u by (seed, call, row key, slot, output). Inference: the k highest logits. A selection bias has no
/// say.
class SparseMixerSelection {
 public:
  static constexpr const char* kName = "sparse_mixer";
  struct Options {
    Index k = 2;
    double eps = 0.01;
  };

  /// Throws config_error for k < 1, or an eps below 0 or not finite.
  explicit SparseMixerSelection(Options options) : options_(options) {
    require_range("experts per token", options.k, 1, INT32_MAX);
    if (!(options.eps >= 0 && is_finite(options.eps))) {
      fail<config_error>("sparse mixer eps: expected a finite value >= 0, got ", options.eps);
    }
  }
  const Options& options() const noexcept { return options_; }

  template <class Real>
  void check_call(const RouterInput<Real>& in) const {
    if (in.training) in.require_draws("a router that samples its choices");
  }
  Index most(const CallOptions& options, Index n) const {
    impl::refuse_all_but_k(options, "the selection ", kName);
    return impl::experts_per_token(options_.k, options, n, "the router's outputs");
  }

  template <class Real>
  Index select(const RowContext<Real>& row, Real* choice, ExpertId* out) const noexcept {
    const Index kept = row.k() == 0 ? options_.k : row.k();
    if (!row.training()) {
      for (Index e = 0; e < row.n; ++e) choice[e] = row.logit[e];
      top_k_row(choice, row.n, kept, out);
      return impl::without_masked(choice, out, kept);
    }
    Index count = 0;
    for (; count < kept; ++count) {
      const auto counts = near_rest(row, Chosen{out, count}, count);
      double best = 0;
      Index drawn = -1;
      for (Index e = 0; e < row.n; ++e) {
        if (!counts(e)) continue;
        const double u = row.uniform(DrawStream::choice, static_cast<std::uint32_t>(count * row.n + e));
        const double key = static_cast<double>(row.logit[e]) + impl::gumbel(u);
        if (drawn < 0 || key > best) best = key, drawn = e;
      }
      if (drawn < 0) break;
      out[count] = static_cast<ExpertId>(drawn);
    }
    return count;
  }

  template <class Real>
  double log_probability(const RowContext<Real>& row, const Chosen& chosen) const noexcept {
    return impl::sequential_log_probability(row, chosen, sets(row, chosen));
  }
  template <class Real>
  void log_probability_backward(const RowContext<Real>& row, const Chosen& chosen, double advantage,
                                Real* dlogit) const noexcept {
    impl::sequential_log_probability_backward(row, chosen, advantage, sets(row, chosen), dlogit);
  }

 private:
  /// Whether choice i may be output e.
  template <class Real>
  auto near_rest(const RowContext<Real>& row, const Chosen& chosen, Index i) const noexcept {
    Real best = impl::kMasked<Real>;
    for (Index e = 0; e < row.n; ++e) {
      if (row.logit[e] > best && !impl::is_among(chosen, i, e)) best = row.logit[e];
    }
    return [&row, chosen, i, best, eps = options_.eps](Index e) noexcept {
      return !is_neg_inf(row.logit[e]) && !impl::is_among(chosen, i, e) &&
             impl::is_near_best(best, row.logit[e], eps);
    };
  }
  template <class Real>
  auto sets(const RowContext<Real>& row, const Chosen& chosen) const noexcept {
    return [this, &row, &chosen](Index i) noexcept { return near_rest(row, chosen, i); };
  }

  Options options_;
};

MOE_NAMESPACE_END
