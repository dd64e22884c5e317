#include "moe/router/named/top_p.hpp"

#include <cmath>
#include <limits>

#include "moe/router/balance/entropy.hpp"
#include "moe/router/named/switch.hpp"
#include "moe/router/selection/top_p.hpp"
#include "support/balance_case.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::ExpertId;
using moe::Index;
using moe::MassRule;
using test::near;

namespace {

using Ids = std::vector<ExpertId>;

auto of_rows(moe::TopPOptions options) {
  options.width = options.experts = 4;
  auto router = moe::top_p_router<double>(options);
  test::set_parameter(router, "gate.weight", test::identity(4));
  return router;
}
const test::Matrix kRow = test::logs({{0.15, 0.5, 0.05, 0.3}});
Ids chosen(const moe::TopPOptions& options, moe::CallOptions of_call = {}) {
  auto call = test::call_of(kRow);
  call.options = of_call;
  return test::route(of_rows(options), call).experts_of(0);
}

// The first is in the cheap subset as well: [smoke].
const test::RouterCases kCases{
    {"TopPRouter",
     [] {
       return moe::top_p_router<double>(
           {.width = 4, .experts = 6, .p = 0.5, .load_balance = 0.3, .entropy = 0.4});
     },
     {.smoke = true}},
    {"TopPRouter, up to p, normalised",
     [] {
       return moe::top_p_router<double>({.width = 4,
                                         .experts = 6,
                                         .p = 0.7,
                                         .rule = MassRule::within,
                                         .weights = {.normalise = moe::Normalise::sum}});
     }},
};

}  // namespace

TEST_CASE("top-p by hand: what it takes to hold p", "[router]") {
  CHECK(chosen({.p = 0.4}) == Ids{1});
  CHECK(chosen({.p = 0.6}) == Ids{1, 3});
  CHECK(chosen({.p = 0.9}) == Ids{1, 3, 0});
  CHECK(chosen({.p = 0.9, .rule = MassRule::within}) == Ids{1, 3});  // the expert that crosses is left out
  CHECK(chosen({.p = 0.4, .rule = MassRule::within}) == Ids{1});     // never none
  CHECK(chosen({.p = 0.4}, {.p = 0.6}) == Ids{1, 3});                // p of the call
  const auto routed = test::route(of_rows({.p = 0.6}), test::call_of(kRow));
  test::check_pairs(routed, 0, {1, 3}, {0.5, 0.3});  // as they are
}

TEST_CASE("a sum that is exactly p: exceeded, reached or held within", "[router]") {
  // Halves are exact: softmax of two equal logits.
  const auto count = [](MassRule rule) {
    auto router = moe::top_p_router<double>({.width = 2, .experts = 2, .p = 0.5, .rule = rule});
    test::set_parameter(router, "gate.weight", test::identity(2));
    return test::route(router, test::call_of({{3, 3}})).pairs();
  };
  CHECK(count(MassRule::exceeds) == 2);
  CHECK(count(MassRule::reaches) == 1);
  CHECK(count(MassRule::within) == 1);
}

TEST_CASE("top-p from Switch to dense; masked experts are no part of it", "[router]") {
  auto call = test::random_call<double>(50, 4, 9);
  auto one = moe::switch_router<double>({.width = 4, .experts = 4, .jitter = 0});
  test::set_parameter(one, "gate.weight", test::identity(4));
  CHECK(test::same_pairs(test::route(of_rows({.p = 1e-9}), call), test::route(one, call)));
  CHECK(test::route(of_rows({.p = 1}), call).pairs() == 200);
  // Rounding may bring a sum of shares to 1 early, and a share may underflow: p = 1 is everybody.
  auto far = test::call_of({{0, -1e4, 0, -40}});
  CHECK(test::route(of_rows({.p = 1}), far).experts_of(0) == Ids{0, 2, 3, 1});
  far.mask = {0, 0, -std::numeric_limits<double>::infinity(), 0};
  CHECK(test::route(of_rows({.p = 1}), far).experts_of(0) == Ids{0, 3, 1});
  CHECK(test::route(of_rows({.p = 0.999}), far).experts_of(0) == Ids{0});
}

TEST_CASE("fewer experts where the entropy is lower", "[router]") {
  auto call = test::random_call<double>(200, 4, 3);
  const auto router = of_rows({.p = 0.6});
  const auto flat = test::route(router, call);
  for (double& v : call.x) v *= 4;
  CHECK(test::route(router, call).pairs() < flat.pairs());
}

TEST_CASE("the entropy loss and its gradient by hand", "[router]") {
  auto router = of_rows({.load_balance = 0, .entropy = 0.5});
  auto call = test::call_of(kRow);
  call.training = true;
  double entropy = 0;
  for (const double l : kRow[0]) entropy -= std::exp(l) * l;
  CHECK(near(test::loss_of(test::route(router, call), "entropy"), 0.5 * entropy));
  // dH / dl_i = -p_i (ln p_i + H); the identity hands it on.
  moe::TopPRouter<double>::Tape tape;
  test::OwnedTable<double> table(router, call.shape());
  const auto routed = test::route_train(router, call, table, tape);
  const auto dx = test::backward(router, call, table, tape, test::cotangents(call, routed, 0), 1, nullptr);
  for (std::size_t i = 0; i < 4; ++i) {
    const double p = std::exp(kRow[0][i]);
    CHECK(near(dx[i], -0.5 * p * (kRow[0][i] + entropy)));
  }
  test::BalanceCase none(2, 4, 1);
  none.active.fill(false);
  CHECK(none.loss(moe::EntropyLoss()) == 0);
}

TEST_CASE("options of top-p are checked", "[router]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double p : {0.0, -0.1, 1.5, nan}) CHECK_THROWS_AS(of_rows({.p = p}), moe::config_error);
  CHECK_THROWS_WITH(of_rows({.p = 2}), "moe: p: expected a share in (0, 1], got 2");
  CHECK_THROWS_WITH(chosen({}, {.p = -1}), "moe: p: expected a share in (0, 1], got -1");
  CHECK_THROWS_AS(chosen({}, {.experts_per_token = 2}), moe::config_error);
  CHECK_THROWS_AS(chosen({}, {.capacity_factor = 1}), moe::config_error);
  CHECK_THROWS_AS(chosen({}, {.threshold = 0.1}), moe::config_error);
  CHECK_THROWS_WITH(moe::TopPSelection({.least = 5}).check(4),
                    "moe: least experts per token: expected a value in [1, 4], got 5");
  CHECK_THROWS_AS(moe::TopPSelection({.least = 0}), moe::config_error);
  CHECK_THROWS_AS(of_rows({.entropy = nan}), moe::config_error);
  CHECK_THROWS_WITH(moe::EntropyLoss({.order = 0}),
                    "moe: order of the entropy: expected a value in (0, 100], got 0");
}
