#include "moe/router/hash_clusters.hpp"

#include <limits>
#include <vector>

#include "support/catch.hpp"

using moe::ExpertId;
using moe::Index;

namespace {

/// Three heaps of ids round (0, 0), (10, 0) and (0, 10), by turns.
const std::vector<double> kHeaps{0, 0, 10, 0, 0, 10, 1, 0, 11, 0, 1, 10, 0, 1, 10, 1, 0, 11, 1, 1};
moe::ConstMatrixView<double> heaps() {
  return {kHeaps.data(), 10, 2};
}

}  // namespace

TEST_CASE("ids with like embeddings share an expert, or are kept apart", "[router]") {
  // Some seed draws a first centre from every heap.
  bool found = false;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const auto table = moe::clustered_hash(heaps(), 3, 50, seed);
    bool alike = true, apart = true;
    for (Index v = 0; v < 10; ++v) {
      for (Index u = 0; u < 10; ++u)
        (u % 3 == v % 3 ? alike : apart) &= (table.expert(0, u) == table.expert(0, v)) == (u % 3 == v % 3);
    }
    if (!alike || !apart) continue;
    found = true;
    const auto spread = moe::dispersed_hash(heaps(), 3, {.clusters = 3, .seed = seed});
    std::vector<int> load(3, 0);
    for (Index v = 0; v < 10; ++v) {
      ++load[static_cast<std::size_t>(spread.expert(0, v))];
      for (Index u = v + 3; u < 9; u += 3) CHECK(spread.expert(0, u) != spread.expert(0, v));
    }
    for (const int ids : load) CHECK((ids == 3 || ids == 4));
  }
  CHECK(found);
}

TEST_CASE("k-means by hand, of single numbers", "[router]") {
  const std::vector<float> rows{0, 1, 2, 20, 21};
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    const auto cluster = moe::k_means(moe::ConstMatrixView<float>(rows.data(), 5, 1), {2, 50, seed});
    CHECK((cluster[0] == cluster[1] && cluster[1] == cluster[2] && cluster[3] == cluster[4]));
    CHECK(cluster[0] != cluster[3]);
  }
  // A cluster for every row; and one for all.
  const auto each = moe::k_means(moe::ConstMatrixView<float>(rows.data(), 5, 1), {.clusters = 5});
  std::vector<int> times(5, 0);
  for (const ExpertId c : each) ++times[static_cast<std::size_t>(c)];
  CHECK(times == std::vector<int>(5, 1));
  for (const ExpertId c : moe::k_means(moe::ConstMatrixView<float>(rows.data(), 5, 1), {.clusters = 1}))
    CHECK(c == 0);
}

TEST_CASE("clusters refuse what is no number of them, and rows that are not finite", "[router]") {
  CHECK_THROWS_AS(moe::clustered_hash(heaps(), 0), moe::config_error);
  CHECK_THROWS_AS(moe::clustered_hash(heaps(), 11), moe::config_error);
  CHECK_THROWS_AS(moe::clustered_hash(heaps(), 3, 0), moe::config_error);
  CHECK_THROWS_AS(moe::dispersed_hash(heaps(), 0, {.clusters = 2}), moe::config_error);
  const std::vector<double> bad{0, std::numeric_limits<double>::quiet_NaN()};
  CHECK_THROWS_WITH(moe::k_means(moe::ConstMatrixView<double>(bad.data(), 2, 1), {.clusters = 1}),
                    "moe: rows: expected finite values in row 1");
}
