#include "moe/router/kind/hash.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "moe/core/random.hpp"
#include "moe/router/hash_table.hpp"
#include "support/router_cases.hpp"
#include "support/router_laws.hpp"

namespace {

using moe::ExpertId;
using moe::HashRouter;
using moe::HashTable;
using moe::Index;
using test::route;

std::vector<ExpertId> row(const HashTable& table, Index hash = 0) {
  std::vector<ExpertId> ids;
  for (Index v = 0; v < table.vocabulary(); ++v) ids.push_back(table.expert(hash, v));
  return ids;
}

const test::RouterCases kCases{
    {"HashRouter",
     [] { return HashRouter<double>(HashTable::random(50, 6, 3, 3)); },
     {.laws = {.masks = false}, .ties = false, .losses = false}},
};

}  // namespace

TEST_CASE("the balanced table is greedy: counts {8, 5, 4, 3} on two experts", "[hash]") {
  const std::vector<std::int64_t> counts{8, 5, 4, 3};
  CHECK(row(HashTable::balanced(counts, 2)) == std::vector<ExpertId>{0, 1, 1, 0});  // loads 8, 5, 9, 11
  // The same counts under other ids.
  const std::vector<std::int64_t> shuffled{3, 8, 4, 5};
  CHECK(row(HashTable::balanced(shuffled, 2)) == std::vector<ExpertId>{0, 0, 1, 1});
  // Ties: lower id first, to the lower expert.
  const std::vector<std::int64_t> equal{2, 2, 2, 2};
  CHECK(row(HashTable::balanced(equal, 2)) == std::vector<ExpertId>{0, 1, 0, 1});
}

TEST_CASE("balanced loads differ by at most the largest count, in every pool", "[hash]") {
  std::vector<std::int64_t> counts;
  const moe::KeyedRandom draw(3, 0, moe::DrawStream::user);
  for (std::uint64_t v = 0; v < 500; ++v)
    counts.push_back(static_cast<std::int64_t>(1000.0 / (1 + 100 * draw.uniform(v, 0))));
  const std::int64_t largest = *std::max_element(counts.begin(), counts.end());
  const HashTable table = HashTable::balanced(counts, 12, 3, 5);
  for (Index h = 0; h < 3; ++h) {
    std::map<Index, std::int64_t> load;
    for (Index e = 4 * h; e < 4 * h + 4; ++e) load[e] = 0;
    for (Index v = 0; v < 500; ++v) {
      REQUIRE(load.count(table.expert(h, v)) == 1);  // the hash's own pool
      load[table.expert(h, v)] += counts[static_cast<std::size_t>(v)];
    }
    std::int64_t low = load.begin()->second, high = low;
    for (const auto& [e, n] : load) {
      low = std::min(low, n);
      high = std::max(high, n);
    }
    CHECK(high - low <= largest);
  }
  // Hashes differ, or several would be no better than one.
  std::vector<ExpertId> second = row(table, 1);
  for (ExpertId& e : second) e -= 4;
  CHECK(row(table, 0) != second);
  CHECK(row(HashTable::balanced(counts, 12, 3, 5), 2) == row(table, 2));
}

TEST_CASE("random tables: uniform, repeatable, one pool per hash", "[hash]") {
  const Index vocabulary = 6000;
  const HashTable table = HashTable::random(vocabulary, 6, 11, 2);
  CHECK(table.vocabulary() == vocabulary);
  CHECK(table.experts() == 6);
  CHECK(table.hashes() == 2);
  for (Index h = 0; h < 2; ++h) {
    std::map<Index, Index> load;
    for (const ExpertId e : row(table, h)) ++load[e];
    CHECK(load.size() == 3);
    for (const auto& [e, n] : load) {
      CHECK((e >= 3 * h && e < 3 * h + 3));
      CHECK(std::abs(static_cast<double>(n) - 2000) < 6 * 36.6);  // six standard deviations of a binomial
    }
  }
  CHECK(row(HashTable::random(vocabulary, 6, 11, 2), 1) == row(table, 1));
  CHECK(row(HashTable::random(vocabulary, 6, 12, 2), 1) != row(table, 1));
}

