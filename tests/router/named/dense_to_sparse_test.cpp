#include "moe/router/named/dense_to_sparse.hpp"

#include <cmath>
#include <limits>

#include "moe/core/random.hpp"
#include "moe/router/named/top_k.hpp"
#include "moe/router/scorer/gumbel.hpp"
#include "moe/router/scorer/noisy.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::ExpertId;
using moe::Index;

namespace {

auto router_of(moe::DenseToSparseOptions options) {
  options.width = 4;
  options.experts = 6;
  auto router = moe::dense_to_sparse_router<double>(options);
  test::randomise(router, 3);
  return router;
}

const test::RouterCases kCases{
    {"DenseToSparseRouter",
     [] { return router_of({.threshold = 0.1, .k = 2, .load_balance = 0.3}); },
     {.ties = true}},
    {"DenseToSparseRouter, at least two",
     [] { return router_of({.threshold = 0.3, .least = 2, .noise = 0.5}); }},
};

}  // namespace

TEST_CASE("a Gumbel softmax over a threshold: against plain loops", "[router]") {
  auto router = router_of({.threshold = 0.1, .k = 2, .noise = 0.8});
  auto call = test::random_call<double>(60, 4, 5);
  call.options.temperature = 0.5;
  call.training = true;
  const auto routed = test::route(router, call);
  const moe::KeyedRandom draw(call.seed, call.step, moe::DrawStream::logit_noise);
  const auto logits = test::linear(test::parameter(router, "gate.weight"), call);
  for (std::size_t t = 0; t < 60; ++t) {
    test::Vector noisy = logits[t];
    for (std::size_t e = 0; e < 6; ++e) {
      const double u = draw.uniform(call.key[t], static_cast<std::uint32_t>(e));
      noisy[e] = (noisy[e] + 0.8 * -std::log(-std::log(u))) / 0.5;
    }
    const auto p = test::softmax(noisy);
    std::vector<ExpertId> ids;
    test::Vector weights;
    for (const ExpertId e : test::best(p, 6)) {
      const double w = p[static_cast<std::size_t>(e)];
      if (w <= 0.1 && !ids.empty()) break;
      ids.push_back(e);
      weights.push_back(w);
    }
    test::check_pairs(routed, static_cast<Index>(t), ids, weights);
  }
}

TEST_CASE("inference is a top-k of the clean softmax, at the call's temperature", "[router]") {
  auto router = router_of({.k = 2});
  auto base = moe::softmax_top_k<double>({.width = 4, .experts = 6, .k = 2});
  test::set_parameter(base, "gate.weight", test::parameter(router, "gate.weight"));
  auto call = test::random_call<double>(30, 4, 5);
  call.options.temperature = 0.3;
  CHECK(test::same_pairs(test::route(router, call), test::route(base, call)));
  call.options.experts_per_token = 3;
  CHECK(test::same_pairs(test::route(router, call), test::route(base, call)));
  call.training = true;
  CHECK_THROWS_WITH(
      test::route(router, call),
      "moe: experts per token: expected none for the selection threshold, which cannot obey it, got 3");
}

TEST_CASE("from nearly all experts to one as the temperature falls", "[router]") {
  auto router = router_of({});
  auto call = test::random_call<double>(50, 4, 6);
  call.training = true;
  call.options.temperature = 20;
  CHECK(test::route(router, call).pairs() == 300);
  Index last = 300;
  for (const double temperature : {2.0, 1.0, 0.3, 0.1}) {
    call.options.temperature = temperature;
    const Index pairs = test::route(router, call).pairs();
    CHECK(pairs <= last);
    last = pairs;
  }
  call.options.temperature = 1e-6;
  CHECK(test::route(router, call).pairs() == 50);
}

TEST_CASE("noise is drawn by step, and may be off", "[router]") {
  auto call = test::random_call<double>(20, 4, 6);
  call.training = true;
  auto router = router_of({.threshold = 0.1});
  const auto first = test::route(router, call);
  CHECK(test::same_route(first, test::route(router, call)));
  ++call.step;
  CHECK(!test::same_route(first, test::route(router, call)));
  auto quiet = router_of({.threshold = 0.1, .noise = 0});
  const auto one = test::route(quiet, call);
  ++call.step;
  CHECK(test::same_route(one, test::route(quiet, call)));
}

TEST_CASE("options of dense-to-sparse routing are checked", "[router]") {
  CHECK_THROWS_AS(router_of({.k = 7}), moe::config_error);
  CHECK_THROWS_WITH(router_of({.k = 0}),
                    "moe: experts per token in inference: expected a value in [1, 2147483647], got 0");
  CHECK_THROWS_AS(router_of({.threshold = std::numeric_limits<double>::infinity()}), moe::config_error);
  CHECK_THROWS_WITH(router_of({.noise = -1}),
                    "moe: scale of the Gumbel noise: expected a finite value >= 0, got -1");
  CHECK_THROWS_WITH(moe::GumbelScorer(moe::NoisyScorer<double>({.width = 2, .outputs = 2})),
                    "moe: scorer: expected one without noise under Gumbel noise");
  auto router = router_of({});
  router.scorer().initialise(4);
  CHECK(test::parameter(router, "gate.weight")[0][0] != 0);
}
