#include "moe/kernel/gemm_tile.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "support/catch.hpp"
#include "support/products.hpp"

namespace {

using moe::Index;
using moe::kPanel;
using moe::native_arch;
using moe::TileStep;
using test::AlignedBlock;
using test::numbers;
using test::ProductSum;

const std::vector<Index> kDepths = {0, 1, 3, 4, 17, 31, 32, 33, 100, 1000};

/// Rows that start one number after a 64-byte boundary, `depth` numbers each and exactly as long.
template <class T>
struct Rows {
  Rows(Index count, Index depth, std::uint64_t seed) {
    for (Index i = 0; i < count; ++i) {
      memory.push_back(numbers<T>(depth + 1, seed + static_cast<std::uint64_t>(i)));
      pointer.push_back(memory.back().data() + 1);
    }
  }
  std::vector<std::vector<T>> memory;
  std::vector<const T*> pointer;
};

template <class T>
AlignedBlock<T> random_panel(Index depth, std::uint64_t seed) {
  const std::vector<T> values = numbers<T>(depth * kPanel<T>, seed);
  AlignedBlock<T> panel(depth * kPanel<T>);
  std::copy(values.begin(), values.end(), panel.data());
  return panel;
}

}  // namespace

TEMPLATE_TEST_CASE("gemm_tile is the matrix product, within gamma of the depth", "[kernel][smoke][arm]",
                   float, double) {
  using T = TestType;
  constexpr Index kRows = moe::kTileRows<native_arch, T>;
  for (const Index depth : kDepths) {
    AlignedBlock<T> panel = random_panel<T>(depth, 7);
    for (Index m = 1; m <= kRows; ++m) {
      const Rows<T> rows(m, depth, 11);
      AlignedBlock<T> tile(kRows * kPanel<T>);
      tile.bury(0);
      moe::gemm_tile<native_arch>(rows.pointer.data(), m, depth, panel.data(), tile.data());
      bool right = true;
      for (Index i = 0; i < m; ++i) {
        for (Index c = 0; c < kPanel<T>; ++c) {
          ProductSum sum;
          for (Index k = 0; k < depth; ++k) sum.add(rows.pointer[i][k], panel[k * kPanel<T> + c]);
          right = right && sum.admits(tile[i * kPanel<T> + c]);
        }
      }
      INFO("depth " << depth << ", m " << m);
      CHECK(right);
      CHECK(tile.intact_from(m * kPanel<T>));
    }
  }
}

TEMPLATE_TEST_CASE("gemm_tile: a row's bits are those of one chain of fma, whatever else is in the tile",
                   "[kernel]", float, double) {
  using T = TestType;
  constexpr Index kRows = moe::kTileRows<native_arch, T>;
  for (const Index depth : kDepths) {
    AlignedBlock<T> panel = random_panel<T>(depth, 3);
    const Rows<T> rows(kRows, depth, 5);
    AlignedBlock<T> expected(kRows * kPanel<T>), tile(kRows * kPanel<T>);
    for (Index i = 0; i < kRows; ++i) {
      moe::gemm_tile<native_arch>(rows.pointer.data() + i, 1, depth, panel.data(),
                                  expected.data() + i * kPanel<T>);
    }
    INFO("depth " << depth);
    if (test::kScalarsRoundLikeVectors) {
      for (Index i = 0; i < kRows; ++i) {
        moe::gemm_tile<moe::reference_arch>(rows.pointer.data() + i, 1, depth, panel.data(),
                                            tile.data() + i * kPanel<T>);
      }
      CHECK(test::same_bits(tile.data(), expected.data(), kRows * kPanel<T>));
    }
    for (Index m = 1; m <= kRows; ++m) {
      for (Index first = 0; first + m <= kRows; ++first) {
        moe::gemm_tile<native_arch>(rows.pointer.data() + first, m, depth, panel.data(), tile.data());
        CHECK(test::same_bits(tile.data(), expected.data() + first * kPanel<T>, m * kPanel<T>));
      }
    }
  }
}

TEMPLATE_TEST_CASE("gemm_tile: cutting the depth and prefetching change no bit", "[kernel]", float, double) {
  using T = TestType;
  constexpr Index kRows = moe::kTileRows<native_arch, T>;
  constexpr Index kDepth = 203;
  AlignedBlock<T> panel = random_panel<T>(kDepth, 13);
  AlignedBlock<T> other = random_panel<T>(kDepth, 14);
  const Rows<T> rows(kRows, kDepth, 17);
  for (Index m = 1; m <= kRows; ++m) {
    AlignedBlock<T> expected(m * kPanel<T>), tile(m * kPanel<T>);
    moe::gemm_tile<native_arch>(rows.pointer.data(), m, kDepth, panel.data(), expected.data());
    INFO("m " << m);
    for (const Index cut : {0, 1, 32, 64, 101, 203}) {
      moe::gemm_tile<native_arch>(rows.pointer.data(), m, cut, panel.data(), tile.data());
      moe::gemm_tile<native_arch>(rows.pointer.data(), m, kDepth - cut, panel.data() + cut * kPanel<T>,
                                  tile.data(), TileStep{.first = cut, .resume = true});
      CHECK(test::same_bits(tile.data(), expected.data(), m * kPanel<T>));
    }
    for (const Index parts : {1, 2, 3, 40}) {
      for (const Index pitch : {Index{4096}, Index{100000}}) {
        TileStep step;
        step.fetch = {other.data(), pitch, parts - 1, parts};
        moe::gemm_tile<native_arch>(rows.pointer.data(), m, kDepth, panel.data(), tile.data(), step);
        CHECK(test::same_bits(tile.data(), expected.data(), m * kPanel<T>));
      }
    }
    CHECK(tile.intact());
  }
}

