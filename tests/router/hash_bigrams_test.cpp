#include "moe/router/hash_bigrams.hpp"

#include <set>
#include <vector>

#include "moe/router/kind/hash.hpp"
#include "support/catch.hpp"
#include "support/router_laws.hpp"

using moe::Index;
using moe::TokenId;

namespace {

std::vector<TokenId> keys(const std::vector<TokenId>& ids, const std::vector<Index>& offsets,
                          Index buckets = 1 << 20, std::uint64_t seed = 1) {
  std::vector<TokenId> key(ids.size());
  moe::bigram_keys(ids, moe::Segments(std::span<const Index>(offsets)), buckets, seed, key);
  return key;
}

}  // namespace

TEST_CASE("equal bigrams have equal keys, and no key reaches over a segment", "[router]") {
  const auto key = keys({7, 3, 7, 3, 3, 7, 3}, {0, 5, 5, 7});
  CHECK(key[1] == key[3]);  // 7 3
  CHECK(key[1] == key[6]);
  CHECK(key[0] == key[5]);  // begins a segment: nothing before the 7
  CHECK(key[2] != key[0]);  // 3 7
  CHECK(key[4] != key[1]);  // 3 3
  CHECK(keys({7, 3}, {0, 2}) == std::vector<TokenId>{key[0], key[1]});
  CHECK(keys({7, 3}, {0, 2}, 1 << 20, 2) != std::vector<TokenId>{key[0], key[1]});
  // An id of 0 before is not no id.
  CHECK(keys({0, 5}, {0, 2})[1] != keys({5}, {0, 1})[0]);
}

TEST_CASE("bigrams spread over the buckets, and route by a table of them", "[router]") {
  std::vector<TokenId> ids;
  for (TokenId a = 0; a < 40; ++a) {
    for (TokenId b = 0; b < 40; ++b) ids.push_back(a), ids.push_back(b);
  }
  const auto key = keys(ids, {0, static_cast<Index>(ids.size())}, 64);
  std::vector<int> count(64, 0);
  for (const TokenId k : key) {
    REQUIRE((k >= 0 && k < 64));
    ++count[static_cast<std::size_t>(k)];
  }
  for (const int c : count) CHECK(c > 0);
  const moe::HashRouter<double> router(moe::HashTable::random(64, 5, 3));
  auto call = test::random_call<double>(8, 1, 1);
  call.token_id = std::vector<TokenId>(key.begin(), key.begin() + 8);
  const auto routed = test::route(router, call);
  for (Index t = 0; t < 8; ++t)
    CHECK(routed.experts_of(t)[0] == router.table().expert(0, key[static_cast<std::size_t>(t)]));
}

TEST_CASE("bigram keys refuse other sizes", "[router]") {
  std::vector<TokenId> key(2);
  CHECK_THROWS_AS(keys({1, 2}, {0, 2}, 0), moe::config_error);
  CHECK_THROWS_AS(keys({1, 2}, {0, 1}), moe::shape_error);
  const std::vector<TokenId> three{1, 2, 3};
  CHECK_THROWS_AS(moe::bigram_keys(three, {}, 4, 1, key), moe::shape_error);
}
