#include "moe/analysis/search_shares.hpp"

#include <cmath>
#include <numeric>
#include <span>
#include <vector>

#include "support/catch.hpp"

using moe::Index;

namespace {

using Shares = std::span<const double>;

/// Least where blocks have these shares; rows are worth more to later blocks.
double off(Shares share) {
  double sum = 0;
  for (std::size_t b = 0; b < share.size(); ++b) {
    const double want = static_cast<double>(2 * b + 1) / static_cast<double>(2 * share.size());
    sum += (share[b] - want) * (share[b] - want);
  }
  return sum;
}
double mean(Shares share) {
  return std::accumulate(share.begin(), share.end(), 0.0) / static_cast<double>(share.size());
}

}  // namespace

TEST_CASE("every schedule that is tried keeps the mean and the least share; the best is found",
          "[analysis]") {
  const moe::SearchSharesOptions options{
      .blocks = 5, .mean = 0.5, .steps = 10, .least = 0.05, .generations = 80, .seed = 3};
  Index calls = 0;
  const moe::SearchedShares found = moe::search_shares(options, [&](Shares share) {
    ++calls;
    CHECK(std::abs(mean(share) - 0.5) <= 1e-12);
    for (const double s : share) CHECK((s >= 0.1 - 1e-12 && s <= 1));
    return off(share);
  });
  CHECK((found.tried == calls && calls == 16 + 80 * 8));
  CHECK(std::abs(found.loss - off(found.share)) <= 1e-15);
  CHECK(found.share == std::vector<double>{0.1, 0.3, 0.5, 0.7, 0.9});
  CHECK(moe::search_shares(options, off).share == found.share);
}

TEST_CASE("more generations are never worse, and none than the even schedule", "[analysis]") {
  double before = off(std::vector<double>(6, 0.5));
  for (const Index generations : {0, 3, 10}) {
    const double now = moe::search_shares({.blocks = 6, .steps = 4, .generations = generations}, off).loss;
    CHECK(now <= before);
    before = now;
  }
  const auto flat = [](Shares) { return 1.0; };
  CHECK(moe::search_shares({.blocks = 4}, flat).share == std::vector<double>(4, 0.5));
  CHECK(moe::search_shares({.blocks = 3, .mean = 1}, off).share == std::vector<double>(3, 1));
}

TEST_CASE("what a search for shares refuses", "[analysis]") {
  for (const moe::SearchSharesOptions& bad :
       std::vector<moe::SearchSharesOptions>{{.blocks = 0},
                                             {.blocks = 2, .mean = 1.1},
                                             {.blocks = 2, .mean = std::nan("")},
                                             {.blocks = 2, .steps = 0},
                                             {.blocks = 2, .least = 0.6},
                                             {.blocks = 2, .least = -0.1},
                                             {.blocks = 2, .population = 1},
                                             {.blocks = 2, .generations = -1}}) {
    CHECK_THROWS_AS(moe::search_shares(bad, off), moe::config_error);
  }
  CHECK_THROWS_AS(moe::search_shares({.blocks = 2}, [](Shares) { return std::nan(""); }), moe::numeric_error);
}
