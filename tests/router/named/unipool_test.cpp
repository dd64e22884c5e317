#include "moe/router/named/unipool.hpp"

#include <cmath>

#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

namespace {

using moe::Index;

constexpr moe::UniPoolOptions kOptions{
    .width = 4, .experts = 5, .layers = 2, .k = 2, .scale = 1.2, .pool_balance = 0.4};

/// Told a load that is not even, so that its loss has a gradient.
moe::UniPoolRouter<double> told() {
  auto router = moe::unipool_router<double>(kOptions);
  moe::RouteStats stats;
  stats.tokens = 8;
  const Index load[] = {8, 1, 3, 0, 4};
  stats.load.copy_from(load, 5);
  stats.gate_mass.assign(5, 1);
  router.on_step_end(stats);
  return router;
}

const test::RouterCases kCases{
    {"UniPoolRouter", told, {.laws = {.parameters = false}, .step = 1e-4}},
};

}  // namespace

TEST_CASE("UniPool: gates are the scores, losses those of the pool", "[router]") {
  auto router = told();
  test::randomise(router, 3);
  test::set_parameter(router, "norm.gain", {{1}});
  auto call = test::random_call<double>(12, 4, 2);
  call.training = true;
  const auto routed = test::route(router, call);
  const double share[] = {0.5, 1.0 / 16, 3.0 / 16, 0, 0.25};
  double loss = 0;
  const auto logits = test::linear(test::parameter(router, "gate.weight"), call);
  for (std::size_t t = 0; t < 12; ++t) {
    double squares = 0, sum = 0;
    for (const double l : logits[t]) squares += l * l;
    test::Vector s;
    for (const double l : logits[t]) {
      s.push_back(1.2 * std::max(l, 0.0) / (std::sqrt(squares) + 1e-6));
      sum += s.back();
    }
    const auto ids = test::best(s, 2);
    test::check_pairs(routed, static_cast<Index>(t), ids,
                      {s[static_cast<std::size_t>(ids[0])], s[static_cast<std::size_t>(ids[1])]});
    for (std::size_t e = 0; sum > 0 && e < 5; ++e) loss += 0.4 * 5 / 2 * share[e] * s[e] / sum / 12;
  }
  CHECK(test::near(test::loss_of(routed, "pool_balance"), loss));
}

TEST_CASE("UniPool: s0 is drawn where none is given; options that do not fit are refused", "[router]") {
  moe::UniPoolOptions options = kOptions;
  options.scale = 0, options.experts = 4;
  CHECK(moe::unipool_router<double>(options).score().options().scale == moe::norm_score_scale(4, 2));
  const auto refuses = [](const auto& change) {
    moe::UniPoolOptions changed = kOptions;
    change(changed);
    CHECK_THROWS_AS(moe::unipool_router<double>(changed), moe::config_error);
  };
  refuses([](auto& o) { o.width = 0; });
  refuses([](auto& o) { o.experts = 0; });
  refuses([](auto& o) { o.layers = 0; });
  refuses([](auto& o) { o.k = 6; });
  refuses([](auto& o) { o.scale = -1; });
  refuses([](auto& o) { o.scale = std::nan(""); });
  refuses([](auto& o) { o.eps = 0; });
  refuses([](auto& o) { o.pool_balance = std::nan(""); });
}
