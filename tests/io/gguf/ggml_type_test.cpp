#include "moe/io/gguf/ggml_type.hpp"

#include <cmath>
#include <string>
#include <vector>

#include "io/file/temporary_folder.hpp"
#include "moe/kernel/finite.hpp"
#include "support/catch.hpp"

using moe::Index;
using moe::io::GgmlType;

namespace {

/// The whole row, after checking that every piece of it decodes to the same.
std::vector<float> row_of(GgmlType type, const std::string& bytes, Index n) {
  const std::vector<std::byte> exact = test::exact_bytes(bytes);
  std::vector<float> all(static_cast<std::size_t>(n)), piece(all.size());
  moe::io::decode_ggml_row(type, exact.data(), 0, n, all.data());
  for (Index first = 0; first < n; first += 7) {
    for (Index last = first; last <= n; last += 13) {
      moe::io::decode_ggml_row(type, exact.data(), first, last, piece.data());
      for (Index i = first; i < last; ++i) {
        REQUIRE(piece[static_cast<std::size_t>(i - first)] == all[static_cast<std::size_t>(i)]);
      }
    }
  }
  return all;
}

std::string codes(unsigned seed, int n) {
  std::string out;
  for (int i = 0; i < n; ++i) out += static_cast<char>(seed = seed * 5 + 17);
  return out;
}

}  // namespace

TEST_CASE("ggml types: plain numbers", "[io]") {
  CHECK(row_of(GgmlType::F32, test::little(0x3FC00000, 4) + test::little(0xC0000000, 4), 2) ==
        std::vector<float>{1.5f, -2});
  CHECK(row_of(GgmlType::F16, test::little(0x3E00, 2) + test::little(0xC000, 2), 2) ==
        std::vector<float>{1.5f, -2});
  CHECK(row_of(GgmlType::BF16, test::little(0x3FC0, 2) + test::little(0xC000, 2), 2) ==
        std::vector<float>{1.5f, -2});
}

TEST_CASE("ggml types: Q8_0", "[io]") {
  const std::string a = codes(3, 32), b = codes(9, 32);
  const std::vector<float> row =
      row_of(GgmlType::Q8_0, test::little(0x3800, 2) + a + test::little(0xC500, 2) + b, 64);
  for (std::size_t i = 0; i < 32; ++i) {
    CHECK(row[i] == 0.5f * static_cast<float>(static_cast<std::int8_t>(a[i])));
    CHECK(row[32 + i] == -5.0f * static_cast<float>(static_cast<std::int8_t>(b[i])));
  }
}

TEST_CASE("ggml types: Q4_0, number j in the low half, j + 16 in the high half", "[io]") {
  const std::string a = codes(3, 16), b = codes(9, 16);
  const std::vector<float> row =
      row_of(GgmlType::Q4_0, test::little(0x3800, 2) + a + test::little(0xC500, 2) + b, 64);
  for (std::size_t i = 0; i < 16; ++i) {
    const int x = static_cast<unsigned char>(a[i]), y = static_cast<unsigned char>(b[i]);
    CHECK(row[i] == 0.5f * static_cast<float>(x % 16 - 8));
    CHECK(row[16 + i] == 0.5f * static_cast<float>(x / 16 - 8));
    CHECK(row[32 + i] == -5.0f * static_cast<float>(y % 16 - 8));
    CHECK(row[48 + i] == -5.0f * static_cast<float>(y / 16 - 8));
  }
}

TEST_CASE("ggml types: MXFP4 in split order", "[io]") {
  const double table[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6};
  const std::string a = codes(3, 16);
  for (const int e : {0, 1, 2, 126, 127, 128, 250}) {
    const std::vector<float> row = row_of(GgmlType::MXFP4, std::string(1, static_cast<char>(e)) + a, 32);
    for (std::size_t i = 0; i < 16; ++i) {
      const unsigned x = static_cast<unsigned char>(a[i]);
      CHECK(static_cast<double>(row[i]) == table[x % 16] * std::exp2(e - 127));
      CHECK(static_cast<double>(row[16 + i]) == table[x / 16] * std::exp2(e - 127));
    }
  }
  const std::vector<std::byte> nan = test::exact_bytes("\xFF" + a);
  float value = 0;
  moe::io::decode_ggml_row(GgmlType::MXFP4, nan.data(), 5, 6, &value);
  CHECK(moe::is_nan(value));
}

TEST_CASE("ggml types: sizes, and names also of those that are not decoded", "[io]") {
  CHECK(moe::io::ggml_block(static_cast<GgmlType>(12)).numbers == 0);  // Q4_K
  CHECK(moe::io::ggml_block(GgmlType::MXFP4).bytes == 17);
  const auto name = [](std::uint32_t type) {
    return std::string(moe::io::ggml_type_name(static_cast<GgmlType>(type)));
  };
  CHECK(name(0) == "F32");
  CHECK(name(8) == "Q8_0");
  CHECK(name(12) == "Q4_K");
  CHECK(name(20) == "IQ4_NL");
  CHECK(name(30) == "BF16");
  CHECK(name(39) == "MXFP4");
  CHECK(name(40) == "NVFP4");
  CHECK(name(4) == "unknown");
  CHECK(name(33) == "unknown");
  CHECK(name(4000000000) == "unknown");
}
