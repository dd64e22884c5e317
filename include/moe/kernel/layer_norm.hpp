// Layer norm of a row and its backward: y = (x - mean) / sqrt(mean((x - mean)^2) + eps) * scale + shift (Ba
// et al. 1607.06450).
//
// Shapes: contiguous rows of n >= 1 elements, any alignment; rows do not overlap.
// Errors: none (noexcept).
#pragma once

#include <type_traits>

#include "moe/kernel/rms_norm.hpp"
#include "moe/kernel/row.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// to = x - mean(x).
template <class T>
void centre_row(const T* x, T* to, Index n) noexcept {
  moe::fill_row(-moe::sum_row(x, n) / static_cast<T>(n), to, n);
  moe::add_row(x, to, n);
}

}  // namespace impl

/// `scale`, `shift` [n].
template <class T>
void layer_norm_row(const T* x, const T* scale, const T* shift, std::type_identity_t<T> eps, T* y,
                    Index n) noexcept {
  impl::centre_row(x, y, n);
  scale_row(inverse_rms(y, eps, n), y, y, n);
  for (Index j = 0; j < n; ++j) y[j] = fma(scale[j], y[j], shift[j]);
}

/// From dy, which it overwrites: dscale, dshift and dx (unless null), all added to. `scratch` [2 n].
template <class T>
void layer_norm_backward_row(const T* x, const T* scale, std::type_identity_t<T> eps, T* dy, T* dscale,
                             T* dshift, T* dx, T* scratch, Index n) noexcept {
  T *const centred = scratch, *const dcentred = scratch + n;
  if (dshift != nullptr) add_row(dy, dshift, n);
  impl::centre_row(x, centred, n);
  fill_row(T{0}, dcentred, n);
  rms_norm_backward_row(centred, scale, T{1}, eps, dy, dscale, dx == nullptr ? nullptr : dcentred, n);
  if (dx == nullptr) return;
  impl::centre_row(dcentred, centred, n);
  add_row(centred, dx, n);
}

MOE_NAMESPACE_END
