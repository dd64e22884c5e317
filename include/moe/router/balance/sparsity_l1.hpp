// A loss that is smallest where a token's probability lies on one expert. SpeechMoE, You et al. 2105.03036.
#pragma once

#include <cmath>

#include "moe/router/balance/concept.hpp"

MOE_NAMESPACE_BEGIN

/// c * mean over tokens of the 1-norm of p / |p|_2: 1 where p is one-hot, sqrt(N) where it is uniform.
class SparsityL1 {
 public:
  static constexpr const char* kName = "sparsity_l1";
  struct Options {
    double coefficient = 0.1;
  };

  SparsityL1() = default;
  /// Throws config_error for a coefficient that is not finite.
  explicit SparsityL1(Options options) : options_(options) {
    impl::checked_coefficient(kName, options.coefficient);
  }

  double coefficient() const noexcept { return options_.coefficient; }
  void measure(Arena&, Index, Index) const noexcept {}

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena&) const {
    double sum = 0;
    for (Index t = 0; t < in.tokens(); ++t) {
      const Norms norm = norms(in, t);
      if (norm.two > 0) sum += norm.one / norm.two;
    }
    return in.active_count == 0 ? 0.0 : options_.coefficient * sum / static_cast<double>(in.active_count);
  }

  /// d / d p_e = 1 / |p|_2 - |p|_1 p_e / |p|_2^3.
  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out, Arena&) const {
    for (Index t = 0; t < in.tokens(); ++t) {
      const Norms norm = norms(in, t);
      if (!(norm.two > 0)) continue;
      const double unit = scale * options_.coefficient / static_cast<double>(in.active_count) / norm.two;
      const double slope = norm.one / (norm.two * norm.two);
      for (Index e = 0; e < in.outputs(); ++e) {
        out.dprobability(t, e) +=
            static_cast<Real>(unit * (1 - slope * static_cast<double>(in.probability(t, e))));
      }
    }
  }

 private:
  struct Norms {
    double one = 0, two = 0;
  };
  /// 0 for a row that takes no part. Probabilities are not negative.
  template <class Real>
  static Norms norms(const BalanceInput<Real>& in, Index t) noexcept {
    Norms norm;
    for (Index e = 0; in.active[t] && e < in.outputs(); ++e) {
      const auto p = static_cast<double>(in.probability(t, e));
      norm.one += p;
      norm.two += p * p;
    }
    norm.two = std::sqrt(norm.two);
    return norm;
  }

  Options options_{};
};

MOE_NAMESPACE_END
