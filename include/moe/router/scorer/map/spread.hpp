// Logits of one spread, whatever their size.
#pragma once

#include <math.h>
#include <limits>

#include "moe/core/check.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/math.hpp"
#include "moe/kernel/row.hpp"

MOE_NAMESPACE_BEGIN

/// h times spread / std(h), the standard deviation over the n >= 2 outputs with divisor n - 1 (Skywork-MoE
/// 2406.06563, MoE++). A row of equal logits stays as it is.
class LogitSpread {
 public:
  static constexpr const char* kName = "spread";

  /// Throws config_error for a spread that is not positive and finite.
  explicit LogitSpread(double spread) : spread_(spread) {
    if (!(spread > 0 && is_finite(spread))) {
      fail<config_error>("logit spread: expected a finite value > 0, got ", spread);
    }
  }

  double spread() const noexcept { return spread_; }

  template <class Real>
  void forward(Real* row, Index n) const noexcept {
    const Moments<Real> m(row, n);
    if (m.deviation != 0) scale_row(static_cast<Real>(spread_) / m.deviation, row, row, n);
  }
  /// dh_j = f (d_j - <d, h> (h_j - mean) / ((n - 1) std^2)), f = spread / std.
  template <class Real>
  void backward(const Real* raw, Real* drow, Index n) const noexcept {
    const Moments<Real> m(raw, n);
    if (m.deviation == 0) return;
    const Real factor = static_cast<Real>(spread_) / m.deviation;
    const Real through = dot(drow, raw, n) / m.deviation / m.deviation / static_cast<Real>(n - 1);
    for (Index i = 0; i < n; ++i) drow[i] = factor * (drow[i] - through * (raw[i] - m.mean));
  }

 private:
  /// In double where squares overflow; where those of double do, the deviation is NaN.
  template <class Real>
  struct Moments {
    Real mean = 0, deviation = 0;
    Moments(const Real* row, Index n) noexcept {
      if (n < 2) return;
      mean = sum_row(row, n) / static_cast<Real>(n);
      Real squares = 0;
      for (Index i = 0; i < n; ++i) squares += (row[i] - mean) * (row[i] - mean);
      deviation = math::square_root(Real(squares / static_cast<Real>(n - 1)));
      if (!is_finite(deviation)) widen(row, n);
    }

   private:
    void widen(const Real* row, Index n) noexcept {
      double sum = 0, squares = 0;
      for (Index i = 0; i < n; ++i) sum += static_cast<double>(row[i]);
      const double middle = sum / static_cast<double>(n);
      for (Index i = 0; i < n; ++i) {
        const double off = static_cast<double>(row[i]) - middle;
        squares += off * off;
      }
      mean = static_cast<Real>(middle);
      deviation = static_cast<Real>(::sqrt(squares / static_cast<double>(n - 1)));
      if (!is_finite(deviation)) deviation = std::numeric_limits<Real>::quiet_NaN();
    }
  };

  double spread_;
};

MOE_NAMESPACE_END
