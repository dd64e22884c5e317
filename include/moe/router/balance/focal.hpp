// Cross-entropy with labels that looks away from what is already right, with weights against rare classes:
// Dr.LLM, Heakl et al. 2510.12773, after Lin et al. 1708.02002 and Cui et al. 1901.05555.
#pragma once

#include <math.h>

#include <utility>
#include <vector>

#include "moe/core/check.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/router/balance/concept.hpp"
#include "moe/router/log_softmax.hpp"

MOE_NAMESPACE_BEGIN

/// coefficient * mean over rows of -weight_c (1 - p_c)^gamma ln p_c, c the row's entry of the column `label`,
/// p the softmax of its logits. gamma = 0 and weights 1: the cross-entropy.
class FocalLoss {
 public:
  static constexpr const char* kName = "focal";
  struct Options {
    double coefficient = 1;
    double gamma = 2;
    std::vector<double> weight{};  // [N], see class_balance()
  };

  /// Throws config_error for a coefficient or weight that is not finite, a weight below 0, or a gamma that is
  /// neither 0 nor a finite number >= 1.
  explicit FocalLoss(Options options) : options_(std::move(options)) {
    impl::checked_coefficient(kName, options_.coefficient);
    if (!(options_.gamma == 0 || (options_.gamma >= 1 && is_finite(options_.gamma)))) {
      fail<config_error>("gamma of the focal loss: expected 0 or a finite value >= 1, got ", options_.gamma);
    }
    for (const double w : options_.weight) {
      if (!(w >= 0 && is_finite(w))) {
        fail<config_error>("weight of a class: expected a finite value >= 0, got ", w);
      }
    }
  }
  const Options& options() const noexcept { return options_; }
  double coefficient() const noexcept { return options_.coefficient; }
  void check(Index outputs) const {
    if (classes() != outputs) {
      fail<config_error>("weights of classes: expected one for each of ", outputs, " outputs, got ",
                         classes());
    }
  }

  /// Throws config_error for training without the column, route_error for a label that is no output.
  template <class Real>
  void check_call(const RouterInput<Real>& in) const {
    if (!in.training || options_.coefficient == 0 || in.tokens() == 0) return;
    if (in.label.empty()) fail<config_error>("label: expected labels for the loss ", kName, ", got none");
    for (Index t = 0; t < in.tokens(); ++t) {
      if (in.takes_part(t) && (in.label[t] < 0 || in.label[t] >= classes())) {
        fail<route_error>("label: expected a class in [0, ", classes(), "), got ", in.label[t], " for token ",
                          t);
      }
    }
  }

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena&) const {
    double sum = 0;
    for (Index t = 0; t < in.tokens(); ++t) {
      if (!in.active[t]) continue;
      const double lnp = log_probability(in, t, in.call.label[t]);
      sum -= weight(in, t) * ::pow(-::expm1(lnp), options_.gamma) * lnp;
    }
    return in.active_count == 0 ? 0.0 : options_.coefficient * sum / static_cast<double>(in.active_count);
  }

  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out, Arena&) const {
    if (in.active_count == 0) return;
    const double factor = scale * options_.coefficient / static_cast<double>(in.active_count);
    for (Index t = 0; t < in.tokens(); ++t) {
      if (!in.active[t]) continue;
      const Index c = in.call.label[t];
      const double lnp = log_probability(in, t, c), p = ::exp(lnp), off = -::expm1(lnp), g = options_.gamma;
      // By ln p: -(1 - p)^g + g p (1 - p)^(g - 1) ln p.
      const double slope = (g == 0 ? 0.0 : g * p * ::pow(off, g - 1) * lnp) - ::pow(off, g);
      for (Index e = 0; e < in.outputs(); ++e) {
        if (is_neg_inf(in.logit(t, e))) continue;
        const double dlnp = (e == c ? 1.0 : 0.0) - ::exp(log_probability(in, t, e));
        out.dlogit(t, e) += static_cast<Real>(factor * weight(in, t) * slope * dlnp);
      }
    }
  }

 private:
  Index classes() const noexcept { return static_cast<Index>(options_.weight.size()); }
  template <class Real>
  double weight(const BalanceInput<Real>& in, Index t) const noexcept {
    return options_.weight[static_cast<std::size_t>(in.call.label[t])];
  }
  template <class Real>
  static double log_probability(const BalanceInput<Real>& in, Index t, Index e) noexcept {
    const Real* const logit = in.logit.row(t);
    const double l = static_cast<double>(logit[e]) - impl::log_sum_exp(in.outputs(), [logit](Index i) {
                       return static_cast<double>(logit[i]);
                     });
    return l < -700 ? -700 : l;  // a label that is masked costs much, not infinity
  }

  Options options_;
};

/// Weights (1 - beta) / (1 - beta^count) of classes that so many examples have, with a mean of 1; a class
/// without examples counts as having one. Throws config_error for no classes, a count below 0 or a beta
/// outside [0, 1).
inline std::vector<double> class_balance(const std::vector<Index>& counts, double beta) {
  if (counts.empty()) fail<config_error>("classes: expected one at least, got none");
  if (!(beta >= 0 && beta < 1)) fail<config_error>("beta: expected a value in [0, 1), got ", beta);
  std::vector<double> weight;
  double sum = 0;
  for (const Index n : counts) {
    require_range("examples of a class", n, 0, PTRDIFF_MAX);
    weight.push_back((1 - beta) / (1 - ::pow(beta, static_cast<double>(n == 0 ? 1 : n))));
    sum += weight.back();
  }
  for (double& w : weight) w *= static_cast<double>(counts.size()) / sum;
  return weight;
}

MOE_NAMESPACE_END
