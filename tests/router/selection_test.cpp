#include "moe/router/selection/concept.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <set>
#include <vector>

#include "moe/core/random.hpp"
#include "moe/router/selection/group_limited.hpp"
#include "moe/router/selection/positive.hpp"
#include "moe/router/selection/top_k.hpp"
#include "support/catch.hpp"
#include "support/one_row.hpp"

namespace {

using moe::ExpertId;
using moe::GroupLimitedSelection;
using moe::GroupScore;
using moe::Index;
constexpr double kMasked = -std::numeric_limits<double>::infinity();

using Ids = std::vector<ExpertId>;

template <class S>
Ids select(const S& selection, std::vector<double> choice, moe::CallOptions options = {}) {
  const auto n = static_cast<Index>(choice.size());
  moe::RouterInput<double> call;
  call.options = options;
  Ids ids(static_cast<std::size_t>(selection.most(options, n)), -1);
  const Index count =
      selection.select(test::one_row<double>(call, nullptr, nullptr, n), choice.data(), ids.data());
  REQUIRE(count <= static_cast<Index>(ids.size()));
  ids.resize(static_cast<std::size_t>(count));
  return ids;
}

/// Ids of the candidates by falling score, ties by id.
Ids ranked(const std::vector<double>& choice, Ids candidates) {
  std::sort(candidates.begin(), candidates.end(), [&](ExpertId a, ExpertId b) {
    const double of_a = choice[static_cast<std::size_t>(a)], of_b = choice[static_cast<std::size_t>(b)];
    return of_a != of_b ? of_a > of_b : a < b;
  });
  return candidates;
}

/// Group-limited choice by the words of its definition: rank every group's open experts, rank the groups,
/// rank what is left.
Ids naive_group_limited(const std::vector<double>& choice, const GroupLimitedSelection::Options& o) {
  const std::size_t size = choice.size() / static_cast<std::size_t>(o.groups);
  std::vector<double> group_score;
  std::vector<Ids> members;
  for (std::size_t g = 0; g < static_cast<std::size_t>(o.groups); ++g) {
    Ids open;
    for (std::size_t e = g * size; e < (g + 1) * size; ++e) {
      if (choice[e] > kMasked) open.push_back(static_cast<ExpertId>(e));
    }
    open = ranked(choice, open);
    const std::size_t counted = o.score == GroupScore::highest ? 1 : 2;
    double sum = open.empty() ? kMasked : 0;
    for (std::size_t i = 0; i < std::min(counted, open.size()); ++i)
      sum += choice[static_cast<std::size_t>(open[i])];
    group_score.push_back(sum);
    members.push_back(open);
  }
  Ids groups(static_cast<std::size_t>(o.groups));
  std::iota(groups.begin(), groups.end(), 0);
  groups = ranked(group_score, groups);
  std::set<ExpertId> candidates;
  for (std::size_t i = 0; i < static_cast<std::size_t>(o.kept); ++i) {
    const Ids& of = members[static_cast<std::size_t>(groups[i])];
    candidates.insert(of.begin(), of.end());
  }
  Ids best = ranked(choice, Ids(candidates.begin(), candidates.end()));
  best.resize(std::min(best.size(), static_cast<std::size_t>(o.k)));
  return best;
}

/// Random scores with many ties and about a third masked.
std::vector<double> random_choice(Index n, std::uint64_t seed) {
  const moe::KeyedRandom draw(seed, 0, moe::DrawStream::user);
  std::vector<double> choice;
  for (Index i = 0; i < n; ++i) {
    const auto row = static_cast<std::uint64_t>(i);
    const double tied = static_cast<double>(draw.bits(row, 0) % 5) / 4 - 0.5;
    const double value = draw.bits(seed, 1) % 2 == 0 ? tied : draw.normal(row, 2);
    choice.push_back(draw.uniform(row, 3) < 0.3 * static_cast<double>(seed % 3) ? kMasked : value);
  }
  return choice;
}

}  // namespace

