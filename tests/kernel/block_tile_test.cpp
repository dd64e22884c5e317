#include "moe/kernel/block_tile.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernel/block_paths.hpp"
#include "support/catch.hpp"

namespace {

using namespace test;
using moe::kBlockTileRows;
using moe::kPanel;

constexpr Index kColumns = kPanel<float>;
constexpr Index kGroups[] = {0, 1, 2, 3, 9, 32};

/// Blocks of random numbers; every third with codes at the ends of their range, set by hand.
template <class Storage>
struct Panel {
  Panel(Index groups, std::uint64_t seed, float size = 1) : blocks(static_cast<std::size_t>(groups) + 1) {
    for (Index g = 0; g < groups; ++g) {
      std::vector<float> values =
          numbers<float>(kBlockRows * kColumns, seed + 977 * static_cast<std::uint64_t>(g));
      for (float& value : values) value *= size;
      moe::encode_block(values.data(), blocks[static_cast<std::size_t>(g)]);
      if constexpr (!std::is_same_v<Storage, BFloat16>) {
        using Block = StorageBlock<Storage>;
        if (g % 3 != 1) continue;
        Draw draw(seed);
        for (Index i = 0; i < kBlockRows * kColumns; ++i) {
          // Four columns of the least code only, four of the largest: the largest sums in 16 bits.
          const Index c = i % kColumns;
          const bool low = c < 4 || (c >= 8 && draw.bits() % 2 == 0);
          blocks[static_cast<std::size_t>(g)].set_code(i / kColumns, i % kColumns,
                                                       low ? -Block::kOffset : Block::kLargest);
        }
      }
    }
  }
  StorageBlock<Storage>* data() { return blocks.data(); }
  std::vector<StorageBlock<Storage>> blocks;
};

/// Random numbers; in every third group of some columns codes at the ends, by hand.
template <moe::SuperStorage Storage>
struct Panel<Storage> {
  using Block = StorageBlock<Storage>;
  Panel(Index groups, std::uint64_t seed, float size = 1)
      : blocks(static_cast<std::size_t>(moe::panel_blocks<Storage>(groups * kBlockRows)) + 1) {
    constexpr bool kFour = std::is_same_v<Storage, Q4K>;
    for (std::size_t b = 0; b + 1 < blocks.size(); ++b) {
      for (Index c = 0; c < kColumns; ++c) {
        std::vector<float> x =
            numbers<float>(moe::kSuperRows, seed + 977 * b + 31 * static_cast<std::uint64_t>(c));
        for (float& value : x) value *= size;
        moe::SuperColumn column;
        moe::encode_column(x.data(), column, Storage{});
        for (Index k = 0; k < moe::kSuperRows; ++k) {
          if (k / kBlockRows % 3 != 1 || c >= 12) continue;
          const bool low = c < 4 || (c >= 8 && (k + c) % 2 == 0);
          column.codes[k] = static_cast<std::int8_t>(low ? (kFour ? 0 : -32) : (kFour ? 15 : 31));
        }
        blocks[b].set_column(c, column);
      }
    }
  }
  Block* data() { return blocks.data(); }
  std::vector<Block> blocks;
};

template <>
struct Panel<Int8Channels> {
  using Block = StorageBlock<Int8Channels>;
  Panel(Index groups, std::uint64_t seed, float size = 1)
      : blocks(static_cast<std::size_t>(moe::panel_blocks<Int8Channels>(groups * kBlockRows)) + 1) {
    const Index rows = groups * kBlockRows;
    std::vector<float> values = numbers<float>(rows * kColumns, seed);
    for (float& value : values) value *= size;
    const float* column[kColumns];
    for (Index c = 0; c < kColumns; ++c) column[c] = values.data() + c * rows;
    moe::encode_panel(column, rows, blocks.data());
    for (Index k = 0; k < rows; ++k) {  // a quarter of the columns at the ends of the codes
      blocks[static_cast<std::size_t>(1 + k / 4)].set_code(k % 4, 3, -Block::kOffset);
      for (Index c = 4; c < 8; ++c) {
        blocks[static_cast<std::size_t>(1 + k / 4)].set_code(
            k % 4, c, (c + k) % 2 == 0 ? -Block::kOffset : Block::kLargest);
      }
    }
  }
  Block* data() { return blocks.data(); }
  std::vector<Block> blocks;
};

/// m rows of `groups` groups, the last one not full; rows 2, 5, ... are of one sign and all as large as can
/// be, which makes the largest sums.
template <class Arch, class Storage>
struct Rows {
  Rows(Index m, Index groups, std::uint64_t seed) {
    const Index count = std::max<Index>(0, groups * kBlockRows - 5);
    for (Index i = 0; i < m; ++i) {
      std::vector<float> x = numbers<float>(count, seed + static_cast<std::uint64_t>(i));
      if (i % 3 == 2) std::fill(x.begin(), x.end(), i % 2 == 0 ? 0.75f : -0.75f);
      set(i, x);
    }
  }
  void set(Index i, const std::vector<float>& x) {
    memory.resize(std::max(memory.size(), static_cast<std::size_t>(i + 1)));
    memory[static_cast<std::size_t>(i)] = prepared<Arch, Storage>(x);
    pointer.clear();
    for (const auto& row : memory) pointer.push_back(row.data());
  }
  const RowGroup<Arch, Storage>* const* from(Index i) const { return pointer.data() + i; }
  std::vector<std::vector<RowGroup<Arch, Storage>>> memory;
  std::vector<const RowGroup<Arch, Storage>*> pointer;
};

/// The sum as documented, in long double, of what the path itself reads.
template <class Group>
bool admits(float got, const std::vector<Group>& row, const StorageBlock<BFloat16>* panel, Index groups,
            Index c) {
  long double value = 0, magnitude = 0;
  for (Index k = 0; k < groups * kBlockRows; ++k) {
    const long double product =
        static_cast<long double>(number_of(row[static_cast<std::size_t>(k / kBlockRows)], k % kBlockRows)) *
        static_cast<long double>(panel[k / kBlockRows].at(k % kBlockRows, c).to_float());
    value += product;
    magnitude += std::fabs(product);
  }
  // Products of bf16 are exact, sums rounded; vdpbf16ps flushes what is subnormal.
  const auto n = static_cast<long double>(groups * kBlockRows);
  return within(got, value, gamma<float>(groups * kBlockRows + 2) * magnitude + n * kTiny<float>);
}
template <class Group, class Storage>
bool admits(float got, const std::vector<Group>& row, const StorageBlock<Storage>* panel, Index groups,
            Index c) {
  long double value = 0, magnitude = 0;
  for (Index g = 0; g < groups; ++g) {
    const auto& group = row[static_cast<std::size_t>(g)];
    int dot = 0;
    for (Index k = 0; k < kBlockRows; ++k) dot += static_cast<int>(number_of(group, k)) * panel[g].code(k, c);
    const long double term = static_cast<long double>(dot) * static_cast<long double>(group.scale) *
                             static_cast<long double>(panel[g].scale(c).to_float());
    value += term;
    magnitude += std::fabs(term);
  }
  return within(got, value, gamma<float>(groups + 2) * magnitude);
}

template <class Group>
bool admits(float got, const std::vector<Group>& row, const StorageBlock<Q4K>* panel, Index groups, Index c) {
  long double value = 0, magnitude = 0;
  for (Index g = 0; g < groups; ++g) {
    const StorageBlock<Q4K>& block = panel[g / moe::kSuperGroups];
    const Index s = g % moe::kSuperGroups;
    const auto& group = row[static_cast<std::size_t>(g)];
    int dot = 0, sum = 0;
    for (Index k = 0; k < kBlockRows; ++k) {
      dot += static_cast<int>(number_of(group, k)) * block.code(s * kBlockRows + k, c);
      sum += static_cast<int>(number_of(group, k));
    }
    const auto scale = static_cast<long double>(group.scale);
    const long double product = dot * static_cast<long double>(block.scale_of(s, c)) * scale;
    const long double shift = sum * static_cast<long double>(block.offset_of(s, c)) * scale;
    value += product - shift;
    magnitude += std::fabs(product) + std::fabs(shift);
  }
  return within(got, value, gamma<float>(groups + 4) * magnitude);
}
template <class Group>
bool admits(float got, const std::vector<Group>& row, const StorageBlock<Q6K>* panel, Index groups, Index c) {
  long double value = 0, magnitude = 0;
  for (Index h = 0; h < 2 * groups; ++h) {
    const StorageBlock<Q6K>& block = panel[h / 16];
    const auto& group = row[static_cast<std::size_t>(h / 2)];
    int dot = 0;
    for (Index k = 0; k < 16; ++k) {
      dot += static_cast<int>(number_of(group, h % 2 * 16 + k)) * block.code(h % 16 * 16 + k, c);
    }
    const long double term = static_cast<long double>(dot) * static_cast<long double>(group.scale) *
                             static_cast<long double>(block.scale_of(h % 16, c));
    value += term;
    magnitude += std::fabs(term);
  }
  return within(got, value, gamma<float>(2 * groups + 2) * magnitude);
}
template <class Cell>
bool admits(float got, const std::vector<Cell>& row, const StorageBlock<Int8Channels>* panel, Index groups,
            Index c) {
  long double dot = 0;
  for (Index k = 0; k < groups * kBlockRows; ++k) {
    dot += static_cast<long double>(
               number_of(row[static_cast<std::size_t>(1 + k / kBlockRows)], k % kBlockRows)) *
           moe::channel_code(panel, k, c);
  }
  const long double value = dot * static_cast<long double>(panel->scale(c)) *
                            static_cast<long double>(moe::impl::header_of(row[0]).scale);
  return within(got, value, gamma<float>(3) * std::fabs(value));
}

template <class Arch, class Storage>
void check_path() {
  constexpr Index kRows = kBlockTileRows<Arch, Storage>;
  for (const Index groups : kGroups) {
    Panel<Storage> panel(groups, 7), other(groups, 8);
    const Rows<Arch, Storage> rows(kRows, groups, 11);
    const Rows<reference_arch, Storage> plain(kRows, groups, 11);
    INFO("groups " << groups);

    // Every row alone: the sum of products, and the plain loop's bits where its arithmetic is the same.
    AlignedBlock<float> alone(kRows * kColumns), tile(kRows * kColumns), expected(kColumns);
    bool right = true, same = true;
    for (Index i = 0; i < kRows; ++i) {
      float* const sums = alone.data() + i * kColumns;
      moe::block_tile<Arch>(rows.from(i), 1, groups, panel.data(), sums);
      moe::block_tile<reference_arch>(plain.from(i), 1, groups, panel.data(), expected.data());
      for (Index c = 0; c < kColumns; ++c) {
        right = right && admits(sums[c], rows.memory[static_cast<std::size_t>(i)], panel.data(), groups, c);
      }
      same = same && same_bits(sums, expected.data(), kColumns);
    }
    CHECK(right);
    constexpr bool kExact = !std::is_same_v<RowGroup<Arch, Storage>, moe::impl::Bf16Group>;
    if (kExact && kScalarsRoundLikeVectors) CHECK(same);
    CHECK(alone.intact());

    // In any tile, with and without prefetch: the same bits, and not a row more.
    for (Index m = 1; m <= kRows; ++m) {
      for (Index first = 0; first + m <= kRows; ++first) {
        tile.bury(0);
        moe::block_tile<Arch>(rows.from(first), m, groups, panel.data(), tile.data());
        bool one = same_bits(tile.data(), alone.data() + first * kColumns, m * kColumns);
        one = one && tile.intact_from(m * kColumns);
        for (const Index parts : {1, 3, 40}) {
          tile.bury(0);
          moe::block_tile<Arch>(rows.from(first), m, groups, panel.data(), tile.data(),
                                {other.data(), 0, parts - 1, parts});
          one = one && same_bits(tile.data(), alone.data() + first * kColumns, m * kColumns);
        }
        INFO("m " << m << ", first " << first);
        CHECK(one);
      }
    }
  }
}

/// One row is spoilt at a time: its results are not finite, its neighbours' bits do not change.
template <class Arch, class Storage>
void check_spoilt_rows() {
  constexpr Index kRows = kBlockTileRows<Arch, Storage>;
  Panel<Storage> panel(2, 19);
  if constexpr (moe::SuperStorage<Storage>) {
    panel.blocks[0].scale[3] = {0};
  } else if constexpr (!std::is_same_v<Storage, BFloat16>) {
    panel.blocks[moe::kWholeRows<Storage> ? 0 : 1].set_scale(3, {0});
  }
  Rows<Arch, Storage> rows(kRows, 2, 23);
  AlignedBlock<float> clean(kRows * kColumns), tile(kRows * kColumns);
  moe::block_tile<Arch>(rows.from(0), kRows, 2, panel.data(), clean.data());
  const float inf = std::numeric_limits<float>::infinity();
  for (const float value : {inf, -inf, std::numeric_limits<float>::quiet_NaN()}) {
    for (Index spoilt = 0; spoilt < kRows; ++spoilt) {
      Rows<Arch, Storage> bad = rows;
      std::vector<float> x = numbers<float>(2 * kBlockRows, 29);
      x[40] = value;
      bad.set(spoilt, x);
      moe::block_tile<Arch>(bad.from(0), kRows, 2, panel.data(), tile.data());
      bool others = true, itself = true;
      for (Index i = 0; i < kRows * kColumns; ++i) {
        if (i / kColumns == spoilt) {
          itself = itself && !moe::is_finite(tile[i]);
        } else {
          others = others && same_bits(&tile[i], &clean[i], 1);
        }
      }
      CHECK(others);
      CHECK(itself);
    }
  }
}

/// Rows of zeros, and of numbers that are almost too large or too small.
template <class Arch, class Storage>
void check_extremes() {
  const float zero[kColumns] = {};
  AlignedBlock<float> tile(kColumns);
  for (const float size : {0.0f, 1e-44f, 1e-37f, 1e-30f, 1e30f, 1e35f, 3.4e38f}) {
    Rows<Arch, Storage> rows(1, 3, 37);
    std::vector<float> x = numbers<float>(3 * kBlockRows, 41);
    for (float& number : x) number *= size;
    rows.set(0, x);
    // What is large is brought back by small weights.
    Panel<Storage> panel(3, 31, size > 1e30f ? 1e-5f : 1.0f);
    moe::block_tile<Arch>(rows.from(0), 1, 3, panel.data(), tile.data());
    bool right = true;
    for (Index c = 0; c < kColumns; ++c) {
      right = right && admits(tile[c], rows.memory[0], panel.data(), 3, c);
    }
    INFO("size " << size);
    CHECK(right);
    if (size == 0) CHECK(same_bits(tile.data(), zero, kColumns));
  }
}

template <class Storage>
void check_all_paths() {
  check_path<native_arch, Storage>();
  check_spoilt_rows<native_arch, Storage>();
  check_extremes<native_arch, Storage>();
  check_path<reference_arch, Storage>();
  check_spoilt_rows<reference_arch, Storage>();
  if constexpr (kHasNarrow) {
    check_path<narrow_arch, Storage>();
    check_spoilt_rows<narrow_arch, Storage>();
    check_extremes<narrow_arch, Storage>();
  }
}

/// Every finite scale of the format, with a sum of codes of 1.
template <class Arch, class Scale>
void check_scales() {
  using Storage = Int4Groups<Scale>;
  std::vector<float> x(kBlockRows, 0.0f);
  x[0] = 127;
  const auto row = prepared<Arch, Storage>(x);
  const RowGroup<Arch, Storage>* const rows[] = {row.data()};
  Panel<Storage> panel(1, 43);
  for (Index c = 0; c < kColumns; ++c) panel.blocks[0].set_code(0, c, 1);
  AlignedBlock<float> tile(kColumns);
  int wrong = 0;
  for (int first = 0; first < 0x10000; first += kColumns) {
    for (Index c = 0; c < kColumns; ++c) {
      panel.blocks[0].set_scale(c, {static_cast<std::uint16_t>(first + c)});
    }
    moe::block_tile<Arch>(rows, 1, 1, panel.data(), tile.data());
    for (Index c = 0; c < kColumns; ++c) {
      const float scale = panel.blocks[0].scale(c).to_float();
      wrong +=
          moe::is_finite(scale) ? tile[c] != 127 * scale && 127 * scale < 3e38f : moe::is_finite(tile[c]);
    }
  }
  CHECK(wrong == 0);
}

}  // namespace

