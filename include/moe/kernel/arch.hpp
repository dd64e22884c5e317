// The one shim over xsimd (8.1 and newer): instruction sets, batches, fused multiply-add, reductions, tails.
// Other kernel headers name batches through it, and so compile where xsimd supports no instruction set.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <type_traits>
#include <xsimd/xsimd.hpp>

#include "moe/config.hpp"
#include "moe/core/types.hpp"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

MOE_NAMESPACE_BEGIN

/// The plain loops (kernel/ref/): the oracle of every kernel, and what runs where xsimd has no vectors.
struct reference_arch {
  static constexpr const char* name() noexcept { return "reference"; }
};

#if defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)

using native_arch = reference_arch;

template <class Arch, class T = float>
concept SimdArch = false;

namespace impl {
template <class T, class Arch>
struct NoBatch;  // never defined: only templates that no architecture satisfies name it
}
template <class T, class Arch>
using Batch = impl::NoBatch<T, Arch>;

#else

/// Best instruction set under the compiler flags of this translation unit.
using native_arch = std::conditional_t<xsimd::default_arch::supported(), xsimd::default_arch, reference_arch>;

/// A tag of xsimd that is compiled in and has vectors of T (NEON on 32-bit Arm has none of double).
template <class Arch, class T = float>
concept SimdArch = !std::same_as<Arch, reference_arch> && requires {
  { Arch::supported() } -> std::convertible_to<bool>;
  requires Arch::supported();
  requires xsimd::types::has_simd_register<T, Arch>::value;
};

/// One vector register of T. Kernels use size, load_unaligned, store_unaligned, B(scalar) and the operators;
/// select, abs and any are found by argument-dependent lookup.
template <class T, class Arch>
using Batch = xsimd::batch<T, Arch>;

#endif

/// What a kernel called with Arch runs for T: Arch or, where that has no vectors of T, the plain loop.
template <class T, class Arch>
using KernelArch = std::conditional_t<SimdArch<Arch, T>, Arch, reference_arch>;

/// Compiled for processors with AMX, which are Intel's from Sapphire Rapids on. Its tiles are not used; it
/// tells these from others with the same vectors, whose memory and vdpbf16ps want to be used otherwise.
#if defined(__AMX_TILE__)
inline constexpr bool kHasAmx = true;
#else
inline constexpr bool kHasAmx = false;
#endif

/// "avx512bw", "fma3+avx2", "reference", ...
template <class Arch = native_arch>
constexpr const char* arch_name() noexcept {
  return Arch::name();
}

// -----------------------------------------------------------------------------------------------------------
// a * b + c: one rounding where the target has the instruction, else two; never the C library's emulation.

#if defined(__FP_FAST_FMA) || defined(__FMA__) || defined(__FMA4__) || defined(__aarch64__) || \
    defined(__ARM_FEATURE_FMA)
inline constexpr bool kHasFma = true;
#else
inline constexpr bool kHasFma = false;
#endif

template <std::floating_point T>
MOE_ALWAYS_INLINE T fma(std::type_identity_t<T> a, std::type_identity_t<T> b, T c) noexcept {
  if constexpr (!kHasFma) {
    return a * b + c;
  } else if constexpr (std::same_as<T, float>) {
    return __builtin_fmaf(a, b, c);
  } else {
    return __builtin_fma(a, b, c);
  }
}

#if !defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)

/// Same for batches; a requires-clause, not a constrained parameter, so that it beats xsimd::fma when both
/// are found. (xsimd 8.1 has no fused form for AVX-512: it multiplies, then adds.)
template <class T, class Arch>
requires SimdArch<Arch, T> MOE_ALWAYS_INLINE Batch<T, Arch> fma(const Batch<T, Arch>& a,
                                                                const Batch<T, Arch>& b,
                                                                const Batch<T, Arch>& c)
