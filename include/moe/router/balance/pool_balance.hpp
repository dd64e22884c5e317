// Load balance over a pool of experts that several layers share: what all of them together choose is to be
// even, not what each chooses. UniPool.
#pragma once

#include <cstdint>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/moved.hpp"
#include "moe/router/balance/concept.hpp"

MOE_NAMESPACE_BEGIN

/// c N / L * sum over outputs of f_e P_e, with f_e the fraction of all layers' choices that fell on e, and
/// P_e the layer's mean probability: the losses of the L layers add up to c N sum_e f_e mean_l P_{l,e}, which
/// is c when f is uniform. f is that of the step before, of which every layer's router is told the same
/// counts by on_step_end, all layers' added up: all f are needed before any layer's backward, and so no layer
/// waits for the others. Before the first step f is uniform, and the loss has no gradient. f has none.
class PoolBalance {
 public:
  static constexpr const char* kName = "pool_balance";
  struct Options {
    Index outputs = 0;  // N
    Index layers = 1;   // L that share the pool
    double coefficient = 0.01;
  };

  /// Throws config_error for sizes below 1 or a coefficient that is not finite.
  explicit PoolBalance(Options options) : options_(options) {
    require_range("outputs of a pool", options.outputs, 1, INT32_MAX);
    require_range("layers of a pool", options.layers, 1, INT32_MAX);
    impl::checked_coefficient(kName, options.coefficient);
    share_.assign(options.outputs, 1 / static_cast<double>(options.outputs));
  }

  double coefficient() const noexcept { return options_.coefficient; }
  /// f [N].
  const Buffer<double>& share() const noexcept { return share_; }
  void check(Index outputs) const {
    impl::require_there(kName, !share_.empty());
    require_extent(kName, "outputs", outputs, share_.size());
  }

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena&) const {
    double sum = 0;
    for (Index t = 0; t < in.tokens(); ++t) {
      for (Index e = 0; in.active[t] && e < in.outputs(); ++e)
        sum += share_[e] * static_cast<double>(in.probability(t, e));
    }
    return sum * factor(in);
  }
  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out, Arena&) const {
    const double each = scale * factor(in);
    for (Index t = 0; t < in.tokens(); ++t) {
      for (Index e = 0; in.active[t] && e < in.outputs(); ++e)
        out.dprobability(t, e) += static_cast<Real>(each * share_[e]);
    }
  }

  /// Counts of all layers and micro-batches of the step; one without choices changes nothing. Throws
  /// shape_error for another number of experts.
  void on_step_end(const RouteStats& stats) {
    require_extent("statistics", "experts", share_.size(), stats.experts());
    const auto total = static_cast<double>(stats.pairs());
    for (Index e = 0; total > 0 && e < share_.size(); ++e)
      share_[e] = static_cast<double>(stats.load[e]) / total;
  }
  /// f(name, values, n) with a copy, taken over if all it holds afterwards are fractions; otherwise
  /// numeric_error.
  template <class Visitor>
  void visit_state(Visitor& f) {
    Buffer<double> copy = share_;
    f("pool_balance.share", copy.data(), copy.size());
    for (Index e = 0; e < copy.size(); ++e) {
      if (!(copy[e] >= 0 && copy[e] <= 1)) {
        fail<numeric_error>("pool_balance.share: expected values in [0, 1], got ", copy[e], " for expert ",
                            e);
      }
    }
    share_ = std::move(copy);
  }
  template <class Visitor>
  void visit_state(Visitor& f) const {
    f("pool_balance.share", share_.data(), share_.size());
  }

 private:
  /// c N / L / (active tokens).
  template <class Real>
  double factor(const BalanceInput<Real>& in) const noexcept {
    if (in.active_count == 0) return 0;
    return options_.coefficient * static_cast<double>(in.outputs()) / static_cast<double>(options_.layers) /
           static_cast<double>(in.active_count);
  }

  Options options_;
  Buffer<double> share_;  // [N]
};

MOE_NAMESPACE_END