TEMPLATE_TEST_CASE("block_tile is the documented sum, its bits depend on row and column alone",
                   "[kernel][smoke][arm]", BFloat16, Int8Groups<>, Int4Groups<Float16>, Int8Channels, Q4K,
                   Q6K) {
  check_all_paths<TestType>();
}

TEST_CASE("sums of a whole column are exact up to the most inputs", "[kernel]") {
  constexpr Index kRows = moe::kMostInputs<Int8Channels>;
  std::vector<StorageBlock<Int8Channels>> panel(
      static_cast<std::size_t>(moe::panel_blocks<Int8Channels>(kRows)));
  for (Index c = 0; c < kColumns; ++c) {
    panel[0].set_scale(c, 1);
    for (Index k = 0; k < kRows; ++k) {
      // All of the least code; all of it but for a one; the largest; both by turns.
      const int code = c == 0       ? -128
                       : c == 1     ? (k == kRows / 2 ? 1 : -128)
                       : c == 2     ? 127
                       : k % 2 == 0 ? 127
                                    : -128;
      panel[static_cast<std::size_t>(1 + k / 4)].set_code(k % 4, c, code);
    }
  }
  const auto check = [&]<class Arch>(Arch) {
    const auto row =
        prepared<Arch, Int8Channels>(std::vector<float>(static_cast<std::size_t>(kRows), -127.0f));
    const RowGroup<Arch, Int8Channels>* const rows[] = {row.data()};
    AlignedBlock<float> tile(kColumns);
    moe::block_tile<Arch>(rows, 1, kRows / kBlockRows, panel.data(), tile.data());
    const double n = static_cast<double>(kRows);
    const double want[] = {127 * 128 * n, 127 * 128 * (n - 1) - 127, -127 * 127 * n, 127 * n / 2};
    for (Index c = 0; c < 4; ++c) CHECK(tile[c] == static_cast<float>(want[c]));
  };
  check(native_arch{});
  check(reference_arch{});
  if constexpr (kHasNarrow) check(narrow_arch{});
}

