// Version, ABI tag and assertions. Outside kernel/ this is the only header with preprocessor conditions.
#pragma once

#include <cassert>

#if !defined(__cpp_exceptions)
#error "moe: errors are reported by exceptions: compile without -fno-exceptions"
#endif

#define MOE_VERSION_MAJOR 0
#define MOE_VERSION_MINOR 1
#define MOE_VERSION_PATCH 0

// ---------------------------------------------------------------------------------------------------------
// ABI tag (contract C7). Everything lives in an inline namespace whose name spells the version and every
// instruction-set extension the compiler may use, so that two translation units built with different -m flags
// never share a weak symbol of this library.
#define MOE_JOIN_(a, b) a##b
#define MOE_JOIN(a, b) MOE_JOIN_(a, b)

#if defined(__AVX512F__)
#define MOE_ISA_BASE avx512
#elif defined(__AVX2__)
#define MOE_ISA_BASE avx2
#elif defined(__AVX__)
#define MOE_ISA_BASE avx
#elif defined(__SSE4_2__)
#define MOE_ISA_BASE sse42
#elif defined(__SSE4_1__)
#define MOE_ISA_BASE sse41
#elif defined(__SSSE3__)
#define MOE_ISA_BASE ssse3
#elif defined(__SSE3__)
#define MOE_ISA_BASE sse3
#elif defined(__SSE2__)
#define MOE_ISA_BASE sse2
#elif defined(__ARM_FEATURE_SVE)
#define MOE_ISA_BASE sve
#elif defined(__ARM_NEON)
#define MOE_ISA_BASE neon
#else
#define MOE_ISA_BASE generic
#endif

// One letter per extension that the base name does not imply.
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define MOE_ISA_FMA f
#else
#define MOE_ISA_FMA
#endif
#if defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define MOE_ISA_SKX x
#elif defined(__AVX512BW__)
#define MOE_ISA_SKX w
#elif defined(__AVX512DQ__)
#define MOE_ISA_SKX q
#elif defined(__AVX512VL__)
#define MOE_ISA_SKX l
#else
#define MOE_ISA_SKX
#endif
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__) || defined(__ARM_FEATURE_DOTPROD)
#define MOE_ISA_VNNI v
#else
#define MOE_ISA_VNNI
#endif
#if defined(__AVX512BF16__) || defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define MOE_ISA_BF16 b
#else
#define MOE_ISA_BF16
#endif
#if defined(__AVX512FP16__) || defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC)
#define MOE_ISA_FP16 h
#else
#define MOE_ISA_FP16
#endif
#if defined(__AVX512VBMI__) || defined(__AVX512IFMA__) || defined(__AVX512BITALG__)
#define MOE_ISA_ICL i
#else
#define MOE_ISA_ICL
#endif
#if defined(__AMX_TILE__)
#define MOE_ISA_AMX a
#else
#define MOE_ISA_AMX
#endif
#if defined(__F16C__)
#define MOE_ISA_F16C c
#else
#define MOE_ISA_F16C
#endif
#if defined(__BMI2__) || defined(__LZCNT__) || defined(__BMI__)
#define MOE_ISA_BMI m
#else
#define MOE_ISA_BMI
#endif
#if defined(__POPCNT__)
#define MOE_ISA_POPCNT p
#else
#define MOE_ISA_POPCNT
#endif

// Assertions and -ffast-math change code as well.
#if defined(NDEBUG)
#define MOE_TAG_DEBUG
#else
#define MOE_TAG_DEBUG _debug
#endif
#if defined(__FAST_MATH__)
#define MOE_TAG_MATH _fastmath
#else
#define MOE_TAG_MATH
#endif

#define MOE_TAG_0 MOE_JOIN(v, MOE_VERSION_MAJOR)
#define MOE_TAG_1 MOE_JOIN(MOE_TAG_0, _)
#define MOE_TAG_2 MOE_JOIN(MOE_JOIN(MOE_TAG_1, MOE_VERSION_MINOR), _)
#define MOE_TAG_3 MOE_JOIN(MOE_JOIN(MOE_TAG_2, MOE_VERSION_PATCH), _)
#define MOE_TAG_4 MOE_JOIN(MOE_TAG_3, MOE_ISA_BASE)
#define MOE_TAG_5 MOE_JOIN(MOE_TAG_4, _)
#define MOE_TAG_6 MOE_JOIN(MOE_TAG_5, MOE_ISA_FMA)
#define MOE_TAG_7 MOE_JOIN(MOE_TAG_6, MOE_ISA_SKX)
#define MOE_TAG_8 MOE_JOIN(MOE_TAG_7, MOE_ISA_VNNI)
#define MOE_TAG_9 MOE_JOIN(MOE_TAG_8, MOE_ISA_BF16)
#define MOE_TAG_10 MOE_JOIN(MOE_TAG_9, MOE_ISA_FP16)
#define MOE_TAG_11 MOE_JOIN(MOE_TAG_10, MOE_ISA_ICL)
#define MOE_TAG_12 MOE_JOIN(MOE_TAG_11, MOE_ISA_F16C)
#define MOE_TAG_13 MOE_JOIN(MOE_TAG_12, MOE_ISA_BMI)
#define MOE_TAG_14 MOE_JOIN(MOE_TAG_13, MOE_ISA_POPCNT)
#define MOE_TAG_15 MOE_JOIN(MOE_TAG_14, MOE_ISA_AMX)
#define MOE_TAG_16 MOE_JOIN(MOE_TAG_15, MOE_TAG_DEBUG)
#define MOE_ABI_TAG MOE_JOIN(MOE_TAG_16, MOE_TAG_MATH)

#define MOE_NAMESPACE_BEGIN \
  namespace moe {           \
  inline namespace MOE_ABI_TAG {
#define MOE_NAMESPACE_END \
  }                       \
  }

#define MOE_STRINGIFY_(x) #x
#define MOE_STRINGIFY(x) MOE_STRINGIFY_(x)

#define MOE_VERSION_STRING \
  MOE_STRINGIFY(MOE_VERSION_MAJOR) "." MOE_STRINGIFY(MOE_VERSION_MINOR) "." MOE_STRINGIFY(MOE_VERSION_PATCH)

#if defined(__clang__)
#define MOE_COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define MOE_COMPILER "gcc " __VERSION__
#else
#define MOE_COMPILER "unknown compiler"
#endif

#if defined(NDEBUG)
#define MOE_ASSERTIONS false
#else
#define MOE_ASSERTIONS true
#endif

// ---------------------------------------------------------------------------------------------------------
// Kernels assert in debug builds only; what a caller can get wrong is checked in every build
// (core/check.hpp).
#ifndef MOE_ASSERT
#define MOE_ASSERT(condition) assert(condition)
#endif

// One compiled copy: g++ would otherwise clone a function for the constants of a caller.
#if defined(__clang__)
#define MOE_NOINLINE [[gnu::noinline]]
#elif defined(__GNUC__)
#define MOE_NOINLINE [[gnu::noinline, gnu::noclone]]
#else
#define MOE_NOINLINE
#endif
#if defined(__GNUC__) || defined(__clang__)
#define MOE_ALWAYS_INLINE [[gnu::always_inline]] inline
#define MOE_RESTRICT __restrict__
#else
#define MOE_ALWAYS_INLINE inline
#define MOE_RESTRICT
#endif
