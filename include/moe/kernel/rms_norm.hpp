// Root-mean-square norm of a row and its backward: y = x / sqrt(mean(x^2) + eps) * factor * scale.
//
// Shapes: contiguous rows of n >= 1 elements, any alignment; y may be x, other rows do not overlap.
// Rounding: the relative error of y[j] is at most gamma_{n + 8} (all terms of the mean are positive).
// Errors: none (noexcept); n is asserted.
#pragma once

#include <math.h>
#include <limits>
#include <type_traits>

#include "moe/kernel/finite.hpp"
#include "moe/kernel/math.hpp"
#include "moe/kernel/row.hpp"

MOE_NAMESPACE_BEGIN

/// 1 / sqrt(mean(x^2) + eps); NaN, not 0, where x is not finite or a double's mean overflows.
template <class T>
[[nodiscard]] T inverse_rms(const T* x, std::type_identity_t<T> eps, Index n) noexcept {
  MOE_ASSERT(n >= 1);
  const T mean = squared_norm(x, n) / static_cast<T>(n) + eps;
  if (is_finite(mean)) return 1 / math::square_root(mean);
  const double wide = wide_squared_norm(x, n) / static_cast<double>(n) + static_cast<double>(eps);
  return is_finite(wide) ? static_cast<T>(1 / ::sqrt(wide)) : std::numeric_limits<T>::quiet_NaN();
}

/// `scale` [n].
template <class T>
void rms_norm_row(const T* x, const T* scale, std::type_identity_t<T> factor, std::type_identity_t<T> eps,
                  T* y, Index n) noexcept {
  scale_row(inverse_rms(x, eps, n) * factor, x, y, n);
  for (Index j = 0; j < n; ++j) y[j] *= scale[j];
}

/// From dy, which it overwrites: dscale (unless null) and dx (unless null), both added to.
template <class T>
void rms_norm_backward_row(const T* x, const T* scale, std::type_identity_t<T> factor,
                           std::type_identity_t<T> eps, T* dy, T* dscale, T* dx, Index n) noexcept {
  const T inverse = inverse_rms(x, eps, n);
  if (dscale != nullptr) {
    for (Index j = 0; j < n; ++j) dscale[j] = fma(dy[j], T(x[j] * T(inverse * factor)), dscale[j]);
  }
  if (dx == nullptr) return;
  // d = gradient of x_hat = x * inverse; dx = inverse (d - x_hat <d, x_hat> / n).
  for (Index j = 0; j < n; ++j) dy[j] *= scale[j];
  scale_row(factor, dy, dy, n);
  const T through = dot(dy, x, n) * inverse * inverse / static_cast<T>(n);
  axpy_row(inverse, dy, dx, n);
  axpy_row(-through * inverse, x, dx, n);
}

MOE_NAMESPACE_END
