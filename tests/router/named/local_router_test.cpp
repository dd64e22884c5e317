#include "moe/router/named/local_router.hpp"

#include <cmath>

#include "moe/router/balance/locality.hpp"
#include "moe/router/scorer/block_mean.hpp"
#include "support/balance_case.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

namespace {

using moe::Index;
using moe::LocalityLoss;
using test::BalanceCase;
using test::near;

moe::LocalRouterOptions options(double bonus) {
  return {.width = 16,
          .experts = 8,
          .k = 2,
          .devices = 4,
          .bonus = bonus,
          .load_balance = 0.4,
          .locality = 0.5,
          .local_share = 0.7};
}

const test::RouterCases kCases{
    {"LocalRouter",
     [] { return moe::local_router<double>(options(0.2)); },
     {.ties = false}},  // own device first
    {"LocalRouter, no bonus", [] { return moe::local_router<double>(options(0)); }},
};

}  // namespace

TEST_CASE("logits are the means of blocks, plus the bonus on the own device, by hand", "[local_router]") {
  const auto call = [] {
    auto c = test::call_of({{1, 3, 0, 0, 5, 1, 2, 2}});
    c.columns.ints["device"] = {1};
    return c;
  }();
  const auto plain = moe::local_router<double>({.width = 8, .experts = 4, .k = 4, .devices = 2});
  test::check_pairs(test::route(plain, call), 0, {2, 0, 3, 1}, [&] {
    const auto p = test::softmax({3, 2, 2, 0});
    return test::Vector{p[0], p[1], p[2], p[3]};
  }());
  // Experts 2 and 3 are on device 1.
  const auto local =
      moe::local_router<double>({.width = 8, .experts = 4, .k = 4, .devices = 2, .bonus = 0.5});
  test::check_pairs(test::route(local, call), 0, {2, 3, 0, 1}, test::softmax({3.5, 2.5, 2, 0}));
}

TEST_CASE("there is nothing to train", "[local_router]") {
  auto router = moe::local_router<double>(options(0));
  auto none = [](const moe::Parameter<double>& p) { FAIL_CHECK("expected no parameter, got " << p.name); };
  router.visit_parameters(nullptr, none);
}

TEST_CASE("the locality loss is 0 where the local share is the one aimed at, and rises on both sides",
          "[local_router]") {
  const LocalityLoss loss({.coefficient = 2, .devices = 2, .local_share = 0.7});
  BalanceCase c(2, 4, 1);
  const std::vector<std::int32_t> device{0, 1};
  c.call.device = device;
  c.probability = {0.5, 0.3, 0.1, 0.1, 0.25, 0.15, 0.4, 0.2};  // 0.8 and 0.6
  CHECK(std::abs(c.loss(loss)) <= 1e-15);
  for (const double g : c.gradients(loss).probability) CHECK(std::abs(g) <= 1e-14);
  c.probability = {0.5, 0.4, 0, 0.1, 0.25, 0.15, 0.4, 0.2};
  CHECK(near(c.loss(loss), 2 * (0.75 * std::log(0.75 / 0.7) + 0.25 * std::log(0.25 / 0.3))));
  CHECK(c.gradients(loss).probability[0] > 0);
  test::check_array_gradient(loss, c, -1.5, &BalanceCase::probability, &BalanceCase::Gradients::probability);
  c.probability = {1, 0, 0, 0, 0, 0, 0.5, 0.5};  // all local: far from 0.7, and finite
  CHECK(near(c.loss(loss), 2 * std::log(1 / 0.7), 1e-9));
  for (const double g : c.gradients(loss).probability) CHECK(std::isfinite(g));
  c.active.fill(false);
  CHECK(c.loss(loss) == 0);
}

TEST_CASE("local routers refuse blocks that do not come out even, and calls without devices",
          "[local_router]") {
  CHECK_THROWS_WITH(moe::local_router<double>({.width = 9, .experts = 4}),
                    "moe: width: expected a multiple of the 4 outputs, got 9");
  CHECK_THROWS_WITH(moe::local_router<double>({.width = 8, .experts = 4, .devices = 3}),
                    "moe: devices: expected a divisor of the 4 outputs, got 3");
  CHECK_THROWS_AS(moe::BlockMeanScorer<double>({.width = 8, .outputs = 0}), moe::config_error);
  CHECK_THROWS_AS(moe::local_router<double>({.width = 8, .experts = 4, .bonus = std::nan("")}),
                  moe::config_error);
  CHECK_THROWS_WITH(LocalityLoss({.local_share = 1}), "moe: local share: expected a value in (0, 1), got 1");
  CHECK_THROWS_AS(LocalityLoss({.devices = 0}), moe::config_error);
  const auto router = moe::local_router<double>({.width = 8, .experts = 4, .devices = 2});
  auto call = test::random_call<double>(3, 8, 1);
  call.columns.ints["device"] = {0, 1, 2};
  CHECK_NOTHROW(test::route(router, call));  // neither a bonus nor, in inference, a loss
  call.training = true;
  CHECK_THROWS_WITH(test::route(router, call), "moe: device: expected numbers in [0, 2), got 2 for token 2");
  call.columns.ints.erase("device");
  CHECK_THROWS_WITH(test::route(router, call), "moe: device: expected 3 devices, one for each row, got none");
}
