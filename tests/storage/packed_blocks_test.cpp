#include "moe/storage/packed_blocks.hpp"

#include <cmath>
#include <vector>

#include "support/catch.hpp"
#include "support/products.hpp"

namespace {

using moe::Index;

/// A matrix [columns, rows] of numbers, one row a packed column.
struct Columns {
  Columns(Index columns, Index rows_, std::uint64_t seed)
      : rows(rows_), values(test::numbers<float>(columns * rows_, seed)) {}
  const float* at(Index c) const { return values.data() + c * rows; }
  float* at(Index c) { return values.data() + c * rows; }
  Index rows;
  std::vector<float> values;
};

}  // namespace

TEMPLATE_TEST_CASE("every packed column comes back within half a step, and alone as among others",
                   "[weights]", moe::BFloat16, moe::Int8Groups<>, moe::Int8Groups<moe::Float16>,
                   moe::Int4Groups<>, moe::Int4Groups<moe::Float16>, moe::Int8Channels, moe::Q4K, moe::Q6K) {
  using Block = moe::StorageBlock<TestType>;
  // Half a step of a number of magnitude up to 1: bf16 keeps 8 bits; codes share one of 127 or at least 7
  // steps, whose scale is off by up to 2^-9 of itself.
  double half = 0x1p-9;
  if constexpr (requires { Block::kBits; }) half = 0.51 / (Block::kBits == 8 ? 127 : 7);
  // A range of up to 2 in 15 steps, and half a code of either level; -32 .. 31, whose upper end is one step
  // off.
  if constexpr (std::is_same_v<TestType, moe::Q4K>) half = 1.01 * (1.0 / 15 + 2.0 / 126 + 1.0 / 126);
  if constexpr (std::is_same_v<TestType, moe::Q6K>) half = 1.01 * (1.0 / 32 + 1.0 / 254);
  for (const Index rows : {1, 31, 32, 33, 100}) {
    for (const Index columns : {1, 32, 33}) {
      INFO(columns << " columns of " << rows);
      const Columns source(columns, rows, 3);
      Columns back(columns, rows, 4), alone(columns, rows, 5);
      const Index panels = moe::plain_panels<float>(columns);
      moe::Buffer<Block> memory(moe::packed_size<TestType>(rows, panels));
      const moe::PackedView<TestType> packed(memory.data(), rows, panels);
      moe::pack_blocks(packed, [&](Index c) noexcept { return c < columns ? source.at(c) : nullptr; });
      moe::unpack_blocks<TestType>(packed,
                                   [&](Index c) noexcept { return c < columns ? back.at(c) : nullptr; });
      Index wrong = 0;
      for (std::size_t i = 0; i < back.values.size(); ++i) {
        wrong += std::abs(static_cast<double>(back.values[i]) - static_cast<double>(source.values[i])) <= half
                     ? 0
                     : 1;
      }
      CHECK(wrong == 0);
      // Only the last column, the others zeros: its bits are the same.
      moe::pack_blocks(packed, [&](Index c) noexcept { return c == columns - 1 ? source.at(c) : nullptr; });
      moe::unpack_blocks<TestType>(packed,
                                   [&](Index c) noexcept { return c < columns ? alone.at(c) : nullptr; });
      CHECK(test::same_bits(alone.at(columns - 1), back.at(columns - 1), rows));
      for (Index i = 0; i + rows < columns * rows; ++i)
        wrong += alone.values[static_cast<std::size_t>(i)] == 0 ? 0 : 1;
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("what is too large for a scale, or not finite, is named", "[weights]") {
  std::vector<float> w = {1, 2, 3, 8.4e6f};
  const moe::ConstMatrixView<float> view(w.data(), 2, 2);
  CHECK_NOTHROW(moe::require_roundable<moe::BFloat16>("w", view));
  CHECK_NOTHROW(moe::require_roundable<moe::Int8Groups<>>("w", view));
  CHECK_THROWS_AS(moe::require_roundable<moe::Int8Groups<moe::Float16>>("w", view), moe::numeric_error);
  w[3] = 8.3e6f;
  CHECK_NOTHROW(moe::require_roundable<moe::Int8Groups<moe::Float16>>("w", view));
  CHECK_THROWS_AS(moe::require_roundable<moe::Int4Groups<moe::Float16>>("w", view), moe::numeric_error);
  w[2] = NAN;
  CHECK_THROWS_WITH(moe::require_roundable<moe::Int8Groups<>>("w", view),
                    Catch::Matchers::Contains("w: ") && Catch::Matchers::Contains("row 1, column 0"));
}

namespace {

/// Codes of every value and scales of either sign, by place.
template <class Storage>
struct Groups {
  static constexpr int kOffset = moe::StorageBlock<Storage>::kOffset;
  int code(Index o, Index i) const noexcept {
    return static_cast<int>((o * 37 + i * 11) % (2 * kOffset)) - kOffset;
  }
  moe::GroupScale<Storage> scale(Index o, Index group) const noexcept {
    return moe::GroupScale<Storage>::from_float(static_cast<float>(o % 2 == 0 ? o + 1 : -o) +
                                                static_cast<float>(group));
  }
};

}  // namespace

TEMPLATE_TEST_CASE("codes and scales are packed as they are, zeros where there is no row", "[weights]",
                   moe::Int8Groups<>, moe::Int8Groups<moe::Float16>, moe::Int4Groups<>,
                   moe::Int4Groups<moe::Float16>) {
  static_assert(!moe::GroupStorage<moe::BFloat16> && !moe::GroupStorage<float>);
  constexpr Index kRows = 70, kColumns = 33;
  const Groups<TestType> groups;
  const Index panels = moe::plain_panels<float>(kColumns);
  moe::Buffer<moe::StorageBlock<TestType>> memory(moe::packed_size<TestType>(kRows, panels));
  const moe::PackedView<TestType> packed(memory.data(), kRows, panels);
  moe::pack_groups(packed, [&](Index position) noexcept {
    return moe::GroupRow<Groups<TestType>>{position < kColumns ? &groups : nullptr, position};
  });
  Index wrong = 0;
  for (Index c = 0; c < panels * moe::kPanel<float>; ++c) {
    for (Index k = 0; k < moe::ceil_div(kRows, moe::kBlockRows) * moe::kBlockRows; ++k) {
      const auto& block = packed.panel(c / moe::kPanel<float>)[k / moe::kBlockRows];
      const Index column = c % moe::kPanel<float>;
      const bool any = c < kColumns;
      wrong += block.code(k % moe::kBlockRows, column) == (any && k < kRows ? groups.code(c, k) : 0) ? 0 : 1;
      wrong +=
          block.scale(column).to_float() == (any ? groups.scale(c, k / moe::kBlockRows).to_float() : 0.0f)
              ? 0
              : 1;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("channels' codes and scales are packed as they are", "[weights]") {
  struct Channels {
    int code(Index o, Index i) const noexcept { return static_cast<int>((o * 37 + i * 11) % 256) - 128; }
    float scale(Index o, Index) const noexcept { return 0.1f * static_cast<float>(o % 2 == 0 ? o + 1 : -o); }
  };
  constexpr Index kRows = 70, kColumns = 33;
  const Channels channels;
  const Index panels = moe::plain_panels<float>(kColumns);
  moe::Buffer<moe::StorageBlock<moe::Int8Channels>> memory(
      moe::packed_size<moe::Int8Channels>(kRows, panels));
  const moe::PackedView<moe::Int8Channels> packed(memory.data(), kRows, panels);
  moe::pack_groups(packed, [&](Index position) noexcept {
    return moe::GroupRow<Channels>{position < kColumns ? &channels : nullptr, position};
  });
  Index wrong = 0;
  for (Index position = 0; position < panels * moe::kPanel<float>; ++position) {
    const auto* const panel = packed.panel(position / moe::kPanel<float>);
    const Index c = position % moe::kPanel<float>;
    const bool any = position < kColumns;
    wrong += panel->scale(c) == (any ? channels.scale(position, 0) : 0.0f) ? 0 : 1;
    for (Index k = 0; k < moe::round_up(kRows, moe::kBlockRows); ++k) {
      wrong += moe::channel_code(panel, k, c) == (any && k < kRows ? channels.code(position, k) : 0) ? 0 : 1;
    }
  }
  CHECK(wrong == 0);
}
