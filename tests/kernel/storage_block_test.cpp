#include "moe/kernel/storage_block.hpp"

#include <cmath>
#include <cstring>
#include <vector>

#include "support/catch.hpp"
#include "support/products.hpp"

namespace {

using moe::BFloat16;
using moe::Float16;
using moe::Index;
using moe::Int4Groups;
using moe::Int8Groups;
using moe::kBlockRows;
using moe::StorageBlock;

constexpr Index kColumns = moe::kPanel<float>;
constexpr Index kNumbers = kBlockRows * kColumns;

static_assert(sizeof(StorageBlock<BFloat16>) == 2048 && alignof(StorageBlock<BFloat16>) == 64);
static_assert(sizeof(StorageBlock<Int8Groups<>>) == 1088 &&
              sizeof(StorageBlock<Int8Groups<Float16>>) == 1088);
static_assert(sizeof(StorageBlock<Int4Groups<>>) == 576 && sizeof(StorageBlock<Int4Groups<Float16>>) == 576);
static_assert(std::is_trivially_copyable_v<StorageBlock<Int4Groups<>>>);

template <class Storage>
bool same(const StorageBlock<Storage>& a, const StorageBlock<Storage>& b) {
  return std::memcmp(&a, &b, sizeof(a)) == 0;
}

/// Columns of every kind: both signs in any proportion, largest numbers of either sign and of both.
std::vector<float> columns_of(double size, std::uint64_t seed) {
  test::Draw draw(seed);
  std::vector<float> values(static_cast<std::size_t>(kNumbers));
  for (Index c = 0; c < kColumns; ++c) {
    const double positive = draw.next<double>(), negative = draw.next<double>();
    for (Index k = 0; k < kBlockRows; ++k) {
      const double x = draw.next<double>();
      const double bound = c % 4 == 0 ? 1 : x > 0 ? positive : negative;
      values[static_cast<std::size_t>(k * kColumns + c)] = static_cast<float>(x * bound * size);
    }
  }
  return values;
}

/// Half a step, and what computing the step number in float may add.
template <class Storage>
bool near(const std::vector<float>& values, const StorageBlock<Storage>& block) {
  float decoded[kNumbers];
  moe::decode_block(block, decoded);
  for (Index i = 0; i < kNumbers; ++i) {
    const double step = std::fabs(static_cast<double>(block.scale(i % kColumns).to_float()));
    const long double value = values[static_cast<std::size_t>(i)];
    // A column of zeros stands for numbers up to half the smallest scale.
    const long double least = moe::impl::ScaleRange<decltype(block.scale(0))>::kSmallest / 2;
    if (!test::within(decoded[i], value, std::max<long double>(step * (0.5 + 0x1p-15), least))) return false;
  }
  return true;
}

}  // namespace

TEMPLATE_TEST_CASE("codes and scales can be set one by one", "[kernel]", Int8Groups<>, Int8Groups<Float16>,
                   Int4Groups<>, Int4Groups<Float16>) {
  using Block = StorageBlock<TestType>;
  constexpr int kCodes = Block::kOffset + Block::kLargest + 1;
  const auto code_of = [](Index k, Index c, int shift) {
    return static_cast<int>((k * 37 + c * 11 + shift) % kCodes) - Block::kOffset;
  };
  Block block;
  std::memset(static_cast<void*>(&block), 0x5A, sizeof(block));
  float decoded[kNumbers];
  for (const int shift : {0, 1, 100}) {
    for (Index i = 0; i < kNumbers; ++i) {
      const Index at = (i * 387 + 5) % kNumbers;  // in no order of the layout
      block.set_code(at / kColumns, at % kColumns, code_of(at / kColumns, at % kColumns, shift));
    }
    for (Index c = 0; c < kColumns; ++c) block.set_scale(c, {static_cast<std::uint16_t>(0x3C00 + c * 64)});
    moe::decode_block(block, decoded);
    bool right = true;
    for (Index i = 0; i < kNumbers; ++i) {
      const int code = code_of(i / kColumns, i % kColumns, shift);
      const float scale = block.scale(i % kColumns).to_float();
      right = right && block.code(i / kColumns, i % kColumns) == code;
      right = right && block.scale(i % kColumns).bits == 0x3C00 + (i % kColumns) * 64;
      right = right && decoded[i] == static_cast<float>(code) * scale;
    }
    CHECK(right);
  }
}

TEST_CASE("blocks lie in memory as the tiles read them", "[kernel]") {
  StorageBlock<BFloat16> bf16;
  StorageBlock<Int8Groups<>> int8;
  StorageBlock<Int4Groups<>> int4;
  std::memset(static_cast<void*>(&int4), 0, sizeof(int4));
  const auto byte = [](const auto& block, Index at) {
    return reinterpret_cast<const unsigned char*>(&block)[at];
  };
  bf16.set(5, 9, {0x1234});  // pair 2, second of the pair
  CHECK(byte(bf16, (2 * 32 + 9) * 4 + 2) == 0x34);
  CHECK(bf16.at(5, 9).bits == 0x1234);
  int8.set_code(6, 9, -3);  // quad 1, third of the quad
  CHECK(byte(int8, 64 + (32 + 9) * 4 + 2) == 125);
  int4.set_code(10, 9, 7);  // quads 2 and 3 share bytes
  int4.set_code(14, 9, -8);
  CHECK(byte(int4, 64 + (32 + 9) * 4 + 2) == 15);
  int4.set_code(14, 9, -7);
  CHECK(byte(int4, 64 + (32 + 9) * 4 + 2) == 0x1F);
}

