#include "moe/router/named/flextron.hpp"

#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::Index;

namespace {

auto router_of(double noise) {
  auto router = moe::flextron_router<double>({.width = 4, .experts = 5, .hidden = 3, .noise = noise});
  test::randomise(router, 3);
  return router;
}

const test::RouterCases kCases{{"FlextronRouter", [] { return router_of(1); }, {.ties = false}}};  // biases

}  // namespace

TEST_CASE("a Flextron router: the greatest of a network's logits, weight 1, against plain loops",
          "[router]") {
  auto router = router_of(0.7);
  for (const bool training : {false, true}) {
    auto call = test::random_call<double>(40, 4, 5);
    call.training = training;
    const auto routed = test::route(router, call);
    const auto hidden = test::linear(test::parameter(router, "gate.0.weight"), call);
    const auto b0 = test::parameter(router, "gate.0.bias"), w = test::parameter(router, "gate.2.weight"),
               b2 = test::parameter(router, "gate.2.bias");
    const moe::KeyedRandom draw(call.seed, call.step, moe::DrawStream::logit_noise);
    for (std::size_t t = 0; t < 40; ++t) {
      test::Vector logit;
      for (std::size_t e = 0; e < 5; ++e) {
        double sum = b2[e][0];
        for (std::size_t h = 0; h < 3; ++h) sum += w[e][h] * std::tanh(hidden[t][h] + b0[h][0]);
        const double u = draw.uniform(call.key[t], static_cast<std::uint32_t>(e));
        logit.push_back(training ? sum - 0.7 * std::log(-std::log(u)) : sum);
      }
      test::check_pairs(routed, static_cast<Index>(t), {test::best(logit, 1)[0]}, {1.0});
    }
  }
}

TEST_CASE("options of a Flextron router are checked", "[router]") {
  CHECK_THROWS_AS(moe::flextron_router<double>({.width = 4, .experts = 0, .hidden = 3}), moe::config_error);
  CHECK_THROWS_AS(moe::flextron_router<double>({.width = 4, .experts = 2}), moe::config_error);
  CHECK_THROWS_AS(moe::flextron_router<double>({.width = 4, .experts = 2, .hidden = 3, .noise = -1}),
                  moe::config_error);
}
