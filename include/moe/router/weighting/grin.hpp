// GRIN's gradient of a sampled choice, SparseMixer-v2: Liu et al. 2409.12136; the released code of
// Phi-3.5-MoE. For IdentityScore and SparseMixerSelection: scores are logits.
#pragma once

#include "moe/kernel/finite.hpp"
#include "moe/kernel/math.hpp"
#include "moe/router/near_best.hpp"
#include "moe/router/sequential_choice.hpp"
#include "moe/router/weighting/concept.hpp"
#include "moe/router/weighting/sparse_mixer.hpp"

MOE_NAMESPACE_BEGIN

/// Inference: SparseMixerWeighting. Training: choice i has the share pi of its logit h in the softmax of
/// those that it was drawn from, and weighs pi if it is the best of them, else pi with probability 1/4 and pi
/// / 3 with 3/4 (a draw per row and slot). The gradient is that of pi either way: d weight * d pi / d h,
/// without the third. So with a loss L(w) of the weight, w L' has the mean (pi L'(pi) + 3 pi L'(pi / 3)) / 4,
/// which is L(pi) - L(0) for any cubic L (Heun's third order); for the best one it is pi L'(pi). A choice
/// that could not have been drawn weighs 0.
class GrinWeighting {
 public:
  static constexpr const char* kName = "grin";
  struct Options {
    double eps = 0.01;
  };

  /// Throws config_error for an eps below 0 or not finite.
  explicit GrinWeighting(Options options) : options_(options), inference_({.eps = options.eps}) {}
  const Options& options() const noexcept { return options_; }

  template <class Real>
  void check_call(const RouterInput<Real>& in) const {
    if (in.training) in.require_draws("a router with GRIN's weights");
  }

  template <class Real>
  void forward(const RowContext<Real>& row, const Chosen& chosen, Real* weight, bool* keep) const noexcept {
    if (!row.training()) return inference_.forward(row, chosen, weight, keep);
    for (Index i = 0; i < chosen.count; ++i) {
      const Near<Real> near(row, chosen, i, options_.eps);
      const bool whole = near.best == Index{chosen.id[i]} ||
                         row.uniform(DrawStream::multiplier, static_cast<std::uint32_t>(i)) > 0.75;
      weight[i] = near.share(chosen.id[i]) * (whole ? Real{1} : Real{1} / 3);
      keep[i] = true;
    }
  }

  template <class Real>
  void backward(const RowContext<Real>& row, const Chosen& chosen, const Real* dweight,
                Real* dscore) const noexcept {
    if (!row.training()) return inference_.backward(row, chosen, dweight, dscore);
    for (Index i = 0; i < chosen.count; ++i) {
      const Near<Real> near(row, chosen, i, options_.eps);
      const Real through = dweight[i] * near.share(chosen.id[i]);
      for (Index e = 0; e < row.n; ++e) {
        if (!near.has(e)) continue;
        dscore[e] += through * ((e == Index{chosen.id[i]} ? Real{1} : Real{0}) - near.share(e));
      }
    }
  }

 private:
  /// What choice i is drawn from, and its softmax.
  template <class Real>
  struct Near {
    const RowContext<Real>& row;
    const Chosen& chosen;
    Index i;
    double eps;
    Index best = -1;
    Real sum = 0;  // of exp(h_e - h_best)

    Near(const RowContext<Real>& row_, const Chosen& chosen_, Index i_, double eps_) noexcept
        : row(row_), chosen(chosen_), i(i_), eps(eps_) {
      for (Index e = 0; e < row.n; ++e) {
        if (open(e) && (best < 0 || row.score[e] > row.score[best])) best = e;
      }
      for (Index e = 0; e < row.n; ++e) {
        if (has(e)) sum += of_best(e);
      }
    }
    bool open(Index e) const noexcept { return !is_neg_inf(row.score[e]) && !impl::is_among(chosen, i, e); }
    bool has(Index e) const noexcept {
      return open(e) && impl::is_near_best(row.score[best], row.score[e], eps);
    }
    Real of_best(Index e) const noexcept {
      return math::exp_nonpositive(Real(row.score[e] - row.score[best]));
    }
    Real share(Index e) const noexcept { return has(e) ? of_best(e) / sum : Real{0}; }
  };

  Options options_;
  SparseMixerWeighting inference_;
};

MOE_NAMESPACE_END
