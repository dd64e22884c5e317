// Reference of kernel/softmax.hpp: plain loops, sums in ascending index.
#pragma once

#include "moe/kernel/arch.hpp"
#include "moe/kernel/ref/math.hpp"
#include "moe/kernel/ref/row.hpp"

MOE_NAMESPACE_BEGIN
namespace impl {

template <class T>
MOE_NOINLINE void softmax_row(const T* x, T* y, Index n, reference_arch arch) noexcept {
  const T top = max_row(x, n, arch);
  T sum = 0;
  for (Index j = 0; j < n; ++j) {
    y[j] = math::exp_nonpositive(T(x[j] - top));
    sum += y[j];
  }
  for (Index j = 0; j < n; ++j) y[j] = y[j] / sum;
}

template <class T>
MOE_NOINLINE void softmax_backward_row(const T* p, const T* dp, T* dx, Index n,
                                       reference_arch arch) noexcept {
  const T mean = dot(p, dp, n, arch);
  for (Index j = 0; j < n; ++j) dx[j] = fma(p[j], dp[j] - mean, dx[j]);
}

template <class T>
MOE_NOINLINE T sum_exp_row(const T* x, T top, Index n, reference_arch) noexcept {
  T sum = 0;
  for (Index j = 0; j < n; ++j) sum += math::exp_nonpositive(T(x[j] - top));
  return sum;
}

}  // namespace impl
MOE_NAMESPACE_END