TEST_CASE("scales of both formats are read exactly, subnormal ones included", "[kernel]") {
  check_scales<native_arch, BFloat16>();
  check_scales<native_arch, Float16>();
}

TEST_CASE("block_tile: the tiles of a panel fetch the whole of another, and not more", "[kernel]") {
  alignas(64) static const char at[64] = {};
  for (const Index block_bytes : {2048, 1088, 576}) {
    for (const Index groups : {2, 9, 32}) {
      for (const Index passes : {1, 2, 4}) {
        for (const Index parts : {1, 3, 8}) {
          for (const Index streams : {1, 8}) {
            INFO(block_bytes << " bytes, " << groups << " groups, " << passes << " passes, " << parts
                             << " parts, " << streams << " streams");
            const Index wanted = groups * block_bytes / 64;
            std::vector<char> asked(static_cast<std::size_t>(wanted));
            Index lines = 0;
            moe::PanelFetch fetch{.at = at, .parts = parts, .streams = streams};
            for (fetch.part = 0; fetch.part < parts; ++fetch.part) {
              for (Index pass = 0; pass < passes; ++pass) {
                auto cursor = moe::impl::fetch_cursor(fetch, groups, block_bytes, pass, passes);
                for (Index step = 0; step < groups * moe::impl::kFetchSteps; ++step) {
                  cursor.step([&](const char* line) {
                    const Index i = (line - at) / 64;
                    ++lines;
                    if (i >= 0 && i < wanted) asked[static_cast<std::size_t>(i)] = 1;
                  });
                }
              }
            }
            CHECK(std::count(asked.begin(), asked.end(), 1) == wanted);
            // Shares are rounded up to lines, and steps that fill no turn of all stretches fetch on.
            CHECK(lines - wanted <= 2 * passes * parts * streams + (streams > 1 ? wanted / 8 : 0));
          }
        }
      }
    }
  }
}
