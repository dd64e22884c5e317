// Shapes the probabilities of every expert over the batch like those of a Dirichlet prior. "Dirichlet-Prior
// Shaping", 2510.01185; distributions are matched as in batch shaping, 1907.06627.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/kernel/beta.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/router/balance/concept.hpp"

MOE_NAMESPACE_BEGIN

/// c * sum over outputs k of mean over i of (F_k(p_(i)) - i / (T + 1))^2, p_(1) <= ... <= p_(T) the output's
/// probabilities over the tokens, F_k the distribution of Dirichlet(alpha)'s k-th component, Beta(alpha_k, A
/// - alpha_k), A the sum of alpha. 0 where they lie on the target's quantiles. alpha below 1 makes tokens
/// decide, above 1 share. Tokens that mask an output do not count for it. The order has no gradient;
/// densities are taken at p in [1e-12, 1 - 1e-12], beyond which some are infinite.
class DirichletPrior {
 public:
  static constexpr const char* kName = "dirichlet_prior";
  struct Options {
    double coefficient = 0.01;
    double alpha = 1;  // of every output
  };

  DirichletPrior() = default;
  /// Throws config_error for a coefficient that is not finite or an alpha outside [1e-3, 1e4].
  explicit DirichletPrior(Options options) : DirichletPrior(options, {}) {}
  /// With an alpha of its own for every output [N].
  DirichletPrior(Options options, Buffer<double> alpha) : options_(options), alpha_(std::move(alpha)) {
    impl::checked_coefficient(kName, options.coefficient);
    check_alpha(options.alpha);
    for (const double of : alpha_) check_alpha(of);
  }

  double coefficient() const noexcept { return options_.coefficient; }
  /// Throws config_error for a single output, shape_error for another number of alphas.
  void check(Index outputs) const {
    require_range("outputs", outputs, 2, INT32_MAX);
    if (!alpha_.empty()) require_extent("dirichlet prior", "alphas", outputs, alpha_.size());
  }
  void measure(Arena& arena, Index tokens, Index) const { arena.take<std::int32_t>(tokens); }

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena& arena) const {
    double sum = 0;
    each_rank(in, arena,
              [&](Index t, Index e, const math::BetaDistribution& prior, double target, double share) {
                const double miss = prior.cdf(static_cast<double>(in.probability(t, e))) - target;
                sum += share * miss * miss;
              });
    return options_.coefficient * sum;
  }

  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out,
                Arena& arena) const {
    each_rank(in, arena,
              [&](Index t, Index e, const math::BetaDistribution& prior, double target, double share) {
                const auto p = static_cast<double>(in.probability(t, e));
                const double miss = prior.cdf(p) - target;
                out.dprobability(t, e) += static_cast<Real>(2 * scale * options_.coefficient * share * miss *
                                                            prior.density(std::clamp(p, 1e-12, 1 - 1e-12)));
              });
  }

 private:
  static void check_alpha(double alpha) {
    if (!(alpha >= 1e-3 && alpha <= 1e4)) {
      fail<config_error>("dirichlet prior: expected an alpha in [0.001, 10000], got ", alpha);
    }
  }

  /// f(t, e, F_e, i / (T + 1), 1 / T) for every output and, of its tokens, by rising probability (equal ones:
  /// the lower token first).
  template <class Real, class F>
  void each_rank(const BalanceInput<Real>& in, Arena& arena, F&& f) const {
    std::int32_t* const order = arena.take<std::int32_t>(in.tokens());
    const Index n = in.outputs();
    double total = 0;
    for (Index e = 0; e < n; ++e) total += alpha_.empty() ? options_.alpha : alpha_[e];
    for (Index e = 0; e < n; ++e) {
      const double alpha = alpha_.empty() ? options_.alpha : alpha_[e];
      const math::BetaDistribution prior(alpha, total - alpha);
      Index count = 0;
      for (Index t = 0; t < in.tokens(); ++t) {
        if (in.active[t] && !is_neg_inf(in.logit(t, e))) order[count++] = static_cast<std::int32_t>(t);
      }
      std::sort(order, order + count, [&](std::int32_t a, std::int32_t b) {
        const Real of_a = in.probability(a, e), of_b = in.probability(b, e);
        return of_a != of_b ? of_a < of_b : a < b;
      });
      const auto tokens = static_cast<double>(count);
      for (Index i = 0; i < count; ++i) {
        f(Index{order[i]}, e, prior, static_cast<double>(i + 1) / (tokens + 1), 1 / tokens);
      }
    }
  }

  Options options_{};
  Buffer<double> alpha_;  // [N] or empty
};

MOE_NAMESPACE_END
