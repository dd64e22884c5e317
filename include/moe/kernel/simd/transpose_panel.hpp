// transpose_panel in 128-bit vectors: 4 x 4 floats or 2 x 2 doubles by interleaving. Wider registers need as
// many shuffles per element, and xsimd's interleaving of them differs between its versions.
#pragma once

#include "moe/kernel/arch.hpp"
#include "moe/kernel/panel.hpp"
#include "moe/kernel/ref/transpose_panel.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// out[n][0..4) = the n-th elements of four consecutive rows of a panel.
template <class B>
MOE_ALWAYS_INLINE void transpose_square(const float* block, float* out) noexcept {
  const B r0 = B::load_aligned(block);
  const B r1 = B::load_aligned(block + kPanel<float>);
  const B r2 = B::load_aligned(block + 2 * kPanel<float>);
  const B r3 = B::load_aligned(block + 3 * kPanel<float>);
  const B even_lo = xsimd::zip_lo(r0, r2);  // r0[0] r2[0] r0[1] r2[1]
  const B even_hi = xsimd::zip_hi(r0, r2);
  const B odd_lo = xsimd::zip_lo(r1, r3);
  const B odd_hi = xsimd::zip_hi(r1, r3);
  xsimd::zip_lo(even_lo, odd_lo).store_aligned(out);
  xsimd::zip_hi(even_lo, odd_lo).store_aligned(out + kPanel<float>);
  xsimd::zip_lo(even_hi, odd_hi).store_aligned(out + 2 * kPanel<float>);
  xsimd::zip_hi(even_hi, odd_hi).store_aligned(out + 3 * kPanel<float>);
}

template <class B>
MOE_ALWAYS_INLINE void transpose_square(const double* block, double* out) noexcept {
  const B r0 = B::load_aligned(block);
  const B r1 = B::load_aligned(block + kPanel<double>);
  xsimd::zip_lo(r0, r1).store_aligned(out);
  xsimd::zip_hi(r0, r1).store_aligned(out + kPanel<double>);
}

template <class T, class Arch>
requires SimdArch<Arch, T>
void transpose_panel(const T* block, Index rows, T* out, Arch) noexcept {
  constexpr Index kSide = 16 / static_cast<Index>(sizeof(T));
  using B = xsimd::make_sized_batch_t<T, static_cast<std::size_t>(kSide)>;
  if (rows < kPanel<T>) return transpose_panel(block, rows, out, reference_arch{});
  for (Index n = 0; n < kPanel<T>; n += kSide) {
    for (Index k = 0; k < kPanel<T>; k += kSide) {
      transpose_square<B>(block + k * kPanel<T> + n, out + n * kPanel<T> + k);
    }
  }
}

}  // namespace impl

MOE_NAMESPACE_END
