#include "moe/router/kind/split_ranks.hpp"

#include "moe/router/named/loss_free.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::Index;

namespace {

auto inner() {
  return moe::softmax_top_k<double>({.width = 4, .experts = 5, .k = 3, .load_balance = 0.3});
}
auto router_of(Index main) {
  moe::SplitRanks router(inner(), main);
  test::randomise(router, 3);
  return router;
}

const test::RouterCases kCases{
    {"SplitRanks of SoftmaxTopK", [] { return router_of(1); }, {.laws = {.masks = false}, .ties = false}}};

}  // namespace

TEST_CASE("lower choices are experts of the second kind, with the weights they had", "[router]") {
  auto plain = inner();
  test::randomise(plain, 3);
  const auto call = test::random_call<double>(30, 4, 5);
  const auto want = test::route(plain, call);
  for (const Index main : {0, 1, 2, 3, 7}) {
    const auto router = router_of(main);
    CHECK(router.experts() == 10);
    const auto got = test::route(router, call);
    Index wrong = 0;
    for (Index t = 0; t < 30; ++t) {
      for (Index i = 0; i < 3; ++i) {
        const auto p = static_cast<std::size_t>(3 * t + i);
        wrong += got.expert[p] != want.expert[p] + (i < main ? 0 : 5);
        wrong += got.weight[p] != want.weight[p];
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("a bias of the selection learns from both kinds together", "[router]") {
  const auto make = [] { return moe::loss_free_top_k<double>({.width = 4, .experts = 3, .k = 2}); };
  auto plain = make();
  moe::SplitRanks split(make(), 1);
  moe::RouteStats together, apart;
  together.tokens = apart.tokens = 6;
  together.load.assign(3, 0);
  together.gate_mass.assign(3, 0.0);
  apart.load.assign(6, 0);
  apart.gate_mass.assign(6, 0.0);
  const Index load[] = {4, 1, 1, 2, 1, 3};
  for (Index e = 0; e < 6; ++e) apart.load[e] = load[e], together.load[e % 3] += load[e];
  plain.on_step_end(together);
  split.on_step_end(apart);
  const auto state = [](auto& router) {
    std::vector<double> all;
    auto f = [&](const char*, auto* v, Index n) { all.insert(all.end(), v, v + n); };
    router.visit_state(f);
    return all;
  };
  CHECK(!state(plain).empty());
  CHECK(state(plain) == state(split));
  CHECK(state(plain) != std::vector<double>(state(plain).size()));
}

TEST_CASE("the number of first choices is checked", "[router]") {
  CHECK_THROWS_AS(moe::SplitRanks(inner(), -1), moe::config_error);
}
