// Logits that cannot leave (-cap, cap).
#pragma once

#include "moe/core/check.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"

MOE_NAMESPACE_BEGIN

/// cap tanh(h / cap): Grok 1 as served (30), Laguna.
class SoftCap {
 public:
  static constexpr const char* kName = "soft_cap";

  /// Throws config_error for a cap that is not positive and finite.
  explicit SoftCap(double cap) : cap_(cap) {
    if (!(cap > 0 && is_finite(cap))) fail<config_error>("soft cap: expected a finite value > 0, got ", cap);
  }

  double cap() const noexcept { return cap_; }

  template <class Real>
  void forward(Real* row, Index n) const noexcept {
    scale_row(static_cast<Real>(1 / cap_), row, row, n);
    activate_row(Tanh{}, row, row, n);
    scale_row(static_cast<Real>(cap_), row, row, n);
  }
  template <class Real>
  void backward(const Real* raw, Real* drow, Index n) const noexcept {
    const Real inverse = static_cast<Real>(1 / cap_);
    for (Index i = 0; i < n; ++i) drow[i] *= Tanh{}.derivative(Real(raw[i] * inverse));
  }

 private:
  double cap_;
};

MOE_NAMESPACE_END
