#include "moe/router/named/bi_level.hpp"

#include <cmath>
#include <limits>

#include "moe/router/balance/local_balance.hpp"
#include "moe/router/named/switch.hpp"
#include "moe/router/scorer/bi_level.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::ExpertId;
using moe::Index;
using test::near;

namespace {

auto router_of(const moe::BiLevelOptions& options) {
  auto router = moe::bi_level_router<double>(options);
  test::randomise(router, 3, 2);
  return router;
}

const test::RouterCases kCases{
    {"BiLevelRouter",
     [] {
       return moe::bi_level_router<double>(
           {.width = 4, .experts = 6, .groups = 2, .group_balance = 0.3, .local_balance = 0.4});
     }},
    {"BiLevelRouter, one router within",
     [] {
       return moe::bi_level_router<double>({.width = 4,
                                            .experts = 6,
                                            .groups = 3,
                                            .shared = true,
                                            .group_balance = 0.3,
                                            .local_balance = 0.4});
     }},
    {"BiLevelRouter, aligned",
     [] {
       return moe::bi_level_router<double>(
           {.width = 4, .experts = 6, .groups = 2, .k = 2, .group_balance = 0.3, .alignment = 0.5});
     },
     {.step = 5e-4}},  // the alignment has kinks where probabilities cross
};

}  // namespace

TEST_CASE("two softmaxes multiplied, the group chosen first: against plain loops", "[router]") {
  for (const bool shared : {false, true}) {
    INFO("shared " << shared);
    auto router = router_of({.width = 4,
                             .experts = 6,
                             .groups = 2,
                             .shared = shared,
                             .group_balance = 0.3,
                             .local_balance = 0.7});
    auto call = test::random_call<double>(80, 4, 5);
    call.training = true;
    const auto routed = test::route(router, call);
    const auto group = test::linear(test::parameter(router, "gate.group.weight"), call);
    const auto local = test::linear(test::parameter(router, "gate.local.weight"), call);
    Index not_the_best = 0;
    test::Matrix groups, places;
    std::vector<std::vector<ExpertId>> group_choices, place_choices;
    for (std::size_t t = 0; t < 80; ++t) {
      const test::Vector p = test::softmax(group[t]);
      test::Vector product, place(3, 0);
      for (std::size_t i = 0; i < 2; ++i) {
        const auto first = local[t].begin() + static_cast<Index>(shared ? 0 : 3 * i);
        const test::Vector q = test::softmax({first, first + 3});
        for (std::size_t j = 0; j < 3; ++j) {
          product.push_back(p[i] * q[j]);
          place[j] += p[i] * q[j];
        }
      }
      CHECK(near(test::total(product), 1));
      const ExpertId i = test::best(p, 1)[0];
      const auto first_of_i = product.begin() + 3 * Index{i};
      const test::Vector within{first_of_i, first_of_i + 3};
      const ExpertId j = test::best(within, 1)[0];
      test::check_pairs(routed, static_cast<Index>(t), {3 * i + j}, {within[static_cast<std::size_t>(j)]});
      not_the_best += test::best(product, 1)[0] == 3 * i + j ? 0 : 1;
      groups.push_back(p);
      places.push_back(place);
      group_choices.push_back({i});
      place_choices.push_back({j});
    }
    CHECK((not_the_best > 0) == !shared);  // with one router within, the best product is in the best group
    CHECK(near(test::loss_of(routed, "device_balance"),
               0.3 * test::load_balance(test::counts(group_choices, 2), groups)));
    CHECK(near(test::loss_of(routed, "local_balance"),
               0.7 * test::load_balance(test::counts(place_choices, 3), places)));
  }
}

TEST_CASE("one group, or groups of one, are Switch", "[router]") {
  const auto call = test::random_call<double>(40, 4, 2);
  for (const Index groups : {1, 6}) {
    auto router = router_of({.width = 4, .experts = 6, .groups = groups});
    auto base = moe::switch_router<double>({.width = 4, .experts = 6, .jitter = 0});
    test::set_parameter(base, "gate.weight",
                        test::parameter(router, groups == 1 ? "gate.local.weight" : "gate.group.weight"));
    const auto routed = test::route(router, call), expected = test::route(base, call);
    for (Index t = 0; t < 40; ++t) {
      test::check_pairs(routed, t, expected.experts_of(t), expected.weights_of(t));
    }
  }
}

TEST_CASE("a bi-level scorer starts at zero, is initialised, and keeps bad rows to themselves", "[router]") {
  moe::BiLevelScorer<double> scorer({.width = 2, .outputs = 4, .groups = 2});
  CHECK(scorer.groups() == 2);
  double sum = 0;
  auto add = [&](const moe::Parameter<double>& p) { sum += std::abs(p.value(0, 0)); };
  scorer.visit_parameters(nullptr, add);
  CHECK(sum == 0);
  scorer.initialise(3);
  scorer.visit_parameters(nullptr, add);
  CHECK(sum > 0);
  auto router = router_of({.width = 2, .experts = 4, .groups = 2});
  router.set_non_finite(moe::NonFinite::isolate_row);
  const auto call = test::call_of({{std::numeric_limits<double>::infinity(), 1}, {1, 2}});
  const auto routed = test::route(router, call);
  CHECK(routed.spoiled == std::vector<bool>{true, false});
  CHECK(routed.pairs() == 1);
}

TEST_CASE("options of bi-level routing are checked", "[router]") {
  CHECK_THROWS_WITH(router_of({.width = 2, .experts = 4, .groups = 3}),
                    "moe: groups: expected a divisor of the 4 outputs, got 3");
  CHECK_THROWS_AS(router_of({.width = 2, .experts = 4, .groups = 0}), moe::config_error);
  CHECK_THROWS_AS(router_of({.width = 2, .experts = 4, .groups = 2, .k = 3}), moe::config_error);
  CHECK_THROWS_AS(router_of({.width = 0, .experts = 4, .groups = 2}), moe::config_error);
  CHECK_THROWS_AS(moe::LocalBalance({.groups = 0}), moe::config_error);
  CHECK_THROWS_WITH(moe::LocalBalance({.groups = 3}).check(4),
                    "moe: groups: expected a divisor of the 4 outputs, got 3");
}
