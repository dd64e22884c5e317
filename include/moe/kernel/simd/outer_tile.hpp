// outer_tile in vector registers: the shape of gemm_tile (8 x 2 or 6 x 2 accumulators, written as one array
// for the reason given there). The left operand is packed, so that rows 4 KiB apart do not fight for cache
// ways; the right one is read where it lies, two cache lines a row.
#pragma once

#include <utility>

#include "moe/kernel/arch.hpp"
#include "moe/kernel/panel.hpp"
#include "moe/kernel/prefetch.hpp"
#include "moe/kernel/ref/outer_tile.hpp"
#include "moe/kernel/simd/gemm_tile.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

inline constexpr int kOuterVectors = 2;

template <class B, Index kRows, class T, std::size_t... V, std::size_t... I>
MOE_ALWAYS_INLINE void outer_step(const T* left, const T* right, B* sum, std::index_sequence<V...>,
                                  std::index_sequence<I...>) noexcept {
  B vector[] = {B::load_unaligned(right + V * B::size)...};
  (hold_in_register(vector[V]), ...);
  (add_product<sizeof...(I)>(sum[I], B(left[I / kOuterVectors]), vector[I % kOuterVectors]), ...);
}

/// kOuterVectors vectors of kRows rows; the last kRows - m rows are computed and thrown away.
template <class B, Index kRows, class T, std::size_t... I>
MOE_NOINLINE void outer_pass(const T* left, const T* const* right, Index column, Index count, Index m,
                             T* panel, std::index_sequence<I...> all) noexcept {
  constexpr std::make_index_sequence<kOuterVectors> kVectors{};
  B sum[sizeof...(I)] = {((void)I, B(T(0)))...};
  Index p = 0;
  for (; p + 2 <= count; p += 2) {
    outer_step<B, kRows>(left, right[p] + column, sum, kVectors, all);
    outer_step<B, kRows>(left + kRows, right[p + 1] + column, sum, kVectors, all);
    left += 2 * kRows;
  }
  if (p < count) outer_step<B, kRows>(left, right[p] + column, sum, kVectors, all);
  const auto add = [&](Index i, Index v, const B& value) noexcept {
    T* to = panel + i * kPanel<T> + v * static_cast<Index>(B::size);
    if (i < m) (B::load_aligned(to) + value).store_aligned(to);
  };
  (add(Index{I} / kOuterVectors, Index{I} % kOuterVectors, sum[I]), ...);
}

template <class T, class Arch>
requires SimdArch<Arch, T>
void outer_tile(const T* left, const T* const* right, Index count, Index m, T* panel, const T* next,
                Arch) noexcept {
  using B = Batch<T, Arch>;
  constexpr Index kRows = TileShape<Arch, T>::kRows;
  constexpr Index kColumns = kOuterVectors * static_cast<Index>(B::size);
  // Its own lines were announced by the call before, unless it is the first: now those of the next one.
  if (next != nullptr) {
    for (Index i = 0; i < kRows; ++i) {
      prefetch_write(next + i * kPanel<T>);
      prefetch_write(next + i * kPanel<T> + kHalf<T>);
    }
  }
  for (Index column = 0; column < kPanel<T>; column += kColumns) {
    outer_pass<B, kRows>(left, right, column, count, m, panel + column,
                         std::make_index_sequence<kRows * kOuterVectors>{});
  }
}

}  // namespace impl

MOE_NAMESPACE_END
