// Experts in clusters: alike within, unlike between. MoEC, 2207.09094.
#pragma once

#include "moe/core/check.hpp"
#include "moe/router/balance/concept.hpp"
#include "moe/router/expert_blocks.hpp"

MOE_NAMESPACE_BEGIN

/// c N^2 * mean over tokens of (mean over clusters of Var of p within - lambda Var over clusters of their
/// mean p): small where a token's probability is spread evenly in a cluster and differs between clusters.
/// Population variances; N^2 makes them those of N p, which is 1 where uniform. The paper gives neither sign
/// nor scale in one formula: this one is our reading.
class ClusterVariance {
 public:
  static constexpr const char* kName = "cluster_variance";
  struct Options {
    double coefficient = 0.01;
    Index clusters = 1;  // equal blocks of the outputs
    double between = 1;  // lambda
  };

  ClusterVariance() = default;
  /// Throws config_error for a coefficient or lambda that is not finite, or clusters below 1.
  explicit ClusterVariance(Options options) : options_(options) {
    impl::checked_coefficient(kName, options.coefficient);
    impl::checked_coefficient("cluster variance between clusters", options.between);
    require_range("clusters", options.clusters, 1, INT32_MAX);
  }

  double coefficient() const noexcept { return options_.coefficient; }
  void check(Index outputs) const { impl::require_blocks("clusters", options_.clusters, outputs); }
  void measure(Arena& arena, Index, Index) const { arena.take<double>(options_.clusters); }

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena& arena) const {
    double* const mean = arena.take<double>(options_.clusters);
    double sum = 0;
    for (Index t = 0; t < in.tokens(); ++t) {
      if (!in.active[t]) continue;
      const double all = form_means(in, t, mean);
      double within = 0, between = 0;
      for (Index e = 0; e < in.outputs(); ++e) within += square(p(in, t, e) - mean[cluster(in, e)]);
      for (Index c = 0; c < options_.clusters; ++c) between += square(mean[c] - all);
      sum += within / outputs(in) - options_.between * between / static_cast<double>(options_.clusters);
    }
    return in.active_count == 0
               ? 0.0
               : options_.coefficient * square(outputs(in)) * sum / static_cast<double>(in.active_count);
  }

  /// d / d p_e = 2 c N / T * (p_e - m - lambda (m - all)), m its cluster's mean and `all` the mean of p.
  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out,
                Arena& arena) const {
    double* const mean = arena.take<double>(options_.clusters);
    const double unit = in.active_count == 0 ? 0.0
                                             : 2 * scale * options_.coefficient * outputs(in) /
                                                   static_cast<double>(in.active_count);
    for (Index t = 0; t < in.tokens(); ++t) {
      if (!in.active[t]) continue;
      const double all = form_means(in, t, mean);
      for (Index e = 0; e < in.outputs(); ++e) {
        const double m = mean[cluster(in, e)];
        out.dprobability(t, e) += static_cast<Real>(unit * (p(in, t, e) - m - options_.between * (m - all)));
      }
    }
  }

 private:
  static double square(double v) noexcept { return v * v; }
  template <class Real>
  static double outputs(const BalanceInput<Real>& in) noexcept {
    return static_cast<double>(in.outputs());
  }
  template <class Real>
  static double p(const BalanceInput<Real>& in, Index t, Index e) noexcept {
    return static_cast<double>(in.probability(t, e));
  }
  template <class Real>
  Index cluster(const BalanceInput<Real>& in, Index e) const noexcept {
    return e / (in.outputs() / options_.clusters);
  }
  /// Of every cluster; returns that of all outputs.
  template <class Real>
  double form_means(const BalanceInput<Real>& in, Index t, double* mean) const noexcept {
    const double size = outputs(in) / static_cast<double>(options_.clusters);
    double all = 0;
    for (Index c = 0; c < options_.clusters; ++c) mean[c] = 0;
    for (Index e = 0; e < in.outputs(); ++e) {
      mean[cluster(in, e)] += p(in, t, e) / size;
      all += p(in, t, e) / outputs(in);
    }
    return all;
  }

  Options options_{};
};

MOE_NAMESPACE_END
