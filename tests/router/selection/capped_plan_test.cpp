#include "moe/router/selection/capped_plan.hpp"

#include <algorithm>
#include <bit>
#include <vector>

#include "moe/core/random.hpp"
#include "support/catch.hpp"
#include "support/plain_routing.hpp"

using moe::Index;
using Plan = moe::impl::CappedPlan;

namespace {

test::Matrix shares(Index tokens, Index outputs, std::uint64_t seed) {
  const moe::KeyedRandom draw(seed, 0, moe::DrawStream::user);
  test::Matrix all;
  for (Index t = 0; t < tokens; ++t) {
    test::Vector logit;
    for (Index e = 0; e < outputs; ++e)
      logit.push_back(draw.normal(static_cast<std::uint64_t>(t), static_cast<std::uint32_t>(e)));
    all.push_back(test::softmax(logit));
  }
  return all;
}

struct Taken {
  std::vector<Index> row, output;
  double value = 0;
};
Taken choose(const test::Matrix& score, Index capacity, Plan::Options options) {
  const auto tokens = static_cast<Index>(score.size()), n = static_cast<Index>(score[0].size());
  moe::Arena measuring;
  Plan{measuring, tokens, n};
  moe::Workspace workspace;
  moe::Arena arena = workspace.arena(measuring.bytes());
  const Plan plan(arena, tokens, n);
  Taken taken{std::vector<Index>(score.size()), std::vector<Index>(score[0].size()), 0};
  const auto at = [&](Index t, Index e) {
    return score[static_cast<std::size_t>(t)][static_cast<std::size_t>(e)];
  };
  plan.choose(0, tokens, capacity, options, at, [&](Index t, Index e) {
    ++taken.row[static_cast<std::size_t>(t)];
    ++taken.output[static_cast<std::size_t>(e)];
    taken.value += at(t, e);
  });
  return taken;
}

/// The best sum of scores with `left[e]` rows for every output and at most `cap` outputs a row, from row t.
double best_sum(const test::Matrix& score, std::vector<int>& left, int cap, std::size_t t = 0) {
  if (t == score.size())
    return std::all_of(left.begin(), left.end(), [](int l) { return l == 0; }) ? 0 : -1e9;
  double best = -1e9;
  for (unsigned subset = 0; subset < (1U << left.size()); ++subset) {
    if (std::popcount(subset) > cap) continue;
    double sum = 0;
    for (std::size_t e = 0; e < left.size(); ++e) {
      if ((subset >> e & 1U) != 0) sum += score[t][e], --left[e];
    }
    if (std::none_of(left.begin(), left.end(), [](int l) { return l < 0; }))
      best = std::max(best, sum + best_sum(score, left, cap, t + 1));
    for (std::size_t e = 0; e < left.size(); ++e) {
      if ((subset >> e & 1U) != 0) ++left[e];
    }
  }
  return best;
}

}  // namespace

TEST_CASE("no row beyond its cap, every output full", "[router]") {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    for (const Index cap : {2, 3}) {
      INFO("seed " << seed << ", cap " << cap);
      const auto taken = choose(shares(48, 8, seed), 48 / 8, {.cap = cap});
      CHECK(*std::max_element(taken.row.begin(), taken.row.end()) <= cap);
      CHECK(taken.output == std::vector<Index>(8, 6));
    }
  }
}

TEST_CASE("with iterations enough the plan is the best there is", "[router]") {
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    for (const auto& [capacity, cap] : {std::pair<int, int>{2, 1}, {3, 2}}) {
      INFO("seed " << seed << ", cap " << cap);
      const auto score = shares(6, 3, seed);
      std::vector<int> left(3, capacity);
      const double best = best_sum(score, left, cap);
      const auto taken = choose(score, capacity, {.cap = cap, .iterations = 3000});
      CHECK(taken.output == std::vector<Index>(3, capacity));
      CHECK(taken.value <= best + 1e-12);
      CHECK(taken.value >= best - 2e-3);  // lambda times the entropies of what is nearly as good
    }
  }
}

TEST_CASE("a row that several want goes where the others lose least", "[router]") {
  // One place each. Without a price of row 0, output 0 takes it, and row 1 is left with 0.1.
  const test::Matrix score{{0.9, 0.8, 0}, {0.6, 0.1, 0}, {0, 0.75, 0.7}};
  const auto taken = choose(score, 1, {.cap = 1, .lambda = 0.02, .iterations = 1000});
  CHECK(test::near(taken.value, 0.8 + 0.6 + 0.7));
}

TEST_CASE("a cap that binds nowhere takes every output's best rows", "[router]") {
  const auto score = shares(30, 4, 9);
  double best = 0;
  for (std::size_t e = 0; e < 4; ++e) {
    test::Vector column;
    for (const auto& row : score) column.push_back(row[e]);
    std::sort(column.rbegin(), column.rend());
    for (std::size_t i = 0; i < 15; ++i) best += column[i];
  }
  CHECK(test::near(choose(score, 15, {.cap = 4, .iterations = 5000}).value, best));
}

TEST_CASE("a plan with closed pairs, closed rows and more places than rows", "[router]") {
  const double closed = -std::numeric_limits<double>::infinity();
  const auto taken =
      choose({{0.9, closed, closed}, {closed, closed, closed}, {0.8, 0.2, closed}}, 5, {.cap = 2});
  CHECK(taken.row == std::vector<Index>{1, 0, 2});
  CHECK(taken.output == std::vector<Index>{2, 1, 0});
}
