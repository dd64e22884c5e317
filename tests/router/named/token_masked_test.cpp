#include "moe/router/named/token_masked.hpp"

#include <cstdint>
#include <limits>
#include <vector>

#include "moe/router/scorer/masked.hpp"
#include "moe/router/scorer/noisy.hpp"
#include "moe/router/scorer/token_mask.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

namespace {

using moe::ExpertId;
using moe::Index;
using moe::TokenMask;

/// Id 0 as often as ids 1 to 49 together.
std::vector<std::int64_t> counts() {
  std::vector<std::int64_t> all(50, 1);
  all[0] = 49;
  return all;
}
TokenMask mask(Index rare, Index frequent, double share = 0.6) {
  return TokenMask::by_frequency(counts(),
                                 {.experts = 6, .rare = rare, .frequent = frequent, .frequent_share = share});
}
const moe::TopKOptions kOptions{.width = 4, .experts = 6, .k = 2, .load_balance = 0.5, .z_loss = 0.1};

// A call's mask and the tokens' own may leave a row nothing. Which experts are open depends on the id.
const test::RouterCases kCases{
    {"TokenMaskedRouter",
     [] { return moe::token_masked_router<double>(kOptions, mask(1, 3)); },
     {.laws = {.masks = false}, .ties = false}},
    {"MaskedScorer, noisy",
     [] {
       using Scorer = moe::MaskedScorer<moe::NoisyScorer<double>, TokenMask>;
       return moe::TokenChoice<Scorer, moe::Softmax, moe::TopKSelection, moe::GatherWeighting,
                               moe::Balancing<moe::ZLoss>>(
           Scorer(moe::NoisyScorer<double>({.width = 4, .outputs = 6}), mask(2, 4)), moe::Softmax{},
           moe::TopKSelection(2), moe::GatherWeighting{}, moe::Balancing<moe::ZLoss>(moe::ZLoss(0.3)));
     },
     {.laws = {.masks = false}, .ties = false}},
};

}  // namespace

TEST_CASE("rare ids see few experts, frequent ones those and more, by seed and id alone", "[token_mask]") {
  const TokenMask few = mask(1, 3), again = mask(1, 3), more = mask(2, 5);
  Index three = 0;
  for (Index v = 0; v < 50; ++v) {
    Index open = 0;
    for (Index e = 0; e < 6; ++e) {
      open += few.sees(v, e) ? 1 : 0;
      CHECK(few.sees(v, e) == again.sees(v, e));
      CHECK((!few.sees(v, e) || more.sees(v, e)));
    }
    three += open == 3 ? 1 : 0;
    CHECK((open == 3 || open == 1));
  }
  // 0.6 * 98 tokens: id 0 has 49, ids 1 to 10 the rest.
  CHECK(three == 11);
  CHECK(few.vocabulary() == 50);
}

TEST_CASE("an id that sees one expert always goes there, with weight 1", "[token_mask]") {
  auto router = moe::token_masked_router<double>({.width = 4, .experts = 6, .k = 1}, mask(1, 6, 0));
  test::randomise(router, 2);
  for (const bool training : {false, true}) {
    for (const std::uint64_t seed : {1, 2}) {
      auto call = test::random_call<double>(30, 4, seed);
      call.training = training;
      const auto routed = test::route(router, call);
      REQUIRE(routed.pairs() == 30);
      for (std::size_t t = 0; t < 30; ++t) {
        CHECK(mask(1, 6, 0).sees(call.token_id[t], routed.expert[t]));
        CHECK(routed.weight[t] == 1);
      }
    }
  }
}

TEST_CASE("ids that see all experts are the plain router, bit for bit", "[token_mask]") {
  auto masked = moe::token_masked_router<double>(kOptions, mask(6, 6));
  auto plain = moe::softmax_top_k<double>(kOptions);
  test::randomise(masked, 2);
  test::randomise(plain, 2);
  auto call = test::random_call<double>(40, 4, 3);
  call.training = true;
  CHECK(test::same_route(test::route(masked, call), test::route(plain, call)));
  CHECK(test::same_bits(test::all_gradients(masked, call), test::all_gradients(plain, call)));
}

TEST_CASE("token masks act before the softmax, as a mask of the call does, losses included", "[token_mask]") {
  auto masked = moe::token_masked_router<double>(kOptions, mask(2, 4));
  auto plain = moe::softmax_top_k<double>(kOptions);
  test::randomise(masked, 2);
  test::randomise(plain, 2);
  auto call = test::random_call<double>(40, 4, 3);
  call.training = true;
  const auto routed = test::route(masked, call);
  const auto gradients = test::all_gradients(masked, call);
  call.mask_per_row = true;
  for (const moe::TokenId id : call.token_id) {
    for (Index e = 0; e < 6; ++e)
      call.mask.push_back(mask(2, 4).sees(id, e) ? 0 : -std::numeric_limits<double>::infinity());
  }
  CHECK(test::same_route(routed, test::route(plain, call)));
  CHECK(test::same_bits(gradients, test::all_gradients(plain, call)));
}

TEST_CASE("token masks refuse what does not fit", "[token_mask]") {
  const auto make = [](moe::TokenMaskOptions o) { return TokenMask::by_frequency(counts(), o); };
  CHECK_THROWS_WITH(make({.experts = 6, .rare = 4, .frequent = 3}),
                    "moe: experts of a rare id: expected a value in [1, 3], got 4");
  CHECK_THROWS_AS(make({.experts = 6, .rare = 0, .frequent = 3}), moe::config_error);
  CHECK_THROWS_AS(make({.experts = 6, .frequent = 7}), moe::config_error);
  CHECK_THROWS_AS(make({.experts = 6, .frequent = 3, .frequent_share = 1.1}), moe::config_error);
  CHECK_THROWS_AS(TokenMask::by_frequency({}, {.experts = 6, .frequent = 3}), moe::config_error);
  const std::vector<std::int64_t> negative{1, -1};
  CHECK_THROWS_WITH(TokenMask::by_frequency(negative, {.experts = 6, .frequent = 3}),
                    "moe: token counts: expected counts >= 0, got -1 for token id 1");
  CHECK_THROWS_WITH(moe::token_masked_router<double>({.width = 4, .experts = 5}, mask(1, 3)),
                    "moe: token mask: expected 5 experts, got 6");
  const auto router = moe::token_masked_router<double>(kOptions, mask(1, 3));
  auto call = test::random_call<double>(3, 4, 1);
  call.token_id[1] = 50;
  CHECK_THROWS_AS(test::route(router, call), moe::route_error);
  call.token_id.clear();
  CHECK_THROWS_WITH(test::route(router, call), "moe: token_id: expected 3 vocabulary ids, got none");
}
