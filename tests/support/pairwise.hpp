// Covering arrays of strength two: few rows in which every pair of values of every two factors occurs, as far
// as a row with that pair is allowed.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <set>
#include <tuple>
#include <vector>

namespace test {

using Levels = std::vector<int>;  // one level per factor

/// `sizes[f]`: number of levels of factor f. `allowed` judges complete rows. Greedy: each row is the best of
/// many random ones around an uncovered pair. Pairs in no allowed row found in `tries` draws are given up and
/// returned in `impossible`.
inline std::vector<Levels> pairwise(const std::vector<int>& sizes,
                                    const std::function<bool(const Levels&)>& allowed,
                                    std::set<std::tuple<int, int, int, int>>& impossible,
                                    std::uint64_t seed = 1, int tries = 2000) {
  using Pair = std::tuple<int, int, int, int>;  // factor, level, factor, level
  std::mt19937_64 random(seed);
  std::set<Pair> open;
  const int factors = static_cast<int>(sizes.size());
  for (int f = 0; f < factors; ++f) {
    for (int g = f + 1; g < factors; ++g) {
      for (int a = 0; a < sizes[f]; ++a) {
        for (int b = 0; b < sizes[g]; ++b) open.insert({f, a, g, b});
      }
    }
  }
  const auto gain = [&](const Levels& row) {
    int covered = 0;
    for (int f = 0; f < factors; ++f) {
      for (int g = f + 1; g < factors; ++g) covered += static_cast<int>(open.count({f, row[f], g, row[g]}));
    }
    return covered;
  };
  std::vector<Levels> rows;
  while (!open.empty()) {
    const auto [f, a, g, b] = *open.begin();
    Levels best;
    int best_gain = 0, found = 0;
    for (int i = 0; i < tries && found < 40; ++i) {
      Levels row;
      for (const int size : sizes)
        row.push_back(static_cast<int>(random() % static_cast<std::uint64_t>(size)));
      row[f] = a;
      row[g] = b;
      if (!allowed(row)) continue;
      ++found;
      if (gain(row) > best_gain) {
        best_gain = gain(row);
        best = row;
      }
    }
    if (best.empty()) {
      impossible.insert({f, a, g, b});
      open.erase({f, a, g, b});
      continue;
    }
    for (int i = 0; i < factors; ++i) {
      for (int j = i + 1; j < factors; ++j) open.erase({i, best[i], j, best[j]});
    }
    rows.push_back(best);
  }
  return rows;
}

}  // namespace test
