#include "moe/kernel/super_block.hpp"

#include <cmath>
#include <cstring>
#include <vector>

#include "support/catch.hpp"
#include "support/products.hpp"
#include "support/same_bits.hpp"

namespace {

using moe::Index;
using moe::kSuperRows;
using moe::Q4K;
using moe::Q6K;
using moe::SuperColumn;
constexpr Index kSuperColumns = moe::kPanel<float>;

// 4.625 and 6.5625 bits a weight.
static_assert(sizeof(moe::StorageBlock<Q4K>) * 8 == 4.625 * kSuperRows * kSuperColumns);
static_assert(sizeof(moe::StorageBlock<Q6K>) * 8 == 6.5625 * kSuperRows * kSuperColumns);
static_assert(moe::panel_blocks<Q4K>(256) == 1 && moe::panel_blocks<Q6K>(257) == 2);

/// 256 numbers: groups of one sign, of both, of one number, of zeros, and of sizes far from each other.
std::vector<float> super_numbers(float size, std::uint64_t seed) {
  std::vector<float> x = test::numbers<float>(kSuperRows, seed);
  test::Draw draw(seed);
  for (Index h = 0; h < 16; ++h) {
    const float factor =
        size * static_cast<float>(std::ldexp(1 + draw.next<double>() / 2, h % 4 == 3 ? -5 : 0));
    for (Index k = 16 * h; k < 16 * h + 16; ++k) {
      float& value = x[static_cast<std::size_t>(k)];
      const auto kind = (seed + static_cast<std::uint64_t>(h / 2)) % 6;
      if (kind == 1) value = std::abs(value) + 0.5f;
      if (kind == 2) value = -std::abs(value) - 0.5f;
      if (kind == 3) value = -0.7f;
      if (kind == 4) value = 0;
      value *= factor;
    }
  }
  return x;
}

template <class Storage>
std::vector<float> decoded(const SuperColumn& column, Index c) {
  std::vector<moe::StorageBlock<Storage>> block(1);
  std::memset(static_cast<void*>(block.data()), 0x5A, sizeof(block[0]));
  block[0].set_column(c, column);
  std::vector<float> x;
  for (Index k = 0; k < kSuperRows; ++k) x.push_back(block[0].number(k, c));
  return x;
}

/// What a code of the second level may be off: half of one, and what the first level's rounding makes of
/// `highest` of them.
double level_error(moe::Float16 scale, int highest) {
  const double s = static_cast<double>(scale.to_float());
  return s / 2 + highest * std::max(s * 0x1p-11, 0x1p-25);
}

double error_of(const SuperColumn& column, Index k, Q4K) {
  const double step = static_cast<double>(column.scale.to_float()) * column.scales[k / 32];
  return step / 2 + 15 * level_error(column.scale, 63) + level_error(column.offset, 63);
}
/// The largest of the other sign may be a whole step off.
double error_of(const SuperColumn& column, Index k, Q6K) {
  const double step = std::abs(static_cast<double>(column.scale.to_float()) * column.scales[k / 16]);
  return step + 32 * level_error(column.scale, 127);
}

}  // namespace

TEMPLATE_TEST_CASE("super-blocks: codes and scales of a column, whatever stood there and beside it",
                   "[kernel]", Q4K, Q6K) {
  constexpr bool kFour = std::is_same_v<TestType, Q4K>;
  std::vector<moe::StorageBlock<TestType>> block(1);
  std::vector<SuperColumn> columns(static_cast<std::size_t>(kSuperColumns));
  test::Draw draw(3);
  for (Index c = 0; c < kSuperColumns; ++c) {
    SuperColumn& column = columns[static_cast<std::size_t>(c)];
    column.scale = {static_cast<std::uint16_t>(0x2000 + 97 * c)};
    column.offset = {static_cast<std::uint16_t>(0x2100 + 89 * c)};
    for (Index h = 0; h < 16; ++h) {
      column.scales[h] = static_cast<std::int8_t>(kFour ? draw.bits() % 64 : draw.bits() % 256);
    }
    for (Index g = 0; g < 8; ++g) column.offsets[g] = static_cast<std::int8_t>(draw.bits() % 64);
    for (Index k = 0; k < kSuperRows; ++k) {
      column.codes[k] = static_cast<std::int8_t>(kFour ? (k * 7 + c) % 16 : (k * 11 + c) % 64 - 32);
    }
    block[0].set_column(c, column);
  }
  Index wrong = 0;
  std::vector<float> rows(static_cast<std::size_t>(moe::kBlockRows * kSuperColumns));
  for (Index k = 0; k < kSuperRows; ++k) {
    if (k % moe::kBlockRows == 0) moe::decode_rows(block.data(), k / moe::kBlockRows, rows.data());
    for (Index c = 0; c < kSuperColumns; ++c) {
      const SuperColumn& column = columns[static_cast<std::size_t>(c)];
      const double first = static_cast<double>(column.scale.to_float());
      double value = first * column.scales[k / (kFour ? 32 : 16)] * column.codes[k];
      if (kFour) value -= static_cast<double>(column.offset.to_float()) * column.offsets[k / 32];
      wrong += block[0].code(k, c) == column.codes[k] ? 0 : 1;
      wrong +=
          rows[static_cast<std::size_t>(k % moe::kBlockRows * kSuperColumns + c)] == static_cast<float>(value)
              ? 0
              : 1;
    }
  }
  CHECK(wrong == 0);
}

TEMPLATE_TEST_CASE("super-blocks: encoding is within half a step and half a code, and repeats itself",
                   "[kernel][smoke]", Q4K, Q6K) {
  for (int exponent = -30; exponent <= 20; exponent += 2) {
    for (std::uint64_t seed = 1; seed <= 24; ++seed) {
      INFO("2^" << exponent << ", seed " << seed);
      const std::vector<float> x = super_numbers(std::ldexp(1.0f, exponent), seed);
      SuperColumn column, again;
      moe::encode_column(x.data(), column, TestType{});
      const std::vector<float> y = decoded<TestType>(column, 5);
      bool near = true;
      for (Index k = 0; k < kSuperRows; ++k) {
        const auto i = static_cast<std::size_t>(k);
        const double bound =
            error_of(column, k, TestType{}) * (1 + 0x1p-15) + 0x1p-22 * std::abs(static_cast<double>(x[i]));
        near = near && test::within(y[i], x[i], bound);
      }
      CHECK(near);
      moe::encode_column(y.data(), again, TestType{});
      CHECK(test::same_bits(decoded<TestType>(again, 5), y));
    }
  }
}

TEST_CASE("super-blocks: padding is zeros, and a number does not depend on the columns beside it",
          "[kernel]") {
  const std::vector<float> x = super_numbers(0.1f, 5);
  const float* columns[kSuperColumns] = {};
  columns[9] = x.data();
  std::vector<moe::StorageBlock<Q6K>> panel(1);
  moe::encode_panel<Q6K>(columns, 70, panel.data());
  bool right = true;
  for (Index k = 0; k < kSuperRows; ++k) {
    for (Index c = 0; c < kSuperColumns; ++c) {
      right = right &&
              (c == 9 && k < 70 ? std::abs(panel[0].number(k, c) - x[static_cast<std::size_t>(k)]) < 0.02f
                                : panel[0].number(k, c) == 0);
    }
  }
  CHECK(right);
}