TEST_CASE("top-k takes the k highest, ties to the lower id, masked ones never", "[selection]") {
  STATIC_REQUIRE(moe::Selection<moe::TopKSelection>);
  const moe::TopKSelection two(2);
  CHECK(select(two, {0.1, 0.7, 0.3, 0.5}) == Ids{1, 3});
  CHECK(select(two, {0.5, 0.5, 0.5}) == Ids{0, 1});
  CHECK(select(two, {0.1, 0.7, 0.3, 0.5}, {.experts_per_token = 3}) == Ids{1, 3, 2});  // K of the call
  CHECK(select(two, {0.1, 0.7, 0.3}, {.experts_per_token = 3}) == Ids{1, 2, 0});       // K = E
  CHECK(select(two, {kMasked, -4.0, kMasked}) == Ids{1});
  CHECK(select(two, {kMasked, kMasked}) == Ids{});
}

TEST_CASE("top-k matches a full sort", "[selection]") {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const Index n = 1 + static_cast<Index>(seed % 23);
    const Index k = 1 + static_cast<Index>(seed * 7 % static_cast<std::uint64_t>(n));
    const std::vector<double> choice = random_choice(n, seed);
    Ids open;
    for (Index e = 0; e < n; ++e) {
      if (choice[static_cast<std::size_t>(e)] > kMasked) open.push_back(static_cast<ExpertId>(e));
    }
    open = ranked(choice, open);
    open.resize(std::min(open.size(), static_cast<std::size_t>(k)));
    INFO("seed " << seed << ", n = " << n << ", k = " << k);
    CHECK(select(moe::TopKSelection(k), choice) == open);
  }
}

TEST_CASE("top-k refuses a K that does not fit", "[selection]") {
  CHECK_THROWS_AS(moe::TopKSelection(0), moe::config_error);
  CHECK_THROWS_AS(moe::TopKSelection(3).most({.experts_per_token = 0}, 2), moe::config_error);
  CHECK_THROWS_AS(moe::TopKSelection(2).most({.experts_per_token = -1}, 8), moe::config_error);
  CHECK_THROWS_WITH(moe::TopKSelection(2).most({.experts_per_token = 9}, 8),
                    "moe: experts per token: expected K in [1, 8] (the router's outputs), got 9");
  CHECK(moe::TopKSelection(2).most({.experts_per_token = 8}, 8) == 8);
}

TEST_CASE("group-limited choice: hand examples", "[selection]") {
  STATIC_REQUIRE(moe::Selection<GroupLimitedSelection>);
  // Best expert alone: groups {0, 1} and {4, 5}. Two best: {2, 3} (1.4) before {0, 1} (1.0) before {4, 5}
  // (0.9).
  const std::vector<double> choice{0.9, 0.1, 0.7, 0.7, 0.8, 0.1};
  CHECK(select(GroupLimitedSelection({.k = 3, .groups = 3, .kept = 2, .score = GroupScore::highest}),
               choice) == Ids{0, 4, 1});
  CHECK(select(GroupLimitedSelection({.k = 3, .groups = 3, .kept = 2, .score = GroupScore::top_two_sum}),
               choice) == Ids{0, 2, 3});
  // Equal groups: the lower ones stay.
  CHECK(select(GroupLimitedSelection({.k = 2, .groups = 2, .kept = 1}), {0.5, 0.5, 0.5, 0.5}) == Ids{0, 1});
  // Negative scores are chosen too: what is outside the kept groups is masked, not set to 0.
  CHECK(select(GroupLimitedSelection({.k = 2, .groups = 2, .kept = 1}), {-3.0, -1.0, -2.0, -2.0}) ==
        Ids{1, 0});
}

TEST_CASE("a group with one open expert stays ahead of groups with none", "[selection]") {
  const GroupLimitedSelection one_group({.k = 1, .groups = 3, .kept = 1, .score = GroupScore::top_two_sum});
  CHECK(select(one_group, {kMasked, kMasked, kMasked, kMasked, kMasked, -0.25}) == Ids{5});
}

