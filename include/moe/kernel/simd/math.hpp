// The primitives of kernel/math.hpp on batches: branch-free, with no bare product next to a sum nor as a
// result that a caller adds to, so that no compiler fuses one copy of the code and not another (contract C1).
//
// Polynomials: relative minimax (Remez) fits, computed for this file with 60 digits; the error of the exact
// polynomial stands beside each. Evaluated by Horner's rule in fma.
#pragma once

#include <concepts>
#include <cstddef>
#include <type_traits>

#include "moe/kernel/arch.hpp"
#include "moe/kernel/ref/math.hpp"

MOE_NAMESPACE_BEGIN
namespace math {
namespace impl {

template <class T>
struct Constants;

template <>
struct Constants<float> {
  static constexpr int kMantissa = 23;
  static constexpr float kLog2e = 1.44269504f;
  static constexpr float kLn2High = 0x1.62e4p-1f;  // 16 bits: k * kLn2High is exact for |k| < 2^8
  static constexpr float kLn2Low = 1.42860682e-06f;
  static constexpr float kExpLowest = -87.3365402f;  // > ln 2^-126: smaller arguments give 0
  static constexpr float kRoundAndBias = 0x1.8p23f + 127.0f;
  // (e^r - 1 - r) / r^2 on |r| <= ln(2)/2; 2^-28.3 of e^r
  static constexpr float kExpm1[] = {0.49999994f, 0.166665211f, 0.041668389f, 0.00836871658f, 0.00138146395f};
  // (ln((1+s)/(1-s)) - 2s) / s^3 in s^2 on [0, 1/9]; 2^-33
  static constexpr float kLog1p[] = {0.666666746f, 0.39998877f, 0.286168993f, 0.214274853f, 0.243016481f};
  // (a + 4) e^(a^2/2) Phi(-a) in (a - 4)/(a + 4), a on [0, 14.5]; 2^-26.8
  static constexpr float kNormalTail[] = {0.755285144f,    -0.607896566f,   0.387136906f,    -0.186523438f,
                                          0.0604038313f,   -0.00752527174f, -0.00351255387f, 0.00156992383f,
                                          0.000179354203f, -0.000131971959f};
};

template <>
struct Constants<double> {
  static constexpr int kMantissa = 52;
  static constexpr double kLog2e = 1.4426950408889634;
  static constexpr double kLn2High = 0x1.62e42fefa4p-1;  // 40 bits: k * kLn2High is exact for |k| < 2^13
  static constexpr double kLn2Low = -1.7239444525614835e-13;
  static constexpr double kExpLowest = -708.39641853226397;  // > ln 2^-1022
  static constexpr double kRoundAndBias = 0x1.8p52 + 1023.0;
  // 2^-57.9
  static constexpr double kExpm1[] = {0.50000000000000111,    0.16666666666666413,    0.041666666666530155,
                                      0.0083333333334944699,  0.0013888888943630361,  0.00019841269506555356,
                                      2.4801493098733356e-05, 2.7557586396741577e-06, 2.7630248422432531e-07,
                                      2.5000053878886914e-08};
  // 2^-59.4
  static constexpr double kLog1p[] = {0.66666666666666308, 0.40000000000157321, 0.28571428547840866,
                                      0.22222223970676586, 0.18181743887747051, 0.15386560784365541,
                                      0.13300961489608751, 0.12106187476650569, 0.083396373639935545,
                                      0.17019472772648883};
  // a on [0, 39]; 2^-55.5
  static constexpr double kNormalTail[] = {
      0.75528513041575152,    -0.60789664197189208,    0.38713740074221947,     -0.18652185795966542,
      0.060396574890666278,   -0.0075401889664351088,  -0.0034796923616069891,  0.0016308184532791098,
      0.00013334424852478837, -0.00023109490371081277, -1.9078439772456602e-06, 3.5144569649185218e-05,
      7.1497553010591141e-07, -5.9200112099831414e-06, -6.2522843866356814e-07, 1.0218571185816611e-06,
      2.641545383812186e-07,  -1.5659202041824938e-07, -7.7210384153534044e-08, 1.6069205013472005e-08,
      1.461899241859163e-08,  -3.3903287381547499e-10, -1.1965306947151954e-09};
};

template <class B, class T, std::size_t kTerms>
MOE_ALWAYS_INLINE B horner(const B& x, const T (&coefficient)[kTerms]) noexcept {
  B sum(coefficient[kTerms - 1]);
  for (std::size_t i = kTerms - 1; i-- > 0;) sum = moe::fma(sum, x, B(coefficient[i]));
  return sum;
}

/// e^x = scale * (1 + rest), scale a power of two, for kExpLowest <= x <= 0; anything outside.
template <class B>
struct ExpParts {
  B scale, rest;
};

template <class T, class Arch>
MOE_ALWAYS_INLINE ExpParts<Batch<T, Arch>> exp_parts(const Batch<T, Arch>& x) noexcept {
  using B = Batch<T, Arch>;
  using C = Constants<T>;
  // 1.5 * 2^mantissa rounds x log2(e) to an integer k in the low bits; the bias makes them 2^k's exponent.
  const B shifted = opaque(moe::fma(x, B(C::kLog2e), B(C::kRoundAndBias)));
  const B k = shifted - B(C::kRoundAndBias);
  const B r = moe::fma(k, B(-C::kLn2Low), moe::fma(k, B(-C::kLn2High), x));
  const B scale = shift_bits_left<C::kMantissa>(shifted);
  return {scale, moe::fma(r * r, horner(r, C::kExpm1), r)};
}

}  // namespace impl

template <class T, class Arch>
requires SimdArch<Arch, T> MOE_ALWAYS_INLINE Batch<T, Arch> exp_nonpositive(const Batch<T, Arch>& x)
noexcept {
  using B = Batch<T, Arch>;
  const auto e = impl::exp_parts<T, Arch>(x);
  return select(x < B(impl::Constants<T>::kExpLowest), B(0), moe::fma(e.scale, e.rest, e.scale));
}

template <class T, class Arch>
requires SimdArch<Arch, T> MOE_ALWAYS_INLINE Batch<T, Arch> expm1_nonpositive(const Batch<T, Arch>& x)
noexcept {
  using B = Batch<T, Arch>;
  const auto e = impl::exp_parts<T, Arch>(x);
  return select(x < B(impl::Constants<T>::kExpLowest), B(-1), moe::fma(e.scale, e.rest, e.scale - B(1)));
}

template <class T, class Arch>
requires SimdArch<Arch, T> MOE_ALWAYS_INLINE Batch<T, Arch> log1p_unit(const Batch<T, Arch>& x)
noexcept {
  using B = Batch<T, Arch>;
  const B s = x / (x + B(2));  // ln(1 + x) = ln((1 + s) / (1 - s))
  const B square = s * s;
  return moe::fma(B(s * square), impl::horner(square, impl::Constants<T>::kLog1p), B(s + s));
}

template <class T, class Arch>
requires SimdArch<Arch, T> MOE_ALWAYS_INLINE Batch<T, Arch> square_root(const Batch<T, Arch>& x)
noexcept {
#if defined(__AVX512F__)
  // Not xsimd's: g++ 12 reports an uninitialised variable inside _mm512_sqrt_ps (its bug 105593).
  if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>) {
    if constexpr (std::same_as<T, float>) return Batch<T, Arch>(_mm512_maskz_sqrt_ps(0xFFFF, x));
    if constexpr (std::same_as<T, double>) return Batch<T, Arch>(_mm512_maskz_sqrt_pd(0xFF, x));
  }
#endif
#if defined(__aarch64__)
  // xsimd 8 refines an estimate, which is not the nearest number. (It brings in the intrinsics.)
  if constexpr (std::same_as<T, float>) return Batch<T, Arch>(vsqrtq_f32(x));
#endif
  return sqrt(x);
}

template <class T, class Arch>
requires SimdArch<Arch, T> MOE_ALWAYS_INLINE Factors<Batch<T, Arch>> normal_tail_factors(
    const Batch<T, Arch>& x)
noexcept {
  using B = Batch<T, Arch>;
  const B a = select(x > B(40), B(40), x);  // 0 from 14 (float) and 38 (double) on
  const B inverse = B(1) / (a + B(4));
  const B t = (a - B(4)) * inverse;
  return {exp_nonpositive(B(B(a * a) * B(T(-0.5)))),
          inverse * impl::horner(t, impl::Constants<T>::kNormalTail)};
}

}  // namespace math
MOE_NAMESPACE_END