noexcept {
#if defined(__AVX512F__)
  if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>) {
    if constexpr (std::same_as<T, float>) return Batch<T, Arch>(_mm512_fmadd_ps(a, b, c));
    if constexpr (std::same_as<T, double>) return Batch<T, Arch>(_mm512_fmadd_pd(a, b, c));
  }
#endif
  return xsimd::fma(a, b, c);
}

/// The bit pattern of every lane, shifted left. By the compilers' vector extension: xsimd's spelling of
/// bitwise_cast differs between versions, and g++ 12 reports an uninitialised variable inside
/// _mm512_slli_epi32 (its bug 105593).
template <int kBits, class T, class Arch>
requires SimdArch<Arch, T> MOE_ALWAYS_INLINE Batch<T, Arch> shift_bits_left(const Batch<T, Arch>& x)
noexcept {
  using Lane = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  typedef Lane Lanes [[gnu::vector_size(sizeof(Batch<T, Arch>))]];
  return std::bit_cast<Batch<T, Arch>>(std::bit_cast<Lanes>(x) << kBits);
}

/// x, behind a wall for the optimiser: -ffast-math would turn (x + c) - c into x.
template <class B>
MOE_ALWAYS_INLINE B opaque(B x) noexcept {
#if defined(__FAST_MATH__)
  __asm__("" : "+m"(x));
#endif
  return x;
}

// -----------------------------------------------------------------------------------------------------------
// Reductions: halves folded onto each other, ((l0+l4)+(l2+l6)) + ((l1+l5)+(l3+l7)), whatever xsimd's version.

namespace impl {

template <Index kFirst, Index kStep, Index kWidth, class T, class Op>
MOE_ALWAYS_INLINE T fold_lanes(const T* lane, const Op& op) noexcept {
  if constexpr (kStep == kWidth) {
    return lane[kFirst];
  } else {
    return op(fold_lanes<kFirst, 2 * kStep, kWidth>(lane, op),
              fold_lanes<kFirst + kStep, 2 * kStep, kWidth>(lane, op));
  }
}

template <class T, class Arch, class Op>
MOE_ALWAYS_INLINE T reduce(const Batch<T, Arch>& x, const Op& op) noexcept {
  constexpr Index kWidth = static_cast<Index>(Batch<T, Arch>::size);
  alignas(64) T lane[kWidth];
  x.store_aligned(lane);
  return fold_lanes<0, 1, kWidth>(lane, op);
}

}  // namespace impl

template <class T, class Arch>
requires SimdArch<Arch, T> MOE_ALWAYS_INLINE T reduce_add(const Batch<T, Arch>& x)
noexcept {
  return impl::reduce(x, [](T a, T b) noexcept { return a + b; });
}

/// Largest lane; no lane may be NaN.
template <class T, class Arch>
requires SimdArch<Arch, T> MOE_ALWAYS_INLINE T reduce_max(const Batch<T, Arch>& x)
noexcept {
  return impl::reduce(x, [](T a, T b) noexcept { return a < b ? b : a; });
}

// -----------------------------------------------------------------------------------------------------------
// Tails: the first `count` lanes, through a padded buffer on the stack; nothing from p + count on is touched.

template <class B>
MOE_ALWAYS_INLINE B load_partial(const typename B::value_type* p, Index count,
                                 typename B::value_type pad = 0) noexcept {
  constexpr Index kWidth = static_cast<Index>(B::size);
  alignas(64) typename B::value_type lane[kWidth];
  for (Index i = 0; i < kWidth; ++i) lane[i] = i < count ? p[i] : pad;
  return B::load_aligned(lane);
}

template <class B>
MOE_ALWAYS_INLINE void store_partial(const B& x, typename B::value_type* p, Index count) noexcept {
  alignas(64) typename B::value_type lane[B::size];
  x.store_aligned(lane);
  for (Index i = 0; i < count; ++i) p[i] = lane[i];
}

#endif

MOE_NAMESPACE_END
