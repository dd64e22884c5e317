// kernel/row.hpp on batches. Elementwise loops step by one batch, sums by four, each with an accumulator of
// its own.
#pragma once

#include <limits>

#include "moe/kernel/arch.hpp"

MOE_NAMESPACE_BEGIN
namespace impl {

/// y[j] = f(x[j]); the last batch goes through a padded buffer.
template <class B, class T, class F>
MOE_ALWAYS_INLINE void map_row(const T* x, T* y, Index n, const F& f) noexcept {
  constexpr Index kWidth = static_cast<Index>(B::size);
  Index j = 0;
  for (; j + kWidth <= n; j += kWidth) f(B::load_unaligned(x + j)).store_unaligned(y + j);
  if (j < n) store_partial(f(load_partial<B>(x + j, n - j)), y + j, n - j);
}

/// y[j] = f(x[j], z[j]).
template <class B, class T, class F>
MOE_ALWAYS_INLINE void map_row(const T* x, const T* z, T* y, Index n, const F& f) noexcept {
  constexpr Index kWidth = static_cast<Index>(B::size);
  Index j = 0;
  for (; j + kWidth <= n; j += kWidth) {
    f(B::load_unaligned(x + j), B::load_unaligned(z + j)).store_unaligned(y + j);
  }
  if (j < n) store_partial(f(load_partial<B>(x + j, n - j), load_partial<B>(z + j, n - j)), y + j, n - j);
}

/// Sum over j of terms, f(load, acc) = acc + term: four chains by position modulo four batches, the tail
/// (padded with zeros, which must add nothing) onto the second, then ((a0 + a1) + (a2 + a3)), then the lanes.
template <class B, class F>
MOE_ALWAYS_INLINE auto sum_terms(Index n, const F& f) noexcept {
  constexpr Index kWidth = static_cast<Index>(B::size);
  const auto whole = [](const auto* p) noexcept { return B::load_unaligned(p); };
  B a0(0), a1(0), a2(0), a3(0);
  Index j = 0;
  for (; j + 4 * kWidth <= n; j += 4 * kWidth) {
    a0 = f(j, whole, a0);
    a1 = f(j + kWidth, whole, a1);
    a2 = f(j + 2 * kWidth, whole, a2);
    a3 = f(j + 3 * kWidth, whole, a3);
  }
  for (; j + kWidth <= n; j += kWidth) a0 = f(j, whole, a0);
  if (j < n)
    a1 = f(
        j, [count = n - j](const auto* p) noexcept { return load_partial<B>(p, count); }, a1);
  return reduce_add((a0 + a1) + (a2 + a3));
}

template <class Arch, class T>
requires SimdArch<Arch, T>
void copy_row(const T* x, T* y, Index n, Arch) noexcept {
  map_row<Batch<T, Arch>>(x, y, n, [](const auto& vx) noexcept { return vx; });
}

template <class Arch, class T>
requires SimdArch<Arch, T>
void fill_row(T a, T* y, Index n, Arch) noexcept {
  using B = Batch<T, Arch>;
  constexpr Index kWidth = static_cast<Index>(B::size);
  const B va(a);
  Index j = 0;
  for (; j + kWidth <= n; j += kWidth) va.store_unaligned(y + j);
  store_partial(va, y + j, n - j);
}

template <class Arch, class T>
requires SimdArch<Arch, T>
void scale_row(T a, const T* x, T* y, Index n, Arch) noexcept {
  using B = Batch<T, Arch>;
  const B va(a);
  map_row<B>(x, y, n, [&](const B& vx) noexcept -> B { return va * vx; });
}

template <class Arch, class T>
requires SimdArch<Arch, T>
void axpy_row(T a, const T* x, T* y, Index n, Arch) noexcept {
  using B = Batch<T, Arch>;
  const B va(a);
  map_row<B>(x, y, y, n, [&](const B& vx, const B& vy) noexcept { return moe::fma(va, vx, vy); });
}

template <class Arch, class T>
requires SimdArch<Arch, T>
void add_row(const T* x, T* y, Index n, Arch) noexcept {
  using B = Batch<T, Arch>;
  map_row<B>(x, y, y, n, [](const B& vx, const B& vy) noexcept -> B { return vx + vy; });
}

template <class Arch, class T>
requires SimdArch<Arch, T>
void fma_row(const T* x, const T* z, T* y, Index n, Arch) noexcept {
  using B = Batch<T, Arch>;
  constexpr Index kWidth = static_cast<Index>(B::size);
  Index j = 0;
  for (; j + kWidth <= n; j += kWidth) {
    moe::fma(B::load_unaligned(x + j), B::load_unaligned(z + j), B::load_unaligned(y + j))
        .store_unaligned(y + j);
  }
  if (j < n) {
    const Index count = n - j;
    store_partial(
        moe::fma(load_partial<B>(x + j, count), load_partial<B>(z + j, count), load_partial<B>(y + j, count)),
        y + j, count);
  }
}

template <class Arch, class T>
requires SimdArch<Arch, T> T dot(const T* x, const T* z, Index n, Arch)
noexcept {
  using B = Batch<T, Arch>;
  return sum_terms<B>(n, [x, z](Index j, const auto& load, const B& acc) noexcept {
    return moe::fma(load(x + j), load(z + j), acc);
  });
}

template <class Arch, class T>
requires SimdArch<Arch, T> T sum_row(const T* x, Index n, Arch)
noexcept {
  using B = Batch<T, Arch>;
  return sum_terms<B>(
      n, [x](Index j, const auto& load, const B& acc) noexcept -> B { return acc + load(x + j); });
}

template <class Arch, class T>
requires SimdArch<Arch, T> T max_row(const T* x, Index n, Arch)
noexcept {
  using B = Batch<T, Arch>;
  constexpr Index kWidth = static_cast<Index>(B::size);
  constexpr T kLowest = -std::numeric_limits<T>::infinity();
  // Not xsimd::max: g++ 12 reports an uninitialised variable inside _mm512_max_ps (its bug 105593).
  const auto larger = [](const B& a, const B& b) noexcept -> B { return select(a < b, b, a); };
  B top(kLowest);
  Index j = 0;
  for (; j + kWidth <= n; j += kWidth) top = larger(top, B::load_unaligned(x + j));
  if (j < n) top = larger(top, load_partial<B>(x + j, n - j, kLowest));
  return reduce_max(top);
}

}  // namespace impl
MOE_NAMESPACE_END
