#include "moe/router/kind/random.hpp"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>
#include <vector>

#include "support/router_cases.hpp"

using moe::DrawOf;
using moe::ExpertId;
using moe::Index;
using moe::RandomRouter;

namespace {

using Ids = std::vector<ExpertId>;
const test::RouterCases kCases{
    {"RandomRouter",
     [] { return RandomRouter<double>({.experts = 6, .k = 2}); },
     {.laws = {.masks = false}, .ties = false, .losses = false}},
    {"RandomRouter, one draw a call",
     [] { return RandomRouter<double>({.experts = 6, .draw = DrawOf::call}); },
     {.laws = {.masks = false}, .ties = false, .losses = false}},
};

}  // namespace

TEST_CASE("every expert, and every pair of experts, is as likely", "[router]") {
  const auto call = test::random_call<double>(15000, 0, 1);
  const auto one = test::route(RandomRouter<double>({.experts = 5}), call);
  std::map<ExpertId, Index> load;
  for (const ExpertId e : one.expert) ++load[e];
  for (ExpertId e = 0; e < 5; ++e) CHECK(std::abs(load[e] - 3000) < 250);  // deviation 49
  for (const double w : one.weight) CHECK(w == 1);

  const auto two = test::route(RandomRouter<double>({.experts = 6, .k = 2}), call);
  std::map<Ids, Index> pairs;
  for (Index t = 0; t < 15000; ++t) {
    Ids ids = two.experts_of(t);
    std::sort(ids.begin(), ids.end());
    ++pairs[ids];
  }
  CHECK(pairs.size() == 15);
  for (const auto& [ids, count] : pairs) CHECK(std::abs(count - 1000) < 160);  // deviation 31
  for (const double w : two.weight) CHECK(w == 0.5);
}

TEST_CASE("one key has one draw; another step, seed or key has another", "[router]") {
  auto call = test::random_call<double>(200, 0, 1);
  const RandomRouter<double> router({.experts = 50});
  const auto first = test::route(router, call);
  auto again = call;
  std::reverse(again.key.begin(), again.key.end());
  const auto reversed = test::route(router, again);
  for (Index t = 0; t < 200; ++t) CHECK(test::same_row(first, t, reversed, 199 - t));
  const auto same = [&](const test::Routed<double>& other) {
    Index count = 0;
    for (Index t = 0; t < 200; ++t) count += test::same_row(first, t, other, t) ? 1 : 0;
    return count;
  };
  again = call;
  ++again.step;  // the second pass of a consistency loss
  CHECK(same(test::route(router, again)) < 20);
  again = call;
  ++again.seed;
  CHECK(same(test::route(router, again)) < 20);
  std::fill(call.key.begin(), call.key.end(), 8);  // rows of one sentence
  const auto sentence = test::route(router, call);
  CHECK(std::set<ExpertId>(sentence.expert.begin(), sentence.expert.end()).size() == 1);
}

TEST_CASE("a draw of the call is one for all rows, and moves with the step", "[router]") {
  auto call = test::random_call<double>(20, 0, 1);
  const RandomRouter<double> router({.experts = 30, .draw = DrawOf::call});
  std::set<ExpertId> seen;
  for (call.step = 0; call.step < 40; ++call.step) {
    const auto routed = test::route(router, call);
    for (const ExpertId e : routed.expert) CHECK(e == routed.expert[0]);
    seen.insert(routed.expert[0]);
  }
  CHECK(seen.size() > 10);
}

TEST_CASE("with K = E the mean of all experts", "[router]") {
  auto call = test::random_call<double>(3, 0, 1);
  call.options.experts_per_token = 4;
  const auto routed = test::route(RandomRouter<double>({.experts = 4}), call);
  for (Index t = 0; t < 3; ++t) {
    Ids ids = routed.experts_of(t);
    std::sort(ids.begin(), ids.end());
    CHECK(ids == Ids{0, 1, 2, 3});
    CHECK(routed.weights_of(t) == std::vector<double>(4, 0.25));
  }
}

TEST_CASE("options of random routing are checked", "[router]") {
  CHECK_THROWS_AS(RandomRouter<double>({.experts = 0}), moe::config_error);
  CHECK_THROWS_WITH(RandomRouter<double>({.experts = 3, .k = 4}),
                    "moe: experts per token: expected a value in [1, 3], got 4");
  const RandomRouter<double> router({.experts = 3});
  auto call = test::random_call<double>(2, 0, 1);
  call.options.experts_per_token = 4;
  CHECK_THROWS_AS(test::route(router, call), moe::config_error);
  call.options = {.temperature = 2};
  CHECK_THROWS_AS(test::route(router, call), moe::config_error);
  call.options = {};
  call.mask = {0, 0, 0};
  CHECK_THROWS_WITH(test::route(router, call), "moe: logit_mask: expected none for a random router, got one");
  call.mask.clear();
  auto in = call.input();
  in.draws.reset();
  test::OwnedTable<double> table(router, call.shape());
  moe::Arena arena;
  moe::SerialExecutor serial;
  CHECK_THROWS_AS(router.route(in, *table, arena, serial), moe::config_error);
}
