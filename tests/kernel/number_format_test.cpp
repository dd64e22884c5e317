#include "moe/kernel/number_format.hpp"

#include <bit>
#include <cmath>
#include <limits>

#include "moe/kernel/finite.hpp"
#include "support/catch.hpp"

namespace {

using moe::BFloat16;
using moe::Float16;

static_assert(sizeof(BFloat16) == 2 && sizeof(Float16) == 2);
static_assert(BFloat16::from_float(1.0f).bits == 0x3F80 && Float16::from_float(-2.0f).bits == 0xC000);

/// Bits of the exponent and of the fraction.
template <class Format>
constexpr int kExponentBits = std::is_same_v<Format, BFloat16> ? 8 : 5;
template <class Format>
constexpr int kFractionBits = 15 - kExponentBits<Format>;
template <class Format>
constexpr int kInfinity = 0x7FFF >> kFractionBits<Format> << kFractionBits<Format>;

/// By definition of the format: magnitude pattern (sign cleared) below infinity.
template <class Format>
double value_of(int magnitude) {
  const int exponent = magnitude >> kFractionBits<Format>;
  const int fraction = magnitude & ((1 << kFractionBits<Format>)-1);
  const int bias = (1 << (kExponentBits<Format> - 1)) - 1;
  if (exponent == 0) return std::ldexp(fraction, 1 - bias - kFractionBits<Format>);
  return std::ldexp(fraction + (1 << kFractionBits<Format>), exponent - bias - kFractionBits<Format>);
}

template <class Format>
Format of_bits(int bits) {
  return {static_cast<std::uint16_t>(bits)};
}

}  // namespace

TEMPLATE_TEST_CASE("every 16-bit pattern becomes the float it stands for, and comes back", "[kernel][smoke]",
                   BFloat16, Float16) {
  int wrong = 0;
  for (int bits = 0; bits < 0x10000; ++bits) {
    const auto format = of_bits<TestType>(bits);
    const float x = format.to_float();
    const int magnitude = bits & 0x7FFF;
    const bool negative = bits > 0x7FFF;
    wrong += std::signbit(x) != negative;
    if (magnitude > kInfinity<TestType>) {
      wrong += !moe::is_nan(x);
      const auto back = TestType::from_float(x);
      wrong += back.bits != (bits | 1 << (kFractionBits<TestType> - 1));  // the same NaN, quiet
    } else {
      const double value = magnitude == kInfinity<TestType> ? std::numeric_limits<double>::infinity()
                                                            : value_of<TestType>(magnitude);
      wrong += static_cast<double>(x) != (negative ? -value : value);
      wrong += !(TestType::from_float(x) == format);
    }
  }
  CHECK(wrong == 0);
}

TEMPLATE_TEST_CASE("floats between two neighbours go to the nearer one, from the middle to the even one",
                   "[kernel][smoke]", BFloat16, Float16) {
  int wrong = 0;
  for (int low = 0; low < kInfinity<TestType>; ++low) {
    // Above the largest finite number comes infinity where the next number would be.
    const double middle =
        low + 1 == kInfinity<TestType>
            ? value_of<TestType>(low) + (value_of<TestType>(low) - value_of<TestType>(low - 1)) / 2
            : (value_of<TestType>(low) + value_of<TestType>(low + 1)) / 2;
    const auto tie = static_cast<float>(middle);
    wrong += static_cast<double>(tie) != middle;  // has a float
    for (const float sign : {1.0f, -1.0f}) {
      const int sign_bit = sign < 0 ? 0x8000 : 0;
      const auto bits_of = [&](float x) { return static_cast<int>(TestType::from_float(sign * x).bits); };
      wrong += bits_of(tie) != (sign_bit | (low + (low & 1)));
      wrong += bits_of(std::nextafter(tie, 0.0f)) != (sign_bit | low);
      wrong += bits_of(std::nextafter(tie, std::numeric_limits<float>::infinity())) != (sign_bit | (low + 1));
    }
  }
  CHECK(wrong == 0);
}

TEMPLATE_TEST_CASE("numbers beyond the range become infinite, NaN stays NaN", "[kernel]", BFloat16, Float16) {
  const float inf = std::numeric_limits<float>::infinity();
  CHECK(TestType::from_float(inf).bits == kInfinity<TestType>);
  CHECK(TestType::from_float(-inf).bits == (kInfinity<TestType> | 0x8000));
  CHECK(TestType::from_float(std::numeric_limits<float>::max()).bits == kInfinity<TestType>);
  CHECK(TestType::from_float(std::numeric_limits<float>::denorm_min()).bits == 0);
  CHECK(TestType::from_float(-0.0f).bits == 0x8000);
  const double largest = value_of<TestType>(kInfinity<TestType> - 1),
               limit = largest + (largest - value_of<TestType>(kInfinity<TestType> - 2)) / 2;
  int finite = 0;
  for (double x = limit; x <= static_cast<double>(std::numeric_limits<float>::max()); x *= 1.01) {
    finite += TestType::from_float(static_cast<float>(x)).bits != kInfinity<TestType>;
  }
  CHECK(finite == 0);
  // Payloads that a 16-bit fraction cannot hold must not become infinity.
  for (const std::uint32_t bits : {0x7F800001u, 0xFF800001u, 0x7FC00000u, 0x7FFFFFFFu, 0xFFFFFFFFu}) {
    const auto nan = TestType::from_float(std::bit_cast<float>(bits));
    CHECK(moe::is_nan(nan.to_float()));
    CHECK((nan.bits >> 15) == static_cast<int>(bits >> 31));
  }
}

TEST_CASE("bf16 within its range: the nearest finite number", "[kernel]") {
  const float largest = BFloat16{0x7F7F}.to_float(), inf = std::numeric_limits<float>::infinity();
  for (const float sign : {1.0f, -1.0f}) {
    for (const float x : {0.0f, 1.0f, 1e-40f, 3e38f, largest, std::bit_cast<float>(0x7F7F7FFFu), inf}) {
      CHECK(BFloat16::from_float_within(sign * x) == BFloat16::from_float(sign * x));
    }
    for (const float x : {std::bit_cast<float>(0x7F7F8000u), std::numeric_limits<float>::max()}) {
      CHECK(BFloat16::from_float_within(sign * x).to_float() == sign * largest);
    }
  }
  CHECK(moe::is_nan(BFloat16::from_float_within(std::bit_cast<float>(0x7F800001u)).to_float()));
}
