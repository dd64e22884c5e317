// Entropy loss: c * mean over tokens of the entropy of their probabilities, so that tokens make up their
// minds and need fewer experts. Huang et al. 2403.07652 (Shannon's), DynMoLE (Tsallis's, as a fraction).
#pragma once

#include "moe/router/balance/concept.hpp"
#include "moe/router/entropy.hpp"

MOE_NAMESPACE_BEGIN

/// Differentiated through the probabilities, up to a constant along each row, which is no gradient of
/// anything that sums to 1.
class EntropyLoss {
 public:
  static constexpr const char* kName = "entropy";

  struct Options {
    double coefficient = 1e-4;
    double order = 1;       // q, router/entropy.hpp
    bool fraction = false;  // of the largest entropy that the row's open outputs allow
  };

  EntropyLoss() : EntropyLoss(Options{}) {}
  /// Throws config_error for a coefficient that is not finite or an order outside (0, 100].
  explicit EntropyLoss(Options options) : options_(options), entropy_(options.order) {
    impl::checked_coefficient(kName, options.coefficient);
  }

  double coefficient() const noexcept { return options_.coefficient; }
  void measure(Arena&, Index, Index) const noexcept {}

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena&) const {
    double sum = 0;
    for (Index t = 0; t < in.tokens(); ++t) {
      if (!in.active[t]) continue;
      double entropy = 0;
      for (Index e = 0; e < in.outputs(); ++e) {
        entropy += entropy_.term(static_cast<double>(in.probability(t, e)));
      }
      sum += factor(in, t) * entropy;
    }
    return sum;
  }

  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out, Arena&) const {
    for (Index t = 0; t < in.tokens(); ++t) {
      if (!in.active[t]) continue;
      const double common = scale * factor(in, t);
      for (Index e = 0; e < in.outputs(); ++e) {
        out.dprobability(t, e) +=
            static_cast<Real>(common * entropy_.slope(static_cast<double>(in.probability(t, e))));
      }
    }
  }

 private:
  /// c / T, over the row's largest entropy if that is asked for; a row with one open output has none.
  template <class Real>
  double factor(const BalanceInput<Real>& in, Index t) const noexcept {
    const double mean = options_.coefficient / static_cast<double>(in.active_count);
    if (!options_.fraction) return mean;
    const Index open = impl::open_outputs(in.logit.row(t), in.outputs());
    return open > 1 ? mean / entropy_.largest(open) : 0.0;
  }

  Options options_;
  impl::Entropy entropy_;
};

MOE_NAMESPACE_END
