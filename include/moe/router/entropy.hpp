// Entropies of a row's probabilities: Shannon's, and Tsallis's of order q.
#pragma once

#include <math.h>

#include "moe/core/check.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/softmax.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// H = (1 - sum p^q) / (q - 1); q = 1: -sum p ln p, its limit. Written as a sum of terms -p ln_q(p) with
/// ln_q(p) = (p^(q - 1) - 1) / (q - 1), which loses no digits near q = 1.
class Entropy {
 public:
  /// Throws config_error unless 0 < q <= 100.
  explicit Entropy(double order) : q_(order) {
    if (!(order > 0 && order <= 100)) {
      fail<config_error>("order of the entropy: expected a value in (0, 100], got ", order);
    }
  }

  /// The part of one probability.
  double term(double p) const noexcept { return p > 0 ? -p * ln(p) : 0.0; }
  /// d term / d p, up to a constant that every p shares, which no softmax hands on; 0 for p = 0.
  double slope(double p) const noexcept { return p > 0 ? -q_ * ln(p) : 0.0; }
  /// H of `open` equal probabilities: none is larger.
  double largest(Index open) const noexcept { return -ln(1 / static_cast<double>(open)); }

  /// H of the softmax of a row of logits, one of which is finite.
  template <class Real>
  double of_logits(const Real* logit, Index n) const noexcept {
    const auto lse = static_cast<double>(logsumexp_row(logit, n));
    double sum = 0;
    for (Index e = 0; e < n; ++e) {
      if (is_neg_inf(logit[e])) continue;
      const double l = static_cast<double>(logit[e]) - lse, p = ::exp(l);
      if (p > 0) sum -= p * of_log(l);
    }
    return sum;
  }

 private:
  double ln(double p) const noexcept { return of_log(::log(p)); }
  /// ln_q of e^l.
  double of_log(double l) const noexcept { return q_ == 1 ? l : ::expm1((q_ - 1) * l) / (q_ - 1); }

  double q_;
};

/// How many of n logits are not masked.
template <class Real>
Index open_outputs(const Real* logit, Index n) noexcept {
  Index open = 0;
  for (Index e = 0; e < n; ++e) open += is_neg_inf(logit[e]) ? 0 : 1;
  return open;
}

}  // namespace impl

MOE_NAMESPACE_END
