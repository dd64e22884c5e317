#include "moe/router/named/gshard.hpp"

#include "moe/core/random.hpp"
#include "moe/plan/capacity/fixed.hpp"
#include "moe/plan/dispatch_plan.hpp"
#include "moe/router/weighting/concept.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::ExpertId;
using moe::Index;
using test::near;

namespace {

auto router_of(moe::GShardOptions options) {
  auto router = moe::gshard_router<double>(options);
  test::randomise(router, 4);
  return router;
}

const test::RouterCases kCases{
    {"GShardRouter", [] { return moe::gshard_router<double>({.width = 4, .experts = 6}); }},
    {"GShardRouter, losses",
     [] {
       return moe::gshard_router<double>({.width = 4, .experts = 5, .load_balance = 0.4, .z_loss = 0.3});
     }},
};

}  // namespace

TEST_CASE("GShard divides by the pair's sum", "[router]") {
  auto router = moe::gshard_router<double>({.width = 3, .experts = 3});
  test::set_parameter(router, "gate.weight", test::identity(3));
  const auto routed = test::route(router, test::call_of(test::logs({{0.2, 0.5, 0.3}})));
  test::check_pairs(routed, 0, {1, 2}, {0.625, 0.375});
}

TEST_CASE("the second expert is taken at random, and what is left keeps its weight", "[router]") {
  auto router = moe::gshard_router<double>({.width = 2, .experts = 2, .load_balance = 0});
  test::set_parameter(router, "gate.weight", test::identity(2));
  const Index tokens = 4000;
  auto call = test::call_of(test::Matrix(4000, test::logs({{0.9, 0.1}})[0]));
  for (const ExpertId e : test::route(router, call).experts_of(17)) CHECK((e == 0 || e == 1));
  CHECK(test::route(router, call).pairs() == 2 * tokens);  // inference: always both
  call.training = true;
  const auto routed = test::route(router, call);
  Index second = 0;
  for (Index t = 0; t < tokens; ++t) {
    const double draw = moe::KeyedRandom(call.seed, call.step, moe::DrawStream::second_expert)
                            .uniform(call.key[static_cast<std::size_t>(t)], 0);
    second += draw < 0.2 ? 1 : 0;
    if (draw < 0.2) {
      test::check_pairs(routed, t, {0, 1}, {0.9, 0.1});
    } else {
      test::check_pairs(routed, t, {0}, {0.9});
    }
  }
  // Binomial(4000, 2 * 0.1): 800 with deviation 25.
  CHECK((second > 700 && second < 900));

  auto certain =
      moe::gshard_router<double>({.width = 2, .experts = 2, .random_second = false, .load_balance = 0});
  test::set_parameter(certain, "gate.weight", test::identity(2));
  CHECK(test::route(certain, call).pairs() == 2 * tokens);
  call = test::call_of(test::Matrix(100, test::Vector{0.3, 0.3}));  // a weight of 1/2: probability 1
  call.training = true;
  CHECK(test::route(router, call).pairs() == 200);
}

TEST_CASE("GShard's capacity: first choices of all tokens before second choices", "[router]") {
  auto router = moe::gshard_router<double>({.width = 2, .experts = 2});
  test::set_parameter(router, "gate.weight", test::identity(2));
  const auto call = test::call_of(test::Matrix(4, test::Vector{1, 0}));
  test::OwnedTable<double> table(router, call.shape());
  test::MeasuredMemory memory([&](moe::Arena& a) { router.measure(a, call.shape(), 1); });
  moe::Arena arena = memory.arena();
  moe::SerialExecutor executor;
  router.route(call.input(), *table, arena, executor);

  const moe::FixedCapacity two({.tokens_per_expert = 2});
  test::MeasuredMemory plan_memory([&](moe::Arena& a) {
    moe::DispatchPlan<double>::carve(a, 4, 2, 8);
    moe::measure_plan(a, two, 8, 2);
  });
  moe::Arena plan_arena = plan_memory.arena();
  auto plan = moe::DispatchPlan<double>::carve(plan_arena, 4, 2, 8);
  moe::build_plan(*table, two, moe::Segments{}, plan, plan_arena);
  REQUIRE(plan.slots() == 4);
  CHECK(plan.dropped_count == 4);
  for (Index e = 0; e < 2; ++e) {
    REQUIRE(plan.rows(e) == 2);
    CHECK(plan.token[plan.offsets[e]] == 0);
    CHECK(plan.token[plan.offsets[e] + 1] == 1);
  }
}

TEST_CASE("GShard agrees with plain loops; the loss counts first choices", "[router]") {
  auto router = router_of({.width = 4, .experts = 5, .load_balance = 0.3, .z_loss = 0.2});
  auto call = test::random_call<double>(20, 4, 6);
  call.training = true;
  const auto routed = test::route(router, call);
  const moe::KeyedRandom draw(call.seed, call.step, moe::DrawStream::second_expert);
  test::Matrix p;
  std::vector<std::vector<ExpertId>> chosen;
  Index dropped = 0;
  for (const test::Vector& logit : test::linear(test::parameter(router, "gate.weight"), call)) {
    const std::size_t t = p.size();
    p.push_back(test::softmax(logit));
    chosen.push_back(test::best(p[t], 2));
    const double first = p[t][static_cast<std::size_t>(chosen[t][0])],
                 second = p[t][static_cast<std::size_t>(chosen[t][1])];
    if (draw.uniform(call.key[t], 0) < 2 * second / (first + second)) {
      test::check_pairs(routed, static_cast<Index>(t), chosen[t],
                        {first / (first + second), second / (first + second)});
    } else {
      test::check_pairs(routed, static_cast<Index>(t), {chosen[t][0]}, {first / (first + second)});
      ++dropped;
    }
  }
  CHECK((dropped > 0 && dropped < 20));  // both branches were seen
  CHECK(routed.elided == 0);
  CHECK(near(test::loss_of(routed, "load_balance"), 0.3 * test::load_balance(test::counts(chosen, 5, 1), p)));
}

TEST_CASE("GShard needs two experts", "[router]") {
  CHECK_THROWS_AS(moe::gshard_router<double>({.width = 4, .experts = 1}), moe::config_error);
}