TEST_CASE("group-limited choice matches brute force", "[selection]") {
  int shorter = 0;
  for (std::uint64_t seed = 0; seed < 600; ++seed) {
    GroupLimitedSelection::Options o;
    o.groups = 1 + static_cast<Index>(seed % 7);
    o.kept = 1 + static_cast<Index>(seed / 7 % static_cast<std::uint64_t>(o.groups));
    const Index size = 1 + static_cast<Index>(seed % 4);
    o.k = 1 + static_cast<Index>(seed / 3 % static_cast<std::uint64_t>(size * o.kept));
    o.score = seed % 2 == 0 ? GroupScore::highest : GroupScore::top_two_sum;
    const std::vector<double> choice = random_choice(size * o.groups, seed);
    INFO("seed " << seed << ", " << o.groups << " groups of " << size << ", kept " << o.kept
                 << ", k = " << o.k);
    const Ids ids = select(GroupLimitedSelection(o), choice);
    CHECK(ids == naive_group_limited(choice, o));
    shorter += static_cast<Index>(ids.size()) < o.k ? 1 : 0;
    std::set<Index> reached;
    for (const ExpertId e : ids) reached.insert(e / size);
    CHECK(static_cast<Index>(reached.size()) <= o.kept);
  }
  CHECK(shorter > 20);  // masks really were in play
}

TEST_CASE("one group is plain top-k", "[selection]") {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const std::vector<double> choice = random_choice(12, seed);
    CHECK(select(GroupLimitedSelection({.k = 5, .groups = 1, .kept = 1}), choice) ==
          select(moe::TopKSelection(5), choice));
  }
}

TEST_CASE("group-limited choice refuses what does not fit", "[selection]") {
  CHECK_THROWS_AS(GroupLimitedSelection({.k = 1, .groups = 0, .kept = 1}), moe::config_error);
  CHECK_THROWS_AS(GroupLimitedSelection({.k = 1, .groups = 257, .kept = 1}), moe::config_error);
  CHECK_THROWS_AS(GroupLimitedSelection({.k = 1, .groups = 2, .kept = 3}), moe::config_error);
  CHECK_THROWS_AS(GroupLimitedSelection({.k = 0, .groups = 2, .kept = 1}), moe::config_error);
  const GroupLimitedSelection four({.k = 4, .groups = 4, .kept = 2});
  CHECK(four.most({.experts_per_token = 0}, 8) == 4);
  CHECK(four.most({.experts_per_token = 2}, 8) == 2);
  CHECK_THROWS_WITH(four.most({.experts_per_token = 0}, 10),
                    "moe: groups: expected a divisor of the 10 outputs, got 4");
  CHECK_THROWS_WITH(four.most({.experts_per_token = 5}, 8),
                    "moe: experts per token: expected K in [1, 4] (experts of the kept groups), got 5");
}

TEST_CASE("positive selection takes what is above 0, highest first", "[selection]") {
  STATIC_REQUIRE(moe::Selection<moe::PositiveSelection>);
  const moe::PositiveSelection positive;
  CHECK(select(positive, {0.0, 0.5, -1.0, 2.0, 0.5, kMasked}) == Ids{3, 1, 4});
  CHECK(select(positive, {0.0, -0.0, kMasked}) == Ids{});
  CHECK(select(positive, {1.0, 1.0}) == Ids{0, 1});
  CHECK(select(positive, {0.2, 0.5, -1.0, 2.0, 0.4, kMasked}, {.threshold = 0.4}) == Ids{3, 1});
  CHECK(positive.most({}, 7) == 7);
  CHECK_THROWS_AS(positive.most({.experts_per_token = 2}, 7), moe::config_error);
  CHECK_THROWS_AS(positive.most({.p = 0.5}, 7), moe::config_error);
  CHECK_THROWS_WITH(moe::TopKSelection(2).most({.threshold = 0.5}, 7),
                    "moe: threshold: expected none for the selection top_k, which cannot obey it, got 0.5");
}