// The lines that all passes of all tiles against a panel ask for: none left out, few twice or outside.
template <class T>
void check_fetched_lines(Index depth, Index passes, moe::PanelFetch fetch) {
  constexpr Index kBlockBytes = kPanel<T> * kPanel<T> * Index{sizeof(T)};
  const Index blocks = depth / kPanel<T>;
  std::vector<char> asked(static_cast<std::size_t>(blocks * fetch.pitch / 64 + 1));
  Index lines = 0, stray = 0;
  for (fetch.part = 0; fetch.part < fetch.parts; ++fetch.part) {
    for (Index pass = 0; pass < passes; ++pass) {
      moe::impl::PassCursor cursor(moe::impl::pass_fetch<T>(fetch, depth, pass, passes));
      for (Index block = 0; block < blocks; ++block) {
        cursor.begin_block();
        for (Index k = 0; k < kPanel<T>; k += moe::impl::kTileUnroll) {
          cursor.step([&](const char* line) {
            const Index offset = line - static_cast<const char*>(fetch.at);
            ++lines;
            const bool inside =
                offset >= 0 && offset < blocks * fetch.pitch && offset % fetch.pitch < kBlockBytes;
            stray += inside ? 0 : 1;
            if (inside) asked[static_cast<std::size_t>(offset / 64)] = 1;
          });
        }
      }
    }
  }
  const Index wanted = blocks * kBlockBytes / 64;
  // A line a part of each block or stretch, where its share is no whole number of lines.
  const Index rounded = passes * fetch.parts * std::max(blocks, fetch.streams);
  CHECK(std::count(asked.begin(), asked.end(), 1) == wanted);
  CHECK(lines - wanted <= rounded);
  CHECK(stray <= rounded);
}

TEMPLATE_TEST_CASE("gemm_tile: the tiles of a panel fetch the whole of another, and not more", "[kernel]",
                   float, double) {
  using T = TestType;
  alignas(64) static const char at[64] = {};
  constexpr Index kBlockBytes = kPanel<T> * kPanel<T> * Index{sizeof(T)};
  for (const Index depth : {kPanel<T>, 8 * kPanel<T>, 32 * kPanel<T>}) {
    for (const Index passes : {1, 2, 4}) {
      for (const Index parts : {1, 2, 3, 5, 8, 16}) {
        INFO("depth " << depth << ", passes " << passes << ", parts " << parts);
        check_fetched_lines<T>(depth, passes, {.at = at, .pitch = kBlockBytes, .parts = parts});
        check_fetched_lines<T>(depth, passes, {.at = at, .pitch = 3 * kBlockBytes, .parts = parts});
        check_fetched_lines<T>(depth, passes, {.at = at, .pitch = kBlockBytes, .parts = parts, .streams = 8});
      }
    }
  }
}

TEMPLATE_TEST_CASE("gemm_tile: one row's NaN stays in that row", "[kernel]", float, double) {
  using T = TestType;
  constexpr Index kRows = moe::kTileRows<native_arch, T>;
  constexpr Index kDepth = 33;
  AlignedBlock<T> panel = random_panel<T>(kDepth, 19);
  Rows<T> rows(kRows, kDepth, 23);
  AlignedBlock<T> clean(kRows * kPanel<T>), tile(kRows * kPanel<T>);
  moe::gemm_tile<native_arch>(rows.pointer.data(), kRows, kDepth, panel.data(), clean.data());
  for (Index spoiled = 0; spoiled < kRows; ++spoiled) {
    std::vector<T> row = rows.memory[static_cast<std::size_t>(spoiled)];
    row[20] = std::numeric_limits<T>::quiet_NaN();
    std::vector<const T*> pointer = rows.pointer;
    pointer[static_cast<std::size_t>(spoiled)] = row.data() + 1;
    moe::gemm_tile<native_arch>(pointer.data(), kRows, kDepth, panel.data(), tile.data());
    for (Index i = 0; i < kRows; ++i) {
      if (i != spoiled)
        CHECK(test::same_bits(tile.data() + i * kPanel<T>, clean.data() + i * kPanel<T>, kPanel<T>));
    }
    for (Index c = 0; c < kPanel<T>; ++c) CHECK(std::isnan(tile[spoiled * kPanel<T> + c]));
  }
}
