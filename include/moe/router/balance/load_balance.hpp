// Load-balance loss: c * N * sum over outputs of f_e * P_e, with f_e the fraction of choices that fell on e
// (sum 1) and P_e the mean probability. c when either is uniform, which is no minimum: an expert that nobody
// chooses may have a high P. Switch Transformer 2101.03961 eq. 4; f over all micro-batches: 2501.11873;
// heterogeneous weights per expert: MoE++ 2410.07348 eq. 7.
#pragma once

#include <limits>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/moved.hpp"
#include "moe/kernel/top_k.hpp"
#include "moe/router/balance/concept.hpp"

MOE_NAMESPACE_BEGIN

/// f has no gradient: counts are steps. d loss / d p_{t,e} = c * N * eta_e * f_e / (active tokens).
class LoadBalance {
 public:
  static constexpr const char* kName = "load_balance";

  struct Options {
    double coefficient = 0.01;
    bool first_choice_only = false;  // f from first choices: GShard 2006.16668
    bool most_likely_only = false;   // f from the most likely outputs, whoever is chosen
    Index nulls = 0;         // the last outputs stand for no expert and share their mean f: AdaMoE 2406.13233
    bool open_only = false;  // N counts the outputs that the mask of some active row leaves open
  };

  LoadBalance() = default;
  /// Throws config_error for a coefficient that is not finite.
  explicit LoadBalance(Options options) : LoadBalance(options, {}) {}
  /// With a factor eta_e per output, finite too.
  LoadBalance(Options options, Buffer<double> eta)
      : options_(options), factors_(eta.size()), eta_(std::move(eta)) {
    impl::checked_coefficient(kName, options.coefficient);
    for (const double factor : eta_) impl::checked_coefficient("load balance factors", factor);
  }

  double coefficient() const noexcept { return options_.coefficient; }
  void check(Index outputs) const {
    impl::require_there("load balance factors", eta_.size() == factors_);
    require_range("null experts", options_.nulls, 0, outputs - 1);
    if (!eta_.empty()) require_extent("load balance factors", "entries", outputs, eta_.size());
  }
  void measure(Arena& arena, Index, Index outputs) const { arena.take<double>(outputs); }

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena& arena) const {
    const double* factor = factors(in, arena);
    double sum = 0;
    for (Index t = 0; t < in.tokens(); ++t) {
      if (!in.active[t]) continue;
      for (Index e = 0; e < in.outputs(); ++e) sum += factor[e] * static_cast<double>(in.probability(t, e));
    }
    return sum;
  }

  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out,
                Arena& arena) const {
    const double* factor = factors(in, arena);
    for (Index t = 0; t < in.tokens(); ++t) {
      if (!in.active[t]) continue;
      for (Index e = 0; e < in.outputs(); ++e) out.dprobability(t, e) += static_cast<Real>(scale * factor[e]);
    }
  }

 private:
  /// c * N * eta_e * f_e / (active tokens), counts of other micro-batches included.
  template <class Real>
  const double* factors(const BalanceInput<Real>& in, Arena& arena) const {
    const Index n = in.outputs();
    double* const count = arena.take<double>(n);
    double total = 0;
    for (Index e = 0; e < n; ++e) {
      count[e] = in.call.outside_counts.empty() ? 0.0 : in.call.outside_counts[e];
      total += count[e];
    }
    for (Index t = 0; t < in.tokens(); ++t) {
      if (!in.active[t]) continue;
      if (options_.most_likely_only) {
        ExpertId top = 0;
        top_k_row(in.probability.row(t), n, 1, &top);
        count[top] += 1;
        total += 1;
        continue;
      }
      const Index taken = options_.first_choice_only && in.chosen_count[t] > 1 ? 1 : in.chosen_count[t];
      for (Index i = 0; i < taken; ++i) count[in.choices(t)[i]] += 1;
      total += static_cast<double>(taken);
    }
    double of_nulls = 0;
    for (Index e = n - options_.nulls; e < n; ++e) of_nulls += count[e];
    for (Index e = n - options_.nulls; e < n; ++e) count[e] = of_nulls / static_cast<double>(options_.nulls);
    const auto outputs = static_cast<double>(options_.open_only ? open(in) : n);
    const double common = total > 0 && in.active_count > 0
                              ? options_.coefficient * outputs / total / static_cast<double>(in.active_count)
                              : 0.0;
    for (Index e = 0; e < n; ++e) count[e] *= common * (eta_.empty() ? 1.0 : eta_[e]);
    return count;
  }

  template <class Real>
  static Index open(const BalanceInput<Real>& in) noexcept {
    Index count = 0;
    for (Index e = 0; e < in.outputs(); ++e) {
      Index t = 0;
      while (t < in.tokens() && !(in.active[t] && in.logit(t, e) > -std::numeric_limits<Real>::infinity()))
        ++t;
      count += t < in.tokens() ? 1 : 0;
    }
    return count;
  }

  Options options_{};
  Index factors_ = 0;   // what eta_ has until it is moved from
  Buffer<double> eta_;  // [N] or empty: 1
};

MOE_NAMESPACE_END
