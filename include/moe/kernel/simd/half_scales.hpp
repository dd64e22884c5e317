// The instruction that widens binary16, where there is one: 8 or 16 scales in one step instead of a dozen.
#pragma once

#include <bit>

#include "moe/core/types.hpp"
#include "moe/kernel/number_format.hpp"

#if defined(__F16C__)
#include <immintrin.h>
#endif

MOE_NAMESPACE_BEGIN

namespace impl {

/// Of so many floats.
#if defined(__F16C__) && defined(__AVX512F__)
inline constexpr Index kMostHalves = 16;
#elif defined(__F16C__)
inline constexpr Index kMostHalves = 8;
#else
inline constexpr Index kMostHalves = 0;
#endif
template <class Words>
inline constexpr bool kWidensHalves = sizeof(Words) / 4 <= kMostHalves && sizeof(Words) >= 32;

/// As many numbers as Words has lanes, as bits of floats: exact, NaN made quiet.
template <class Words>
MOE_ALWAYS_INLINE Words widen_halves([[maybe_unused]] const Float16* numbers) noexcept {
#if defined(__F16C__) && defined(__AVX512F__)
  if constexpr (sizeof(Words) == 64) {
    return std::bit_cast<Words>(
        _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(numbers))));
  }
#endif
#if defined(__F16C__)
  if constexpr (sizeof(Words) == 32) {
    return std::bit_cast<Words>(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(numbers))));
  }
#endif
}

}  // namespace impl

MOE_NAMESPACE_END