TEST_CASE("a table of the caller", "[hash]") {
  const std::vector<ExpertId> ids{0, 3, 1, /**/ 2, 0, 3};
  const HashTable table = HashTable::own(ids, 3, 4, 2);
  CHECK(row(table, 0) == std::vector<ExpertId>{0, 3, 1});
  CHECK(row(table, 1) == std::vector<ExpertId>{2, 0, 3});
}

TEST_CASE("bad tables are refused", "[hash]") {
  const auto own = [](std::vector<ExpertId> ids, Index vocabulary, Index experts, Index hashes) {
    return HashTable::own(ids, vocabulary, experts, hashes);
  };
  CHECK_THROWS_AS(own({0, 1, 0}, 2, 2, 1), moe::shape_error);
  CHECK_THROWS_WITH(own({0, 1, 2}, 3, 2, 1),
                    "moe: hash table: expected expert ids in [0, 2), got 2 for token id 2");
  CHECK_THROWS_AS(own({0, -1}, 2, 2, 1), moe::route_error);
  CHECK_THROWS_WITH(
      own({0, 1, 1, 1}, 2, 2, 2),
      "moe: hash table: expected different experts from different hashes, got 1 twice for token id 1");
  CHECK_THROWS_AS(HashTable::random(0, 2, 1), moe::config_error);
  CHECK_THROWS_AS(HashTable::random(2, 0, 1), moe::config_error);
  CHECK_THROWS_AS(HashTable::random(2, 4, 1, 5), moe::config_error);
  CHECK_THROWS_AS(HashTable::random(2, 4, 1, 3), moe::config_error);  // 3 does not divide 4
  const std::vector<std::int64_t> negative{1, -1}, none;
  CHECK_THROWS_AS(HashTable::balanced(negative, 2), moe::config_error);
  CHECK_THROWS_AS(HashTable::balanced(none, 2), moe::config_error);
}

TEST_CASE("a token id goes to the same experts wherever it stands, with weight 1", "[hash]") {
  const HashRouter<float> router(HashTable::random(50, 8, 3, 2));
  const auto call = test::random_call<float>(60, 3, 2);
  const auto routed = route(router, call);
  std::map<moe::TokenId, std::vector<ExpertId>> seen;
  for (Index t = 0; t < 60; ++t) {
    const moe::TokenId id = call.token_id[static_cast<std::size_t>(t)];
    const auto experts = routed.experts_of(t);
    CHECK(experts == std::vector<ExpertId>{router.table().expert(0, id), router.table().expert(1, id)});
    CHECK(seen.try_emplace(id, experts).first->second == experts);
    CHECK(routed.weights_of(t) == std::vector<float>{1, 1});
  }
  CHECK(seen.size() < 60);  // some id came twice
}

TEST_CASE("hash routing refuses calls it cannot serve", "[hash]") {
  HashRouter<double> router(HashTable::random(10, 4, 3, 2));
  auto call = test::random_call<double>(3, 2, 1);
  call.token_id = {1, 9, 0};
  CHECK(route(router, call).pairs() == 6);
  for (const moe::TokenId bad : {10, -1}) {
    auto wrong = call;
    wrong.token_id[1] = bad;
    CHECK_THROWS_AS(route(router, wrong), moe::route_error);
    wrong.valid.assign(3, true);  // as padding it is not looked at
    wrong.valid[1] = false;
    CHECK(route(router, wrong).pairs() == 4);
  }
  auto wrong = call;
  wrong.token_id[2] = 10;
  CHECK_THROWS_WITH(route(router, wrong), "moe: token_id: expected ids in [0, 10), got 10 for token 2");
  wrong = call;
  wrong.token_id.clear();
  CHECK_THROWS_AS(route(router, wrong), moe::config_error);
  wrong = call;
  wrong.mask.assign(4, 0);
  CHECK_THROWS_AS(route(router, wrong), moe::config_error);
  wrong = call;
  wrong.options.experts_per_token = 1;
  CHECK_THROWS_AS(route(router, wrong), moe::config_error);
  wrong.options.experts_per_token = 2;
  CHECK(route(router, wrong).pairs() == 6);
}
