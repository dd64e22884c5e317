// Softmax of a row, its backward, and the logarithm of its denominator.
// Rows are contiguous, n >= 0, any alignment. -inf means "masked": probability exactly 0. No element may be
// NaN or +inf, and one must be finite (asserted); that is checked where logits enter, by kernel/finite.hpp.
// Sums run in an order that depends on n alone. Tail: the same batch operation on a padded buffer.
#pragma once

#include <limits>

#include "moe/kernel/arch.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/math.hpp"
#include "moe/kernel/ref/softmax.hpp"
#include "moe/kernel/row.hpp"
#include "moe/kernel/simd/softmax.hpp"

MOE_NAMESPACE_BEGIN

/// y[j] = e^(x[j] - m) / sum_i e^(x[i] - m), m = max x. y may be x.
/// Rounding: relative error <= (n + 6 + |x[j] - m| + ln n) u, plus one smallest normal number (batches give 0
/// below it).
template <class Arch = native_arch, class T>
void softmax_row(const T* x, T* y, Index n) noexcept {
  MOE_ASSERT(n >= 0 && first_bad_logit(x, n) < 0 && (n == 0 || any_above_neg_inf(x, n)));
  impl::softmax_row(x, y, n, KernelArch<T, Arch>{});
}

/// dx[j] += p[j] * (dp[j] - <p, dp>), with p the softmax: the backward of softmax_row, added to dx.
/// Rounding: |error| <= p[j] (3 u |dp[j]| + gamma_{n+4} sum_i |p[i] dp[i]|) + u |dx[j]|.
template <class Arch = native_arch, class T>
void softmax_backward_row(const T* p, const T* dp, T* dx, Index n) noexcept {
  MOE_ASSERT(n >= 0);
  impl::softmax_backward_row(p, dp, dx, n, KernelArch<T, Arch>{});
}

/// ln sum_j e^x[j]; -inf for n = 0 or a row of -inf.
/// Rounding: |error| <= (n + 4 + 3 ln n) u + u |result|.
template <class Arch = native_arch, class T>
[[nodiscard]] T logsumexp_row(const T* x, Index n) noexcept {
  MOE_ASSERT(n >= 0 && first_bad_logit(x, n) < 0);
  const T top = max_row<Arch>(x, n);
  if (is_neg_inf(top)) return top;
  return top + math::log_positive(impl::sum_exp_row(x, top, n, KernelArch<T, Arch>{}));
}

MOE_NAMESPACE_END
