#include "moe/router/named/unipool.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

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

/// Drawn to two experts, its own, while the others fade.
moe::UniPoolRouter<double> fading() {
  moe::UniPoolOptions options = kOptions;
  options.own = 2, options.cardinality = 0.7;
  auto router = moe::unipool_router<double>(options);
  moe::lock_pool<double>(router, std::vector<bool>{true, false, true, false, false}, 0.5);
  return router;
}

const test::RouterCases kCases{
    {"UniPoolRouter", told, {.laws = {.parameters = false}, .step = 1e-4}},
    {"UniPoolRouter, fading", fading, {.laws = {.parameters = false}, .step = 1e-4}},
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

TEST_CASE("UniPool-lock: others' scores fade, then nobody chooses them; the own ones keep theirs",
          "[router]") {
  auto router = told();
  test::randomise(router, 3);
  auto call = test::random_call<double>(40, 4, 2);
  call.options.experts_per_token = 5;
  const auto open = test::route(router, call);
  const std::vector<bool> own{true, false, false, true, false};
  const auto weight_of = [](const auto& routed, Index t, moe::ExpertId e) {
    const auto ids = routed.experts_of(t);
    const auto at = std::find(ids.begin(), ids.end(), e);
    return at == ids.end() ? -1 : routed.weights_of(t)[static_cast<std::size_t>(at - ids.begin())];
  };
  for (const double fade : {1.0, 0.25, 0.0}) {
    moe::lock_pool<double>(router, own, fade);
    const auto routed = test::route(router, call);
    for (Index t = 0; t < 40; ++t) {
      for (moe::ExpertId e = 0; e < 5; ++e) {
        const double before = weight_of(open, t, e), after = weight_of(routed, t, e);
        if (own[static_cast<std::size_t>(e)]) {
          CHECK(after == before);
        } else {
          CHECK(after == (fade == 0 ? -1 : fade * before));
        }
      }
    }
  }
  auto other = told();
  test::load_state(other, test::save_state(router));
  CHECK(!other.balancing().part<moe::PoolLock>().open(1));
  CHECK(other.score().factor(1) == 0);
  moe::lock_pool<double>(router, own, 1);  // and open again
  CHECK(router.balancing().part<moe::PoolLock>().open(1));
  CHECK_THROWS_AS(moe::lock_pool<double>(router, std::vector<bool>(4), 1), moe::shape_error);
  CHECK_THROWS_AS(moe::lock_pool<double>(router, std::vector<bool>(5), 0), moe::config_error);
  CHECK_THROWS_AS(moe::lock_pool<double>(router, own, 1.5), moe::config_error);
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
  refuses([](auto& o) { o.own = 6; });
  refuses([](auto& o) { o.cardinality = std::nan(""); });
}
