// Ordered choices drawn without replacement from the softmax of the logits, in training: Plackett and Luce's
// distribution, drawn at once as the highest Gumbel keys (Kool et al. 1903.06059). With k = 1 a draw from the
// softmax. ReMix, RL-R.
#pragma once

#include "moe/core/check.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/top_k.hpp"
#include "moe/router/selection/concept.hpp"
#include "moe/router/sequential_choice.hpp"

MOE_NAMESPACE_BEGIN

/// Training: the k highest of l_e - ln(-ln u_e), u by (seed, call, row key, e); Q(a) = product over i of
/// exp(l_{a_i}) / sum of exp(l_e) over those not chosen before. Inference: the k highest logits. By the
/// logits, over the call's temperature: scores, and a selection bias, have no say in it.
class PlackettLuce {
 public:
  static constexpr const char* kName = "plackett_luce";
  struct Options {
    Index k = 1;
  };

  /// Throws config_error for k < 1.
  explicit PlackettLuce(Options options) : k_(options.k) {
    require_range("experts per token", options.k, 1, INT32_MAX);
  }
  Options options() const noexcept { return {k_}; }

  template <class Real>
  void check_call(const RouterInput<Real>& in) const {
    if (in.training) in.require_draws("a router that samples its choices");
  }
  Index most(const CallOptions& options, Index n) const {
    impl::refuse_all_but_k(options, "the selection ", kName);
    return impl::experts_per_token(k_, options, n, "the router's outputs");
  }

  template <class Real>
  Index select(const RowContext<Real>& row, Real* choice, ExpertId* out) const noexcept {
    const Index kept = row.k() == 0 ? k_ : row.k();
    for (Index e = 0; e < row.n; ++e) {
      choice[e] = row.logit[e];
      if (!row.training() || is_neg_inf(choice[e])) continue;
      const double u = row.uniform(DrawStream::choice, static_cast<std::uint32_t>(e));
      choice[e] = static_cast<Real>(static_cast<double>(choice[e]) + impl::gumbel(u));
    }
    top_k_row(choice, row.n, kept, out);
    return impl::without_masked(choice, out, kept);
  }

  template <class Real>
  double log_probability(const RowContext<Real>& row, const Chosen& chosen) const noexcept {
    return impl::sequential_log_probability(row, chosen, rest(row, chosen));
  }
  template <class Real>
  void log_probability_backward(const RowContext<Real>& row, const Chosen& chosen, double advantage,
                                Real* dlogit) const noexcept {
    impl::sequential_log_probability_backward(row, chosen, advantage, rest(row, chosen), dlogit);
  }

 private:
  /// What choice i was drawn from: open outputs but those before it.
  template <class Real>
  static auto rest(const RowContext<Real>& row, const Chosen& chosen) noexcept {
    return [&row, &chosen](Index i) noexcept {
      return [&row, &chosen, i](Index e) noexcept {
        return !is_neg_inf(row.logit[e]) && !impl::is_among(chosen, i, e);
      };
    };
  }

  Index k_;
};

MOE_NAMESPACE_END
