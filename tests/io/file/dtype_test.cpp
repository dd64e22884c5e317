#include "moe/io/file/dtype.hpp"

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "io/file/temporary_folder.hpp"
#include "moe/kernel/finite.hpp"
#include "support/catch.hpp"

using moe::Index;
using moe::io::DType;

namespace {

std::vector<float> decoded(DType dtype, const std::string& bytes, Index first, Index n) {
  const std::vector<std::byte> exact = test::exact_bytes(bytes);
  std::vector<float> out(static_cast<std::size_t>(n));
  moe::io::decode_floats(dtype, exact.data(), first, n, out.data());
  return out;
}

/// The value of a code of a small format by the formula of its definition, in double.
double formula(unsigned code, int exponent_bits, int mantissa_bits, int bias) {
  const double fraction = code % (1u << mantissa_bits) / std::exp2(mantissa_bits);
  const int power = static_cast<int>(code >> mantissa_bits) % (1 << exponent_bits);
  const double magnitude =
      power == 0 ? std::exp2(1 - bias) * fraction : std::exp2(power - bias) * (1 + fraction);
  return code >> (exponent_bits + mantissa_bits) != 0 ? -magnitude : magnitude;
}

float one(DType dtype, unsigned code) {
  return decoded(dtype, std::string(1, static_cast<char>(code)), 0, 1)[0];
}

}  // namespace

TEST_CASE("dtype: names and sizes of dtypes", "[io]") {
  for (int i = 0; i <= static_cast<int>(DType::F64); ++i) {
    const DType type = static_cast<DType>(i);
    DType back = DType::F64;
    REQUIRE(moe::io::dtype_from_name(moe::io::dtype_name(type), back));
    CHECK(back == type);
  }
  DType none = DType::F32;
  CHECK_FALSE(moe::io::dtype_from_name("F12", none));
  CHECK_FALSE(moe::io::dtype_from_name("f32", none));
  CHECK_FALSE(moe::io::dtype_from_name("", none));
  CHECK(moe::io::dtype_bits(DType::F4) == 4);
  CHECK(moe::io::dtype_bits(DType::F6_E3M2) == 6);
  CHECK(moe::io::dtype_bits(DType::C64) == 64);
}

TEST_CASE("dtype: every code of the 8-bit floats", "[io]") {
  for (unsigned c = 0; c < 256; ++c) {
    INFO("code " << c);
    const auto same = [&](DType type, int exponent, int mantissa, int bias, bool nan) {
      const float value = one(type, c);
      if (nan) return moe::is_nan(value);
      return static_cast<double>(value) == formula(c, exponent, mantissa, bias) &&
             std::signbit(value) == std::signbit(formula(c, exponent, mantissa, bias));
    };
    CHECK(same(DType::F8_E4M3, 4, 3, 7, (c & 127) == 127));
    CHECK(same(DType::F8_E4M3FNUZ, 4, 3, 8, c == 128));
    CHECK(same(DType::F8_E5M2FNUZ, 5, 2, 16, c == 128));
    if ((c & 127) == 124) {
      CHECK(one(DType::F8_E5M2, c) == (c < 128 ? 1 : -1) * std::numeric_limits<float>::infinity());
    } else {
      CHECK(same(DType::F8_E5M2, 5, 2, 15, (c & 127) > 124));
    }
    if (c == 255) {
      CHECK(moe::is_nan(one(DType::F8_E8M0, c)));
    } else {
      CHECK(static_cast<double>(one(DType::F8_E8M0, c)) == std::exp2(static_cast<int>(c) - 127));
    }
    CHECK(one(DType::U8, c) == static_cast<float>(c));
    CHECK(one(DType::I8, c) == static_cast<float>(static_cast<std::int8_t>(c)));
  }
  CHECK(one(DType::F8_E4M3, 0x7E) == 448.0f);
  CHECK(one(DType::F8_E4M3, 0x01) == 0x1p-9f);
}

TEST_CASE("dtype: F4, low half first", "[io]") {
  const std::vector<float> want = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};
  const std::string bytes = "\x10\x32\x54\x76\x98\xBA\xDC\xFE";
  CHECK(decoded(DType::F4, bytes, 0, 16) == want);
  CHECK(std::signbit(decoded(DType::F4, bytes, 8, 1)[0]));
  CHECK(decoded(DType::F4, bytes, 3, 4) == std::vector<float>{1.5f, 2, 3, 4});  // from inside a byte
}

TEST_CASE("dtype: wide types at any alignment", "[io]") {
  for (int shift = 0; shift < 8; ++shift) {
    INFO("shift " << shift);
    const auto floats = [&](DType dtype, const std::string& bytes) {
      std::vector<std::byte> all(static_cast<std::size_t>(shift));
      const std::vector<std::byte> data = test::exact_bytes(bytes);
      all.insert(all.end(), data.begin(), data.end());
      std::vector<float> out(2);
      moe::io::decode_floats(dtype, all.data() + shift, 1, 2, out.data());
      return out;
    };
    using test::little;
    const auto words = [](int width, std::uint64_t a, std::uint64_t b) {
      return little(0, width) + little(a, width) + little(b, width);
    };
    using V = std::vector<float>;
    CHECK(floats(DType::F32, words(4, 0x3FC00000, 0xC0490FDB)) == V{1.5f, std::bit_cast<float>(0xC0490FDBu)});
    CHECK(floats(DType::BF16, words(2, 0x3FC0, 0xC049)) == V{1.5f, std::bit_cast<float>(0xC0490000u)});
    CHECK(floats(DType::F16, words(2, 0x3E00, 0x8001)) == V{1.5f, -0x1p-24f});
    CHECK(floats(DType::F64, words(8, std::bit_cast<std::uint64_t>(0.1),
                                   std::bit_cast<std::uint64_t>(-3.0))) == V{0.1f, -3.0f});
    CHECK(floats(DType::I16, words(2, 0xFFFF, 0x7FFF)) == V{-1, 32767});
    CHECK(floats(DType::U16, words(2, 0xFFFF, 1)) == V{65535, 1});
    CHECK(floats(DType::I32, words(4, 0xFFFFFFFE, 5)) == V{-2, 5});
    CHECK(floats(DType::U32, words(4, 0xFFFFFFFF, 5)) == V{4294967296.0f, 5});
    CHECK(floats(DType::I64, words(8, ~std::uint64_t{2}, 5)) == V{-3, 5});
    CHECK(floats(DType::U64, words(8, std::uint64_t{1} << 63, 5)) == V{0x1p63f, 5});
    CHECK(floats(DType::BOOL, words(1, 1, 0)) == V{1, 0});
  }
}
