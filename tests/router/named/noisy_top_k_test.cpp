#include "moe/router/named/noisy_top_k.hpp"

#include "moe/core/random.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::ExpertId;
using moe::Index;
using test::near;

namespace {

auto router_of(Index experts, Index k, double importance = 0.1, double load = 0.1) {
  auto router = moe::noisy_top_k<double>(
      {.width = 4, .experts = experts, .k = k, .importance = importance, .load = load});
  test::randomise(router, 5);
  return router;
}

// In the cheap subset as well: [smoke].
const test::RouterCases kCases{
    {"NoisyTopK", [] { return router_of(6, 2, 0.5, 0.7); }, {.smoke = true}},
    {"NoisyTopK, k = 1", [] { return router_of(4, 1, 0.5, 0.7); }},
    {"NoisyTopK, k = E", [] { return router_of(4, 4, 0.5, 0.7); }},
    {"NoisyTopK, one expert", [] { return router_of(1, 1); }, {.losses = false}},
};

}  // namespace

TEST_CASE("noisy top-k agrees with plain loops", "[router]") {
  for (const bool training : {false, true}) {
    for (const Index k : {1, 3, 5}) {
      INFO("k = " << k << (training ? ", training" : ", inference"));
      auto router = router_of(5, k, 0.2, 0.3);
      auto call = test::random_call<double>(12, 4, static_cast<std::uint64_t>(k));
      call.training = training;
      const auto routed = test::route(router, call);
      const test::Matrix clean = test::linear(test::parameter(router, "gate.weight"), call);
      const test::Matrix noise = test::linear(test::parameter(router, "noise_gate.weight"), call);
      const moe::KeyedRandom draw(call.seed, call.step, moe::DrawStream::logit_noise);
      test::Vector importance(5, 0), load(5, 0);
      for (std::size_t t = 0; t < 12; ++t) {
        test::Vector h = clean[t], scale;
        for (std::size_t e = 0; e < 5; ++e) {
          scale.push_back(std::log1p(std::exp(noise[t][e])));
          if (training) h[e] += scale[e] * draw.normal(call.key[t], static_cast<std::uint32_t>(e));
        }
        const auto ids = test::best(h, k);
        test::Vector kept;
        for (const ExpertId e : ids) kept.push_back(h[static_cast<std::size_t>(e)]);
        const test::Vector weights = test::softmax(kept);
        test::check_pairs(routed, static_cast<Index>(t), ids, weights);
        for (std::size_t i = 0; i < ids.size(); ++i)
          importance[static_cast<std::size_t>(ids[i])] += weights[i];
        for (std::size_t e = 0; e < 5; ++e) {
          test::Vector others = h;
          others.erase(others.begin() + static_cast<std::ptrdiff_t>(e));
          std::sort(others.rbegin(), others.rend());
          load[e] += k == 5 ? 1.0
                            : 0.5 * std::erfc((others[static_cast<std::size_t>(k - 1)] - clean[t][e]) /
                                              (scale[e] * std::sqrt(2.0)));
        }
      }
      if (training) {
        CHECK(near(test::loss_of(routed, "importance"), 0.2 * test::squared_variation(importance)));
        CHECK(near(test::loss_of(routed, "load"), 0.3 * test::squared_variation(load)));
      } else {
        CHECK(routed.losses.empty());
      }
    }
  }
}

TEST_CASE("noise spreads the load of a router that knows nothing yet", "[router]") {
  const auto router = moe::noisy_top_k<double>({.width = 4, .experts = 4, .k = 1});
  auto call = test::random_call<double>(200, 4, 1);
  for (const ExpertId e : test::route(router, call).expert) REQUIRE(e == 0);  // ties
  call.training = true;
  const auto routed = test::route(router, call);
  std::vector<Index> load(4, 0);
  for (const ExpertId e : routed.expert) ++load[static_cast<std::size_t>(e)];
  // Each expert's count is binomial(200, 1/4): 50 with deviation 6.1; 25 and 75 are four of those away.
  for (const Index n : load) CHECK((n > 25 && n < 75));
}

TEST_CASE("options of noisy top-k are checked", "[router]") {
  CHECK_THROWS_AS(moe::noisy_top_k<double>({.width = 4, .experts = 3, .k = 4}), moe::config_error);
  CHECK_THROWS_AS(moe::noisy_top_k<double>({.width = 4, .experts = 3, .k = 0}), moe::config_error);
  CHECK_THROWS_AS(moe::noisy_top_k<double>({.width = 0, .experts = 3, .k = 1}), moe::config_error);
}