TEST_CASE("bf16 blocks hold each number's nearest bf16", "[kernel][smoke]") {
  const std::vector<float> values = columns_of(1e3, 3);
  StorageBlock<BFloat16> block, again;
  moe::encode_block(values.data(), block);
  float decoded[kNumbers];
  moe::decode_block(block, decoded);
  bool right = true;
  for (Index i = 0; i < kNumbers; ++i) {
    const float x = values[static_cast<std::size_t>(i)];
    right = right && decoded[i] == BFloat16::from_float(x).to_float();
  }
  CHECK(right);
  moe::encode_block(decoded, again);
  CHECK(same(block, again));
}

TEMPLATE_TEST_CASE("encoding is within half a step, and repeats itself, for numbers of any size",
                   "[kernel][smoke]", Int8Groups<>, Int8Groups<Float16>, Int4Groups<>, Int4Groups<Float16>) {
  constexpr bool kHalf = std::is_same_v<decltype(StorageBlock<TestType>().scale(0)), Float16>;
  // Down to where everything is zero, and through all scales with less than full precision.
  const int first = kHalf ? -28 : -132, last = kHalf ? 17 : 120;
  for (int exponent = first; exponent <= last; exponent += kHalf || exponent < -110 ? 1 : 23) {
    for (std::uint64_t seed = 1; seed <= 24; ++seed) {
      const std::vector<float> values = columns_of(std::ldexp(1 + 0.04 * static_cast<double>(seed), exponent),
                                                   seed * 1000 + static_cast<std::uint64_t>(exponent + 200));
      StorageBlock<TestType> block, again;
      moe::encode_block(values.data(), block);
      float decoded[kNumbers];
      moe::decode_block(block, decoded);
      moe::encode_block(decoded, again);
      const bool is_near = near(values, block), is_same = same(block, again);
      if (is_near && is_same) continue;
      INFO("exponent " << exponent << ", seed " << seed);
      CHECK(is_near);
      CHECK(is_same);
    }
  }
}

TEMPLATE_TEST_CASE("the scale is as small as the codes allow", "[kernel]", Int8Groups<>, Int4Groups<>) {
  // Some number of every column reaches the end of the codes' range.
  using Block = StorageBlock<TestType>;
  const std::vector<float> values = columns_of(0.02, 5);
  Block block;
  moe::encode_block(values.data(), block);
  for (Index c = 0; c < kColumns; ++c) {
    int largest = 0, smallest = 0;
    for (Index k = 0; k < kBlockRows; ++k) {
      largest = std::max(largest, block.code(k, c));
      smallest = std::min(smallest, block.code(k, c));
    }
    if (Block::kLargest == 127) {
      CHECK(std::max(largest, -smallest) == 127);
    } else {
      CHECK((smallest == -8 || largest == 7));
    }
  }
}

TEST_CASE("4 bits: the larger side takes code -8, and a column near the limit of signs repeats itself",
          "[kernel]") {
  // Exact with a scale of -1, which 8 / 7 is not.
  std::vector<float> values(static_cast<std::size_t>(kNumbers), 0.0f);
  const float exact[] = {8, 3, -2, 1, -7};
  for (Index k = 0; k < 5; ++k) values[static_cast<std::size_t>(k * kColumns)] = exact[k];
  // Sides 1.0739 apart, the sign stays; top / 7 = 1.00391, which rounds up to 1.0078 in bf16, and with that
  // the other side would get code -6, whose block has its sign turned.
  values[1] = 7 * 1.00391f;
  values[static_cast<std::size_t>(kColumns + 1)] = -7 * 1.00391f / 1.0739f;
  StorageBlock<Int4Groups<>> block, again;
  moe::encode_block(values.data(), block);
  CHECK(block.code(0, 0) == -8);
  CHECK(block.code(1, 1) == -7);
  float decoded[kNumbers];
  moe::decode_block(block, decoded);
  for (Index k = 0; k < 5; ++k) CHECK(decoded[k * kColumns] == exact[k]);
  moe::encode_block(decoded, again);
  CHECK(same(block, again));
}

TEMPLATE_TEST_CASE("a column of zeros has scale 0 and codes 0", "[kernel]", Int8Groups<>,
                   Int4Groups<Float16>) {
  std::vector<float> values = columns_of(1, 9);
  for (Index k = 0; k < kBlockRows; ++k) {
    values[static_cast<std::size_t>(k * kColumns + 3)] = k % 2 == 0 ? 0.0f : -0.0f;
    values[static_cast<std::size_t>(k * kColumns + 4)] = 1e-44f;  // far below the smallest scale
  }
  StorageBlock<TestType> block;
  moe::encode_block(values.data(), block);
  for (const Index c : {3, 4}) {
    CHECK(block.scale(c).bits == 0);
    for (Index k = 0; k < kBlockRows; ++k) CHECK(block.code(k, c) == 0);
  }
  CHECK(near(values, block));
}
