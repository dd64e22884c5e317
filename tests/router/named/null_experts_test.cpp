#include "moe/router/named/null_experts.hpp"

#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::ExpertId;
using moe::Index;
using test::near;

namespace {

auto router_of(moe::NullExpertOptions options) {
  auto router = moe::null_expert_router<double>(options);
  test::randomise(router, 12);
  return router;
}

auto identity_router(Index experts, Index nulls, Index k, double load_balance = 1) {
  auto router = moe::null_expert_router<double>(
      {.width = experts + nulls, .experts = experts, .nulls = nulls, .k = k, .load_balance = load_balance});
  test::set_parameter(router, "gate.weight", test::identity(experts + nulls));
  return router;
}

const test::RouterCases kCases{
    {"NullExpertRouter",
     [] { return moe::null_expert_router<double>({.width = 4, .experts = 3, .nulls = 3, .k = 2}); }},
    {"NullExpertRouter, losses",
     [] {
       return moe::null_expert_router<double>(
           {.width = 4, .experts = 3, .nulls = 2, .k = 3, .load_balance = 0.5, .z_loss = 0.2});
     }},
    {"NullExpertRouter, one of each",
     [] { return moe::null_expert_router<double>({.width = 4, .experts = 1, .nulls = 1, .k = 1}); }},
};

}  // namespace

TEST_CASE("null experts by hand: true experts share the weight", "[router]") {
  auto router = identity_router(2, 2, 2);
  CHECK(router.experts() == 2);
  CHECK(router.outputs() == 4);
  const auto routed =
      test::route(router, test::call_of(test::logs({{0.4, 0.1, 0.3, 0.2}, {0.1, 0.1, 0.3, 0.5}})));
  test::check_pairs(routed, 0, {0}, {1});
  test::check_pairs(routed, 1, {}, {});  // nulls only: nothing is routed
  CHECK(routed.elided == 3);
  const auto both =
      test::route(identity_router(2, 2, 3), test::call_of(test::logs({{0.4, 0.1, 0.45, 0.05}})));
  test::check_pairs(both, 0, {0, 1}, {0.8, 0.2});
}

TEST_CASE("which null is chosen does not matter", "[router]") {
  auto router = identity_router(2, 2, 2);
  auto call = test::call_of(test::logs({{0.4, 0.1, 0.3, 0.2}, {0.2, 0.5, 0.1, 0.2}, {0.3, 0.1, 0.25, 0.35}}));
  call.training = true;
  const auto routed = test::route(router, call);
  for (Index t = 0; t < 3; ++t) std::swap(call.row(t)[2], call.row(t)[3]);
  const auto swapped = test::route(router, call);
  CHECK(routed.expert == swapped.expert);
  for (Index t = 0; t < 3; ++t) {
    test::check_pairs(swapped, t, routed.experts_of(t), routed.weights_of(t));
  }
  CHECK(near(swapped.loss(), routed.loss()));
  // Not so for one token of them: its null's probability moves, but both nulls have the same mean load.
  std::swap(call.row(0)[2], call.row(0)[3]);
  CHECK(near(test::route(router, call).loss(), routed.loss()));
}

TEST_CASE("null experts agree with plain loops", "[router]") {
  const Index n = 3, m = 4, k = 3;
  auto router = router_of({.width = 4, .experts = n, .nulls = m, .k = k, .load_balance = 0.3, .z_loss = 0.1});
  auto call = test::random_call<double>(25, 4, 2);
  call.training = true;
  const auto routed = test::route(router, call);
  test::Matrix p;
  std::vector<std::vector<ExpertId>> chosen;
  Index elided = 0;
  for (const test::Vector& logit : test::linear(test::parameter(router, "gate.weight"), call)) {
    p.push_back(test::softmax(logit));
    chosen.push_back(test::best(p.back(), k));
    std::vector<ExpertId> ids;
    test::Vector weights;
    for (const ExpertId e : chosen.back()) {
      if (e >= n) continue;
      ids.push_back(e);
      weights.push_back(p.back()[static_cast<std::size_t>(e)]);
    }
    elided += k - static_cast<Index>(ids.size());
    const double sum = test::total(weights);
    for (double& w : weights) w /= sum;
    test::check_pairs(routed, static_cast<Index>(p.size()) - 1, ids, weights);
  }
  CHECK((elided > 0 && routed.pairs() > 0));
  CHECK(routed.elided == elided);
  test::Vector count = test::counts(chosen, n + m);
  double of_nulls = 0;
  for (std::size_t e = 3; e < 7; ++e) of_nulls += count[e] / 4;
  for (std::size_t e = 3; e < 7; ++e) count[e] = of_nulls;
  CHECK(near(test::loss_of(routed, "load_balance"), 0.3 * test::load_balance(count, p)));
}

TEST_CASE("the task's gradient does not reach the nulls", "[router]") {
  auto router = router_of({.width = 4, .experts = 3, .nulls = 2, .k = 3, .load_balance = 0.5, .z_loss = 0.2});
  auto call = test::random_call<double>(8, 4, 3);
  moe::NullExpertRouter<double>::Tape tape;
  test::OwnedTable<double> table(router, call.shape());
  const auto routed = test::route_train(router, call, table, tape);
  auto gradients = router.make_gradients();
  test::backward(router, call, table, tape, test::cotangents(call, routed), 1, &gradients);
  double of_true = 0;
  for (const auto& element : test::elements(router, gradients)) {
    const bool null =
        element.name.find("(3,") != std::string::npos || element.name.find("(4,") != std::string::npos;
    if (null) CHECK(std::abs(*element.gradient) <= test::kRounding);
    if (!null) of_true += std::abs(*element.gradient);
  }
  CHECK(of_true > 0.01);
}

TEST_CASE("options of null experts are checked", "[router]") {
  CHECK_THROWS_AS(moe::null_expert_router<double>({.width = 2, .experts = 0, .nulls = 1, .k = 1}),
                  moe::config_error);
  CHECK_THROWS_AS(moe::null_expert_router<double>({.width = 2, .experts = 2, .nulls = 0, .k = 1}),
                  moe::config_error);
  CHECK_THROWS_AS(moe::null_expert_router<double>({.width = 2, .experts = 2, .nulls = 2, .k = 5}),
                  moe::config_error);
}
