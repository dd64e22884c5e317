// kernel/softmax.hpp on batches: one accumulator, the tail padded with -inf, whose exponential is 0.
#pragma once

#include <limits>

#include "moe/kernel/arch.hpp"
#include "moe/kernel/simd/math.hpp"
#include "moe/kernel/simd/row.hpp"

MOE_NAMESPACE_BEGIN
namespace impl {

template <class T, class Arch>
requires SimdArch<Arch, T> MOE_NOINLINE void softmax_row(const T* x, T* y, Index n, Arch arch) noexcept {
  using B = Batch<T, Arch>;
  constexpr Index kWidth = static_cast<Index>(B::size);
  const B top(max_row(x, n, arch));
  B sum(0);
  Index j = 0;
  for (; j + kWidth <= n; j += kWidth) {
    const B e = math::exp_nonpositive(B(B::load_unaligned(x + j) - top));
    e.store_unaligned(y + j);
    sum = sum + e;
  }
  if (const Index rest = n - j; rest > 0) {
    const B e =
        math::exp_nonpositive(B(load_partial<B>(x + j, rest, -std::numeric_limits<T>::infinity()) - top));
    store_partial(e, y + j, rest);
    sum = sum + e;
  }
  const B total(reduce_add(sum));
  map_row<B>(y, y, n, [&](const B& e) noexcept -> B { return e / total; });
}

template <class T, class Arch>
requires SimdArch<Arch, T> MOE_NOINLINE void softmax_backward_row(const T* p, const T* dp, T* dx, Index n,
                                                                  Arch arch) noexcept {
  using B = Batch<T, Arch>;
  constexpr Index kWidth = static_cast<Index>(B::size);
  const B mean(dot(p, dp, n, arch));
  Index j = 0;
  for (; j + kWidth <= n; j += kWidth) {
    const B centred = B::load_unaligned(dp + j) - mean;
    moe::fma(B::load_unaligned(p + j), centred, B::load_unaligned(dx + j)).store_unaligned(dx + j);
  }
  if (const Index rest = n - j; rest > 0) {
    const B centred = load_partial<B>(dp + j, rest) - mean;
    store_partial(moe::fma(load_partial<B>(p + j, rest), centred, load_partial<B>(dx + j, rest)), dx + j,
                  rest);
  }
}

template <class T, class Arch>
requires SimdArch<Arch, T> MOE_NOINLINE T sum_exp_row(const T* x, T top, Index n, Arch)
noexcept {
  using B = Batch<T, Arch>;
  constexpr Index kWidth = static_cast<Index>(B::size);
  const B vtop(top);
  B sum(0);
  Index j = 0;
  for (; j + kWidth <= n; j += kWidth) sum = sum + math::exp_nonpositive(B(B::load_unaligned(x + j) - vtop));
  if (const Index rest = n - j; rest > 0) {
    sum = sum +
          math::exp_nonpositive(B(load_partial<B>(x + j, rest, -std::numeric_limits<T>::infinity()) - vtop));
  }
  return reduce_add(sum);
}

}  // namespace impl
MOE_NAMESPACE_END
