#include "moe/router/named/reinforce.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::ExpertId;
using moe::Index;
using test::near;
using test::Vector;

namespace {

const test::RouterCases kCases{
    {"RlRRouter",
     [] {
       return moe::rl_r_router<double>({.width = 4, .experts = 5, .entropy_bonus = 0.3, .load_balance = 0.4});
     }},
};

moe::RlRRouter<double> of_rows(moe::RlROptions options, Index experts) {
  options.width = options.experts = experts;
  auto router = moe::rl_r_router<double>(options);
  test::set_parameter(router, "gate.weight", test::identity(experts));
  return router;
}

}  // namespace

TEST_CASE("REINFORCE is unbiased, whatever the value head says", "[router]") {
  const Vector logit{0.4, -0.3, 1.1}, cost{2, -1, 5}, p = test::softmax(logit);
  const auto router = of_rows({.entropy_bonus = 0, .load_balance = 0}, 3);
  double mean_cost = 0;
  for (std::size_t e = 0; e < 3; ++e) mean_cost += p[e] * cost[e];
  for (const double value : {0.0, 3.0, -20.0}) {
    auto call = test::call_of({logit});
    call.training = true;
    Vector mean(3, 0), seen(3, 0);
    // Row keys until every expert was drawn; each outcome counts by its probability.
    for (call.key[0] = 0; call.key[0] < 1000; ++call.key[0]) {
      moe::RlRRouter<double>::Tape tape;
      test::OwnedTable<double> table(router, call.shape());
      const auto routed = test::route_train(router, call, table, tape);
      const auto e = static_cast<std::size_t>(routed.expert[0]);
      REQUIRE(routed.weight[0] == 1);
      if (seen[e]++ > 0) continue;
      moe::RouteGradients<double> out;
      const std::vector<double> advantage{cost[e] - value}, dweight{100};
      Vector dx(3, 0);
      out.dweight = dweight.data();
      out.advantage = advantage;
      out.dx = moe::MatrixView<double>(dx.data(), 1, 3);
      test::MeasuredMemory memory([&](moe::Arena& a) { router.measure_backward(a, call.shape(), 1); });
      moe::Arena arena = memory.arena();
      moe::SerialExecutor serial;
      router.backward(call.input(), *table, tape, out, nullptr, arena, serial);
      for (std::size_t i = 0; i < 3; ++i) mean[i] += p[e] * dx[i];
    }
    for (std::size_t i = 0; i < 3; ++i) {
      CHECK(near(mean[i], p[i] * (cost[i] - mean_cost), 1e-11));
      CHECK(std::abs(seen[i] / 1000 - p[i]) < 5 * std::sqrt(p[i] * (1 - p[i]) / 1000));
    }
  }
}

TEST_CASE("the entropy is a bonus, smallest loss where all experts are as likely", "[router]") {
  const auto router = of_rows({.entropy_bonus = 0.5, .load_balance = 0}, 3);
  const auto loss = [&](const Vector& logit) {
    auto call = test::call_of({logit});
    call.training = true;
    return test::loss_of(test::route(router, call), "entropy");
  };
  CHECK(near(loss({1, 1, 1}), -0.5 * std::log(3)));
  CHECK(loss({1, 1, 1}) < loss({1, 1.1, 1}));
  CHECK(loss({0, 90, 0}) > -1e-12);
}

TEST_CASE("inference is greedy, and options are checked", "[router]") {
  auto call = test::call_of({{0.1, 0.7, -1}});
  test::check_pairs(test::route(of_rows({}, 3), call), 0, {1}, {1});
  for (const double bonus : {-0.1, std::nan(""), std::numeric_limits<double>::infinity()})
    CHECK_THROWS_AS(of_rows({.entropy_bonus = bonus}, 3), moe::config_error);
  CHECK_THROWS_AS(of_rows({.load_balance = std::nan("")}, 3), moe::config_error);
}
