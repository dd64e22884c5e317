#include "moe/io/gguf/decode.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "io/file/temporary_folder.hpp"
#include "moe/io/safetensors/reader.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/super_block.hpp"
#include "support/catch.hpp"
#include "support/same_bits.hpp"

using moe::Index;
using moe::io::GgmlType;

namespace {

/// The whole row, after checking that every piece of it decodes to the same.
std::vector<float> row_of(GgmlType type, const std::string& bytes, Index n) {
  const std::vector<std::byte> exact = test::exact_bytes(bytes);
  std::vector<float> all(static_cast<std::size_t>(n)), piece(all.size());
  moe::io::decode_ggml_row(type, exact.data(), 0, n, all.data());
  const Index step = n / 32 + 1;
  for (Index first = 0; first < n; first += step) {
    for (Index last = first; last <= n; last += 2 * step + 1) {
      moe::io::decode_ggml_row(type, exact.data(), first, last, piece.data());
      REQUIRE(std::equal(all.begin() + first, all.begin() + last, piece.begin()));
    }
  }
  return all;
}

std::string codes(unsigned seed, int n) {
  std::string out;
  for (int i = 0; i < n; ++i) out += static_cast<char>(seed = seed * 5 + 17);
  return out;
}

/// Blocks of Q4_K or Q6_K as the storage of that name holds their codes.
template <class Storage>
std::vector<float> stored(const std::byte* bytes, Index n) {
  constexpr bool kFour = std::is_same_v<Storage, moe::Q4K>;
  std::vector<moe::StorageBlock<Storage>> block(1);
  moe::SuperColumn column;
  std::vector<float> all;
  for (Index b = 0; b < n / 256; ++b) {
    if (kFour) moe::io::impl::read_q4_k(bytes + b * 144, column);
    if (!kFour) moe::io::impl::read_q6_k(bytes + b * 210, column);
    block[0].set_column(b % 32, column);
    for (Index k = 0; k < 256; ++k) all.push_back(block[0].number(k, b % 32));
  }
  return all;
}

}  // namespace

TEST_CASE("ggml rows: plain numbers", "[io]") {
  CHECK(row_of(GgmlType::F32, test::little(0x3FC00000, 4) + test::little(0xC0000000, 4), 2) ==
        std::vector<float>{1.5f, -2});
  CHECK(row_of(GgmlType::F16, test::little(0x3E00, 2) + test::little(0xC000, 2), 2) ==
        std::vector<float>{1.5f, -2});
  CHECK(row_of(GgmlType::BF16, test::little(0x3FC0, 2) + test::little(0xC000, 2), 2) ==
        std::vector<float>{1.5f, -2});
}

TEST_CASE("ggml rows: Q8_0", "[io]") {
  const std::string a = codes(3, 32), b = codes(9, 32);
  const std::vector<float> row =
      row_of(GgmlType::Q8_0, test::little(0x3800, 2) + a + test::little(0xC500, 2) + b, 64);
  for (std::size_t i = 0; i < 32; ++i) {
    CHECK(row[i] == 0.5f * static_cast<float>(static_cast<std::int8_t>(a[i])));
    CHECK(row[32 + i] == -5.0f * static_cast<float>(static_cast<std::int8_t>(b[i])));
  }
}

TEST_CASE("ggml rows: Q4_0, number j in the low half, j + 16 in the high half", "[io]") {
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

TEST_CASE("ggml rows: MXFP4 in split order", "[io]") {
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

// tests/golden/make_gguf_blocks.py: random blocks, decoded by the format's own library.
TEST_CASE("ggml rows: every type of block decodes to the same bits as in the gguf package", "[io]") {
  const moe::io::SafetensorsFile golden(std::filesystem::path(MOE_TEST_GOLDEN) / "gguf_blocks.safetensors");
  for (const GgmlType type :
       {GgmlType::Q4_0, GgmlType::Q4_1, GgmlType::Q5_0, GgmlType::Q5_1, GgmlType::Q8_0, GgmlType::IQ4_NL,
        GgmlType::MXFP4, GgmlType::Q2_K, GgmlType::Q3_K, GgmlType::Q4_K, GgmlType::Q5_K, GgmlType::Q6_K}) {
    const std::string name = moe::io::ggml_type_name(type);
    CAPTURE(name);
    const moe::io::Tensor* const found[] = {golden.find(name + ".bytes"), golden.find(name + ".values")};
    REQUIRE((found[0] != nullptr && found[1] != nullptr));
    const moe::io::Tensor &bytes = *found[0], &values = *found[1];
    const Index n = values.shape[0];
    REQUIRE(n == bytes.bytes / moe::io::ggml_block(type).bytes * moe::io::ggml_block(type).numbers);
    REQUIRE(n > 0);
    std::vector<float> want(static_cast<std::size_t>(n));
    moe::io::decode_floats(moe::io::DType::F32, values.data, 0, n, want.data());
    const std::string text(reinterpret_cast<const char*>(bytes.data), static_cast<std::size_t>(bytes.bytes));
    CHECK(test::same_bits(row_of(type, text, n), want));
    if (type == GgmlType::Q4_K) CHECK(test::same_bits(stored<moe::Q4K>(bytes.data, n), want));
    if (type == GgmlType::Q6_K) CHECK(test::same_bits(stored<moe::Q6K>(bytes.data, n), want));
  }
}
