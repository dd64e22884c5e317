#include "moe/router/named/uncertain.hpp"

#include <cmath>

#include "moe/router/scorer/uncertain.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::Index;

namespace {

auto router_of(moe::UncertainRouterOptions options) {
  options.width = 4;
  options.experts = 5;
  auto router = moe::uncertain_router<double>(options);
  test::randomise(router, 3);
  return router;
}

const test::RouterCases kCases{
    {"UncertainRouter", [] { return router_of({.load_balance = 0.3}); }, {.ties = false}},
    {"UncertainRouter, its limit",
     [] { return router_of({.k = 1, .passes = 0, .load_balance = 0.3}); },
     {.ties = false}},
};

/// Mean and variance (with M - 1) of the logits of M passes over row t.
struct Plain {
  double mean = 0, variance = 0;
};
Plain passes_of(const test::RouterCall<double>& call, std::size_t t, const test::Vector& w, double b,
                Index passes, double p) {
  const moe::KeyedRandom draw(call.seed, call.step, moe::DrawStream::jitter);
  test::Vector a;
  for (Index m = 0; m < passes; ++m) {
    double sum = b;
    for (std::size_t j = 0; j < 4; ++j) {
      const double u = draw.uniform(call.key[t], static_cast<std::uint32_t>(m * 4 + static_cast<Index>(j)));
      if (u >= p) sum += w[j] * call.x[t * 4 + j] / (1 - p);
    }
    a.push_back(sum);
  }
  Plain of;
  for (const double v : a) of.mean += v / static_cast<double>(passes);
  for (const double v : a) of.variance += (v - of.mean) * (v - of.mean) / static_cast<double>(passes - 1);
  return of;
}

}  // namespace

TEST_CASE("logits over their uncertainty: passes and their limit, against plain loops", "[router]") {
  for (const Index passes : {2, 6, 0}) {
    auto router = router_of({.k = 2, .dropout = 0.3, .passes = passes});
    const auto w = test::parameter(router, "gate.weight"), b = test::parameter(router, "gate.bias");
    for (const bool training : {false, true}) {
      auto call = test::random_call<double>(30, 4, 5);
      call.training = training;
      const auto routed = test::route(router, call);
      for (std::size_t t = 0; t < 30; ++t) {
        test::Vector logit;
        for (std::size_t e = 0; e < 5; ++e) {
          Plain of{b[e][0], 0};
          for (std::size_t j = 0; j < 4; ++j) {
            const double wx = w[e][j] * call.x[t * 4 + j];
            of.mean += wx;
            of.variance += 0.3 / 0.7 * wx * wx;
          }
          if (training && passes > 0) of = passes_of(call, t, w[e], b[e][0], passes, 0.3);
          logit.push_back(of.mean / std::sqrt(of.variance + 1e-6));
        }
        const auto ids = test::best(logit, 2);
        const double first = logit[static_cast<std::size_t>(ids[0])],
                     second = logit[static_cast<std::size_t>(ids[1])];
        const double share = 1 / (1 + std::exp(second - first));
        test::check_pairs(routed, static_cast<Index>(t), {ids[0], ids[1]}, {share, 1 - share});
      }
    }
  }
}

TEST_CASE("many passes tend to the limit", "[router]") {
  // The mean of 20000 passes is off by a hundredth of a deviation, their variance by a hundredth of itself.
  auto call = test::random_call<double>(4, 4, 7);
  auto router = router_of({.dropout = 0.4});
  const auto w = test::parameter(router, "gate.weight"), b = test::parameter(router, "gate.bias");
  for (std::size_t t = 0; t < 4; ++t) {
    const Plain many = passes_of(call, t, w[0], b[0][0], 20000, 0.4);
    double mean = b[0][0], variance = 0;
    for (std::size_t j = 0; j < 4; ++j) {
      const double wx = w[0][j] * call.x[t * 4 + j];
      mean += wx;
      variance += 0.4 / 0.6 * wx * wx;
    }
    CHECK(std::abs(many.mean - mean) <= 5 * std::sqrt(variance / 20000));
    CHECK(std::abs(many.variance / variance - 1) <= 0.1);
  }
}

TEST_CASE("a number that is not finite is found though every pass drops it", "[router]") {
  const auto router = router_of({.dropout = 0.9, .passes = 2});
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    auto call = test::random_call<double>(1, 4, seed);
    call.training = true;
    call.x[seed % 4] = INFINITY;
    CHECK_THROWS_AS(test::route(router, call), moe::numeric_error);
  }
}

TEST_CASE("options of an uncertain router are checked", "[router]") {
  const auto make = [](moe::UncertainScorerOptions o) {
    o.width = 3, o.outputs = 2;
    return moe::UncertainScorer<double>(o);
  };
  CHECK_THROWS_AS(make({.dropout = 0}), moe::config_error);
  CHECK_THROWS_AS(make({.dropout = 1}), moe::config_error);
  CHECK_THROWS_AS(make({.dropout = std::nan("")}), moe::config_error);
  CHECK_THROWS_AS(make({.passes = 1}), moe::config_error);
  CHECK_THROWS_AS(make({.passes = -1}), moe::config_error);
  CHECK_THROWS_AS(make({.passes = INT32_MAX}), moe::config_error);
  CHECK_THROWS_AS(make({.eps = 0}), moe::config_error);
  CHECK_THROWS_AS(make({.eps = INFINITY}), moe::config_error);
  auto router = router_of({});
  auto call = test::random_call<double>(3, 4, 5);
  call.training = true;
  auto in = call.input();
  in.draws.reset();
  CHECK_THROWS_AS(router.scorer().check_call(in), moe::config_error);
  in.training = false;
  CHECK_NOTHROW(router.scorer().check_call(in));
}
