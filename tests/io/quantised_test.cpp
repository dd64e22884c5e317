#include "moe/io/quantised.hpp"

#include <bit>
#include <cmath>
#include <vector>

#include "io/file/temporary_folder.hpp"
#include "moe/kernel/finite.hpp"
#include "support/catch.hpp"

using moe::Index;
using moe::io::DType;

namespace {

std::string random_bytes(std::size_t n, unsigned seed) {
  std::string out;
  for (std::size_t i = 0; i < n; ++i) {
    seed = seed * 1664525u + 1013904223u;
    out += static_cast<char>(seed >> 24);
  }
  return out;
}

/// Every piece [first, last) of row o is the same piece of the whole row.
template <class Matrix>
std::vector<float> whole_row(const Matrix& m, Index o, Index cols) {
  std::vector<float> all(static_cast<std::size_t>(cols));
  m.decode(o, 0, cols, all.data());
  for (Index first = 0; first <= cols; first += 3) {
    for (Index last = first; last <= cols; last += 5) {
      std::vector<float> piece(static_cast<std::size_t>(last - first));
      m.decode(o, first, last, piece.data());
      for (Index i = first; i < last; ++i) {
        const float a = piece[static_cast<std::size_t>(i - first)], b = all[static_cast<std::size_t>(i)];
        REQUIRE((a == b || (moe::is_nan(a) && moe::is_nan(b))));
      }
    }
  }
  return all;
}

}  // namespace

TEST_CASE("quantised: plain numbers", "[io]") {
  const std::vector<std::byte> bytes =
      test::exact_bytes(test::little(0x3F80, 2) + test::little(0x4000, 2) + test::little(0x4040, 2) +
                        test::little(0x4080, 2) + test::little(0x40A0, 2) + test::little(0x40C0, 2));
  const moe::io::PlainMatrix m{DType::BF16, bytes.data(), 3};
  CHECK(whole_row(m, 1, 3) == std::vector<float>{4, 5, 6});
}

TEST_CASE("quantised: 8-bit numbers under a grid of scales, partial blocks at the edges", "[io][smoke]") {
  constexpr Index kRows = 7, kCols = 11, kBlockRows = 3, kBlockCols = 4;
  std::string codes = random_bytes(kRows * kCols, 1);
  for (char& c : codes) c = static_cast<char>(c & 0x77);  // no NaN
  std::string scale_bytes;
  for (int s = 0; s < 9; ++s) scale_bytes += test::little(static_cast<unsigned>(0x3F00 + 0x13 * s), 2);
  const std::vector<std::byte> values = test::exact_bytes(codes), scales = test::exact_bytes(scale_bytes);
  const moe::io::ScaledMatrix m{DType::F8_E4M3, values.data(), kCols,     DType::BF16,
                                scales.data(),  kBlockRows,    kBlockCols};
  for (Index o = 0; o < kRows; ++o) {
    const std::vector<float> row = whole_row(m, o, kCols);
    for (Index i = 0; i < kCols; ++i) {
      const unsigned c = static_cast<unsigned char>(codes[static_cast<std::size_t>(o * kCols + i)]);
      const double power = c >> 3 & 15, fraction = c & 7;
      const double value = power == 0 ? std::ldexp(fraction, -9) : std::exp2(power - 7) * (1 + fraction / 8);
      const Index s = o / kBlockRows * 3 + i / kBlockCols;  // 3 x 3 scales
      const double scale =
          static_cast<double>(std::bit_cast<float>(static_cast<unsigned>(0x3F00 + 0x13 * s) << 16));
      // 4 bits times 8 bits: exact in float.
      CHECK(static_cast<double>(row[static_cast<std::size_t>(i)]) == value * scale);
    }
  }
  const moe::io::ScaledMatrix bytes{DType::I8,     values.data(), kCols, DType::BF16,
                                    scales.data(), kRows,         kCols};
  CHECK(whole_row(bytes, 6, kCols)[10] ==
        static_cast<float>(codes.back()) * 0.5f);  // one scale for all: 0x3F00
}

TEST_CASE("quantised: MXFP4, low half first, a scale for 32 of a row", "[io][smoke]") {
  constexpr Index kRows = 3, kCols = 96;
  const double table[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6};
  const std::string codes = random_bytes(kRows * kCols / 2, 2);
  std::string scale_bytes;
  for (const int s : {127, 120, 130, 1, 0, 2, 252, 254, 255}) scale_bytes += static_cast<char>(s);
  const std::vector<std::byte> values = test::exact_bytes(codes), scales = test::exact_bytes(scale_bytes);
  const moe::io::Mxfp4Matrix m{values.data(), scales.data(), kCols};
  for (Index o = 0; o < kRows; ++o) {
    const std::vector<float> row = whole_row(m, o, kCols);
    for (Index i = 0; i < kCols; ++i) {
      const unsigned byte = static_cast<unsigned char>(codes[static_cast<std::size_t>((o * kCols + i) / 2)]);
      const unsigned scale =
          static_cast<unsigned char>(scale_bytes[static_cast<std::size_t>(o * 3 + i / 32)]);
      const float got = row[static_cast<std::size_t>(i)];
      if (scale == 255) {
        CHECK(moe::is_nan(got));
      } else {
        const double want =
            table[i % 2 == 0 ? byte & 15 : byte >> 4] * std::exp2(static_cast<int>(scale) - 127);
        CHECK(got == static_cast<float>(want));  // infinite beyond float's range
      }
    }
  }
}

TEST_CASE("quantised: 4-bit groups in words, rows padded to whole words", "[io][smoke]") {
  constexpr Index kRows = 2, kCols = 21, kGroup = 8;
  std::string codes;  // 3 words a row
  for (std::uint32_t w = 0; w < 6; ++w) codes += test::little(0x89ABCDEFu ^ (w * 0x11111111u), 4);
  std::string scale_bytes;
  for (unsigned s = 0; s < 6; ++s) scale_bytes += test::little(0x3F80 + 0x40 * s, 2);
  const std::vector<std::byte> values = test::exact_bytes(codes), scales = test::exact_bytes(scale_bytes);
  const moe::io::Int4Matrix m{values.data(), kCols, DType::BF16, scales.data(), kGroup};
  for (Index o = 0; o < kRows; ++o) {
    const std::vector<float> row = whole_row(m, o, kCols);
    for (Index i = 0; i < kCols; ++i) {
      const auto w = static_cast<std::uint32_t>(o * 3 + i / 8);
      const auto q = static_cast<int>((0x89ABCDEFu ^ (w * 0x11111111u)) >> (4 * (i % 8)) & 15) - 8;
      const double scale = static_cast<double>(
          std::bit_cast<float>(static_cast<unsigned>(0x3F80 + 0x40 * (o * 3 + i / kGroup)) << 16));
      CHECK(m.code(o, i) == q);
      CHECK(static_cast<double>(row[static_cast<std::size_t>(i)]) == q * scale);
    }
  }
}
