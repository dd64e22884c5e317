#include "moe/kernel/channel_block.hpp"

#include <cmath>
#include <cstring>
#include <vector>

#include "support/catch.hpp"
#include "support/products.hpp"

namespace {

using moe::Index;
using moe::Int8Channels;
using Block = moe::StorageBlock<Int8Channels>;
constexpr Index kChannels = moe::kPanel<float>;

static_assert(sizeof(Block) == 128 && std::is_trivially_copyable_v<Block>);
static_assert(moe::panel_blocks<Int8Channels>(64) == 17 && moe::panel_blocks<Int8Channels>(65) == 25);

/// Columns of `rows` numbers of any size around `size`, some of zeros, and two that are not there.
struct ChannelColumns {
  ChannelColumns(Index rows_, float size, std::uint64_t seed)
      : rows(rows_), values(test::numbers<float>(rows_ * kChannels, seed)) {
    test::Draw draw(seed);
    for (Index c = 0; c < kChannels; ++c) {
      const float factor = c == 5 ? 0.0f : size * static_cast<float>(1 + draw.next<double>());
      for (Index k = 0; k < rows; ++k) values[static_cast<std::size_t>(c * rows + k)] *= factor;
      column[c] = c == 7 || c == 31 ? nullptr : values.data() + c * rows;
    }
  }
  Index rows;
  std::vector<float> values;
  const float* column[kChannels];
};

std::vector<Block> channel_panel(Index rows) {
  std::vector<Block> panel(static_cast<std::size_t>(moe::panel_blocks<Int8Channels>(rows)));
  std::memset(static_cast<void*>(panel.data()), 0x5A, panel.size() * sizeof(Block));
  return panel;
}

/// [rows rounded up][kChannels]
std::vector<float> channel_numbers(const std::vector<Block>& panel, Index rows) {
  const Index groups = moe::ceil_div(rows, moe::kBlockRows);
  std::vector<float> values(static_cast<std::size_t>(groups * moe::kBlockRows * kChannels));
  for (Index g = 0; g < groups; ++g) {
    moe::decode_rows(panel.data(), g, values.data() + g * moe::kBlockRows * kChannels);
  }
  return values;
}

}  // namespace

TEST_CASE("channels: every number within half a step of its column, and again the same panel",
          "[kernel][smoke]") {
  for (const Index rows : {1, 31, 32, 33, 100}) {
    for (int exponent = -124; exponent <= 98; exponent += exponent < -112 ? 1 : 17) {
      INFO(rows << " rows of 2^" << exponent);
      const ChannelColumns source(rows, std::ldexp(1.0f, exponent), static_cast<std::uint64_t>(rows + 200));
      std::vector<Block> panel = channel_panel(rows), again = channel_panel(rows);
      moe::encode_panel(source.column, rows, panel.data());
      const std::vector<float> decoded = channel_numbers(panel, rows);
      bool near = true, exact = true;
      for (Index k = 0; k < moe::round_up(rows, moe::kBlockRows); ++k) {
        for (Index c = 0; c < kChannels; ++c) {
          const bool any = k < rows && source.column[c] != nullptr;
          const double value = any ? static_cast<double>(source.column[c][k]) : 0;
          // 2^-18 of the largest code for the scale's rounding, 2^-23 of it for that of the step number.
          const double half = static_cast<double>(panel[0].scale(c)) * (0.5 + 127 * 0x1.1p-18);
          near = near && test::within(decoded[static_cast<std::size_t>(k * kChannels + c)], value,
                                      std::max(half, 127 * 0x1p-126));
          near = near && (any || moe::channel_code(panel.data(), k, c) == 0);
          // Scales of 17 bits: a code times one is a float.
          exact = exact && static_cast<double>(decoded[static_cast<std::size_t>(k * kChannels + c)]) ==
                               static_cast<double>(panel[0].scale(c)) * moe::channel_code(panel.data(), k, c);
        }
      }
      CHECK(near);
      CHECK(exact);
      std::vector<float> turned(decoded.size());
      const float* column[kChannels];
      for (Index c = 0; c < kChannels; ++c) {
        column[c] = turned.data() + c * rows;
        for (Index k = 0; k < rows; ++k) {
          turned[static_cast<std::size_t>(c * rows + k)] =
              decoded[static_cast<std::size_t>(k * kChannels + c)];
        }
      }
      moe::encode_panel(column, rows, again.data());
      CHECK(std::memcmp(panel.data(), again.data(), panel.size() * sizeof(Block)) == 0);
    }
  }
}

TEST_CASE("channels: the largest number of a column gets code 127 or -127, a column of zeros scale 0",
          "[kernel]") {
  const ChannelColumns source(40, 1, 3);
  std::vector<Block> panel = channel_panel(40);
  moe::encode_panel(source.column, 40, panel.data());
  for (Index c = 0; c < kChannels; ++c) {
    int largest = 0;
    for (Index k = 0; k < 40; ++k)
      largest = std::max(largest, std::abs(moe::channel_code(panel.data(), k, c)));
    const bool zeros = c == 5 || source.column[c] == nullptr;
    CHECK(largest == (zeros ? 0 : 127));
    CHECK((panel[0].scale(c) == 0) == zeros);
  }
}

TEST_CASE("channels: codes and scales lie in memory as the tiles read them", "[kernel]") {
  std::vector<Block> panel = channel_panel(8);
  panel[2].set_code(1, 9, -128);  // row 5
  panel[0].set_scale(9, 0.1f);
  CHECK(moe::channel_code(panel.data(), 5, 9) == -128);
  CHECK(panel[2].bytes[9][1] == 0);
  CHECK(panel[0].scale(9) == 0.1f);
  float values[moe::kBlockRows * kChannels];
  moe::decode_rows(panel.data(), 0, values);
  CHECK(values[5 * kChannels + 9] == -128 * 0.1f);
}
