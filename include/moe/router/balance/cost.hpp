// What choices cost, as the router expects to choose: Distributed Neural Architectures, 2506.22389, whose
// abstract leaves the form open.
#pragma once

#include <utility>
#include <vector>

#include "moe/core/check.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/router/balance/concept.hpp"

MOE_NAMESPACE_BEGIN

/// coefficient * mean over rows of sum over outputs of cost * probability.
class CostLoss {
 public:
  static constexpr const char* kName = "cost";
  struct Options {
    double coefficient = 1;
    std::vector<double> cost{};  // [N]
  };

  /// Throws config_error for a coefficient or a cost that is not finite.
  explicit CostLoss(Options options) : options_(std::move(options)) {
    impl::checked_coefficient(kName, options_.coefficient);
    for (const double c : options_.cost) {
      if (!is_finite(c)) fail<config_error>("cost of an output: expected a finite value, got ", c);
    }
  }
  const Options& options() const noexcept { return options_; }
  double coefficient() const noexcept { return options_.coefficient; }
  void check(Index outputs) const {
    if (static_cast<Index>(options_.cost.size()) != outputs) {
      fail<config_error>("costs: expected one for each of ", outputs, " outputs, got ",
                         static_cast<Index>(options_.cost.size()));
    }
  }

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena&) const {
    double sum = 0;
    for (Index t = 0; t < in.tokens(); ++t) {
      for (Index e = 0; in.active[t] && e < in.outputs(); ++e) {
        sum += cost(e) * static_cast<double>(in.probability(t, e));
      }
    }
    return in.active_count == 0 ? 0.0 : options_.coefficient * sum / static_cast<double>(in.active_count);
  }
  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out, Arena&) const {
    if (in.active_count == 0) return;
    const double factor = scale * options_.coefficient / static_cast<double>(in.active_count);
    for (Index t = 0; t < in.tokens(); ++t) {
      for (Index e = 0; in.active[t] && e < in.outputs(); ++e) {
        out.dprobability(t, e) += static_cast<Real>(factor * cost(e));
      }
    }
  }

 private:
  double cost(Index e) const noexcept { return options_.cost[static_cast<std::size_t>(e)]; }

  Options options_;
};

MOE_NAMESPACE_END
