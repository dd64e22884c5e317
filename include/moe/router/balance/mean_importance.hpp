// A loss that is smallest where the mean probabilities are uniform. SpeechMoE, You et al. 2105.03036.
#pragma once

#include "moe/router/balance/concept.hpp"

MOE_NAMESPACE_BEGIN

/// c * N * sum over outputs of P_e^2, P_e the mean probability over the batch: c where uniform, c N where all
/// lies on one.
class MeanImportance {
 public:
  static constexpr const char* kName = "mean_importance";
  struct Options {
    double coefficient = 0.1;
  };

  MeanImportance() = default;
  /// Throws config_error for a coefficient that is not finite.
  explicit MeanImportance(Options options) : options_(options) {
    impl::checked_coefficient(kName, options.coefficient);
  }

  double coefficient() const noexcept { return options_.coefficient; }
  void measure(Arena& arena, Index, Index outputs) const { arena.take<double>(outputs); }

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena& arena) const {
    const double* const mean = means(in, arena);
    double sum = 0;
    for (Index e = 0; e < in.outputs(); ++e) sum += mean[e] * mean[e];
    return options_.coefficient * static_cast<double>(in.outputs()) * sum;
  }

  /// d / d p_te = 2 c N P_e / T.
  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out,
                Arena& arena) const {
    if (in.active_count == 0) return;
    const double* const mean = means(in, arena);
    const double unit = 2 * scale * options_.coefficient * static_cast<double>(in.outputs()) /
                        static_cast<double>(in.active_count);
    for (Index t = 0; t < in.tokens(); ++t) {
      for (Index e = 0; in.active[t] && e < in.outputs(); ++e) {
        out.dprobability(t, e) += static_cast<Real>(unit * mean[e]);
      }
    }
  }

 private:
  template <class Real>
  static const double* means(const BalanceInput<Real>& in, Arena& arena) {
    double* const mean = arena.take<double>(in.outputs());
    for (Index e = 0; e < in.outputs(); ++e) mean[e] = 0;
    for (Index t = 0; t < in.tokens(); ++t) {
      for (Index e = 0; in.active[t] && e < in.outputs(); ++e) {
        mean[e] += static_cast<double>(in.probability(t, e)) / static_cast<double>(in.active_count);
      }
    }
    return mean;
  }

  Options options_{};
};

MOE_NAMESPACE_END
