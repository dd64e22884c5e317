#include "moe/router/named/v_moe.hpp"

#include <cmath>
#include <limits>

#include "moe/core/random.hpp"
#include "moe/router/balance/share_importance.hpp"
#include "moe/router/named/top_k.hpp"
#include "moe/router/scorer/fixed_noise.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::ExpertId;
using moe::Index;
using test::near;

namespace {

auto router_of(Index experts, Index k, double noise = 1) {
  auto router = moe::v_moe_router<double>(
      {.width = 4, .experts = experts, .k = k, .noise = noise, .importance = 0.5, .load = 0.7});
  test::randomise(router, 5);
  return router;
}

const test::RouterCases kCases{
    {"VMoeRouter", [] { return router_of(6, 2); }},
    {"VMoeRouter, much noise, k = 1", [] { return router_of(5, 1, 4); }},
    {"VMoeRouter, without noise", [] { return router_of(5, 2, 0); }},
};

}  // namespace

TEST_CASE("V-MoE's router agrees with plain loops", "[router]") {
  for (const bool training : {false, true}) {
    for (const Index k : {1, 2, 5}) {
      INFO("k = " << k << (training ? ", training" : ", inference"));
      auto router = router_of(5, k, 2);
      auto call = test::random_call<double>(12, 4, static_cast<std::uint64_t>(k));
      call.training = training;
      const auto routed = test::route(router, call);
      const test::Matrix clean = test::linear(test::parameter(router, "gate.weight"), call);
      const moe::KeyedRandom draw(call.seed, call.step, moe::DrawStream::logit_noise);
      test::Vector importance(5, 0), load(5, 0);
      for (std::size_t t = 0; t < 12; ++t) {
        test::Vector h = clean[t];
        for (std::size_t e = 0; training && e < 5; ++e)
          h[e] += 0.4 * draw.normal(call.key[t], static_cast<std::uint32_t>(e));
        const auto ids = test::best(h, k);
        const test::Vector noisy = test::softmax(h), share = test::softmax(clean[t]);
        test::Vector weights;
        for (const ExpertId e : ids) weights.push_back(noisy[static_cast<std::size_t>(e)]);
        test::check_pairs(routed, static_cast<Index>(t), ids, weights);
        const double least = h[static_cast<std::size_t>(ids.back())];
        for (std::size_t e = 0; e < 5; ++e) {
          importance[e] += share[e];
          load[e] += 0.5 * std::erfc((least - clean[t][e]) / 0.4 / std::sqrt(2.0));
        }
      }
      if (!training) continue;
      CHECK(near(test::loss_of(routed, "share_importance"), 0.5 * test::squared_variation(importance)));
      CHECK(near(test::loss_of(routed, "load"), 0.7 * test::squared_variation(load)));
    }
  }
}

TEST_CASE("without noise, and in inference, V-MoE routes as a softmax top-k", "[router]") {
  auto base = moe::softmax_top_k<double>({.width = 4, .experts = 6, .k = 2});
  test::randomise(base, 5);
  auto call = test::random_call<double>(20, 4, 3);
  CHECK(test::same_pairs(test::route(router_of(6, 2), call), test::route(base, call)));
  call.training = true;
  CHECK(!test::same_pairs(test::route(router_of(6, 2), call), test::route(base, call)));
  call.seed = 0;
  CHECK(test::same_pairs(test::route(router_of(6, 2, 0), call), test::route(base, call)));
}

TEST_CASE("the noise is of 1 / E", "[router]") {
  // Two experts with equal logits: weights are sigmoids of the difference of two draws.
  auto router = moe::v_moe_router<double>({.width = 1, .experts = 2, .k = 1});
  auto call = test::random_call<double>(2000, 1, 7);
  call.training = true;
  const auto routed = test::route(router, call);
  double squares = 0;
  for (Index t = 0; t < 2000; ++t) {
    const double w = routed.weights_of(t)[0];
    squares += std::log(w / (1 - w)) * std::log(w / (1 - w)) / 2000;
  }
  CHECK(std::abs(squares - 0.5) < 0.05);  // 2 (1 / 2)^2, standard error 0.016
}

TEST_CASE("noise that is none, and options out of range", "[router]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double bad : {-1.0, nan, std::numeric_limits<double>::infinity()})
    CHECK_THROWS_AS(router_of(4, 2, bad), moe::config_error);
  CHECK_THROWS_AS(router_of(4, 5), moe::config_error);
  CHECK_THROWS_AS(moe::v_moe_router<double>({.width = 4, .experts = 0}), moe::config_error);
  CHECK_THROWS_AS(moe::ShareImportance({.coefficient = nan}), moe::config_error);
  CHECK_THROWS_AS(moe::LoadLoss({.coefficient = nan}), moe::config_error);
  using Twice = moe::FixedNoise<moe::FixedNoise<moe::LinearScorer<double>>>;
  CHECK_THROWS_AS(Twice(moe::FixedNoise<moe::LinearScorer<double>>(
                            moe::LinearScorer<double>({.width = 2, .outputs = 2}), 0.5),
                        0.5),
                  moe::config_error);
  auto call = test::random_call<double>(3, 4, 1);
  CHECK_NOTHROW(test::route(router_of(4, 2), call));
}
