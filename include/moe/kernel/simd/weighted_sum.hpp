// kernel/weighted_sum.hpp on batches: blocks of four batches of columns stay in registers while the rows go
// by.
#pragma once

#include "moe/kernel/arch.hpp"

MOE_NAMESPACE_BEGIN
namespace impl {

template <bool kFromZero, class B, class T>
MOE_ALWAYS_INLINE void sum_weighted_rows(const T* const* z, const T* w, Index count, T* y, Index n) noexcept {
  constexpr Index kWidth = static_cast<Index>(B::size);
  const auto start = [](const T* p) noexcept { return kFromZero ? B(0) : B::load_unaligned(p); };
  Index j = 0;
  for (; j + 4 * kWidth <= n; j += 4 * kWidth) {
    T* const out = y + j;
    B a0 = start(out), a1 = start(out + kWidth), a2 = start(out + 2 * kWidth), a3 = start(out + 3 * kWidth);
    for (Index i = 0; i < count; ++i) {
      if (z[i] == nullptr) continue;
      const T* const row = z[i] + j;
      const B vw(w[i]);
      a0 = moe::fma(vw, B::load_unaligned(row), a0);
      a1 = moe::fma(vw, B::load_unaligned(row + kWidth), a1);
      a2 = moe::fma(vw, B::load_unaligned(row + 2 * kWidth), a2);
      a3 = moe::fma(vw, B::load_unaligned(row + 3 * kWidth), a3);
    }
    a0.store_unaligned(out);
    a1.store_unaligned(out + kWidth);
    a2.store_unaligned(out + 2 * kWidth);
    a3.store_unaligned(out + 3 * kWidth);
  }
  for (; j + kWidth <= n; j += kWidth) {
    B acc = start(y + j);
    for (Index i = 0; i < count; ++i) {
      if (z[i] != nullptr) acc = moe::fma(B(w[i]), B::load_unaligned(z[i] + j), acc);
    }
    acc.store_unaligned(y + j);
  }
  if (const Index rest = n - j; rest > 0) {
    B acc = kFromZero ? B(0) : load_partial<B>(y + j, rest);
    for (Index i = 0; i < count; ++i) {
      if (z[i] != nullptr) acc = moe::fma(B(w[i]), load_partial<B>(z[i] + j, rest), acc);
    }
    store_partial(acc, y + j, rest);
  }
}

template <class Arch, class T>
requires SimdArch<Arch, T>
void weighted_sum_rows(const T* const* z, const T* w, Index count, T* y, Index n, Arch) noexcept {
  sum_weighted_rows<true, Batch<T, Arch>>(z, w, count, y, n);
}

template <class Arch, class T>
requires SimdArch<Arch, T>
void accumulate_weighted_rows(const T* const* z, const T* w, Index count, T* y, Index n, Arch) noexcept {
  sum_weighted_rows<false, Batch<T, Arch>>(z, w, count, y, n);
}

}  // namespace impl
MOE_NAMESPACE_END
