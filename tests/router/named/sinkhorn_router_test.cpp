#include "moe/router/named/sinkhorn_router.hpp"

#include <cmath>
#include <limits>

#include "moe/router/named/top_k.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::Coupling;
using moe::ExpertId;
using moe::Index;
using moe::PlanWeights;
using test::near;

namespace {

template <class R>
R of_rows(R router) {
  test::set_parameter(router, "gate.weight", test::identity(router.experts()));
  return router;
}
auto selective(double probability, PlanWeights weights = PlanWeights::plan, double noise = 0, Index k = 2,
               Index experts = 4) {
  return of_rows(moe::selective_sinkhorn<double>({.width = experts,
                                                  .experts = experts,
                                                  .k = k,
                                                  .probability = probability,
                                                  .noise = noise,
                                                  .weights = weights}));
}
test::RouterCall<double> training(test::RouterCall<double> call) {
  call.training = true;
  return call;
}
test::RouterCall<double> crowded(Index tokens, Index experts) {  // all prefer expert 0, then 1
  auto call = training(test::random_call<double>(tokens, experts, 3));
  for (Index t = 0; t < tokens; ++t) call.row(t)[0] += 4, call.row(t)[1] += 2;
  return call;
}

// Iterations without a tolerance: their number would jump.
const test::RouterCases kCases{
    {"SinkhornRouter",
     [] { return moe::sinkhorn_router<double>({.width = 4, .experts = 6, .k = 2}); },
     {.step = 1e-4}},
    {"SinkhornBaseRouter",
     [] { return moe::sinkhorn_base_router<double>({.width = 4, .experts = 3}); },
     {.step = 1e-4}},
    {"SinkhornRouter, weights of the unrolled plan",
     [] {
       return moe::sinkhorn_router<double>({.width = 4,
                                            .experts = 5,
                                            .k = 2,
                                            .tolerance = 0,
                                            .iterations = 4,
                                            .weights = PlanWeights::plan_unrolled});
     },
     {.step = 1e-3}},
    {"SelectiveSinkhornRouter, unrolled",
     [] {
       return moe::selective_sinkhorn<double>({.width = 4,
                                               .experts = 5,
                                               .probability = 1,
                                               .tolerance = 0,
                                               .iterations = 5,
                                               .noise = 0.1,
                                               .weights = PlanWeights::plan_unrolled});
     },
     {.step = 1e-3}},
    {"SelectiveSinkhornRouter, weights of the plan",
     [] { return moe::selective_sinkhorn<float>({.width = 4, .experts = 5, .probability = 1}); }},
    {"SelectiveSinkhornRouter, softmax weights",
     [] {
       return moe::selective_sinkhorn<double>(
           {.width = 4, .experts = 5, .probability = 0.5, .weights = PlanWeights::scores});
     },
     {.step = 1e-4}},
};

}  // namespace

TEST_CASE("a plan gives every expert the same share of the batch, whatever all rows prefer", "[router]") {
  auto router = of_rows(moe::sinkhorn_router<double>(
      {.width = 4, .experts = 4, .k = 4, .tolerance = 1e-6, .weights = PlanWeights::plan}));
  auto call = crowded(24, 4);
  call.valid.assign(24, true);
  call.valid[3] = call.valid[9] = false;  // padding has no share
  const auto routed = test::route(router, call);
  for (Index e = 0; e < 4; ++e) {
    double sum = 0;
    for (Index t = 0; t < 24; ++t) sum += routed.weight_of(t, e);
    CHECK(near(sum, 22.0 / 4, 1e-6));
  }
  for (Index t = 0; t < 24; ++t) {
    double sum = 0;
    for (const double w : routed.weights_of(t)) sum += w;
    CHECK(near(sum, call.valid[t] ? 1.0 : 0.0));
  }
}

TEST_CASE("the plan chooses, softmax or sigmoid of the logits weighs", "[router]") {
  const auto call = crowded(24, 4);
  const auto plan = test::route(
      of_rows(moe::sinkhorn_router<double>({.width = 4, .experts = 4, .weights = PlanWeights::plan})), call);
  const auto softmax = test::route(of_rows(moe::sinkhorn_router<double>({.width = 4, .experts = 4})), call);
  const auto sigmoid =
      test::route(of_rows(moe::sinkhorn_base_router<double>({.width = 4, .experts = 4})), call);
  CHECK(softmax.expert == plan.expert);
  CHECK(sigmoid.expert == plan.expert);
  std::vector<Index> load(4, 0);
  for (Index t = 0; t < 24; ++t) {
    const auto e = static_cast<std::size_t>(plan.expert[static_cast<std::size_t>(t)]);
    ++load[e];
    const test::Vector logit(call.x.begin() + t * 4, call.x.begin() + (t + 1) * 4);
    CHECK(near(softmax.weights_of(t)[0], test::softmax(logit)[e]));
    CHECK(near(sigmoid.weights_of(t)[0], 1 / (1 + std::exp(-logit[e]))));
  }
  for (const Index rows : load) CHECK((rows >= 3 && rows <= 9));  // by a top-1 expert 0 has nearly all
}

TEST_CASE("in inference it is each row's own top-k, which the compiler knows", "[router]") {
  STATIC_REQUIRE(moe::SinkhornRouter<float>::coupling(true) == Coupling::per_batch);
  STATIC_REQUIRE(moe::SinkhornRouter<float>::coupling(false) == Coupling::row_independent);
  auto call = crowded(9, 4);
  call.training = false;
  const auto plain = test::route(
      of_rows(moe::softmax_top_k<double>({.width = 4, .experts = 4, .k = 2, .load_balance = 0})), call);
  auto router = of_rows(moe::sinkhorn_router<double>(
      {.width = 4, .experts = 4, .k = 2, .weights = PlanWeights::plan_unrolled}));
  CHECK(test::same_pairs(test::route(router, call), plain));
  call.options.experts_per_token = 2;
  CHECK(test::same_pairs(test::route(of_rows(moe::sinkhorn_router<double>({.width = 4, .experts = 4})), call),
                         plain));
}

TEST_CASE("a selective plan by hand: shares .73 .27 and a regularisation of .5", "[router]") {
  const auto call = training(test::call_of(test::logs({{.73, .27}, {.27, .73}})));
  const auto routed = test::route(selective(1, PlanWeights::plan, 0, 2, 2), call);
  test::check_pairs(routed, 0, {0, 1}, {.715, .285}, 5e-4);
  test::check_pairs(routed, 1, {1, 0}, {.715, .285}, 5e-4);
  test::check_pairs(test::route(selective(1, PlanWeights::scores, 0, 2, 2), call), 0, {0, 1}, {.73, .27});
}

TEST_CASE("with probability 0 it is the normalised softmax top-k, bit for bit, forward and backward",
          "[router]") {
  auto base = of_rows(moe::softmax_top_k<double>(
      {.width = 4, .experts = 4, .k = 2, .load_balance = 0, .weights = {.normalise = moe::Normalise::sum}}));
  for (const PlanWeights weights : {PlanWeights::scores, PlanWeights::plan, PlanWeights::plan_unrolled}) {
    auto router = selective(0, weights);
    const auto call = crowded(30, 4);
    CHECK(test::same_pairs(test::route(router, call), test::route(base, call)));
    CHECK(test::same_bits(test::all_gradients(router, call), test::all_gradients(base, call)));
  }
}

TEST_CASE("one coin for a layer and step says whether the call goes by the plan", "[router]") {
  auto call = crowded(12, 4);
  const auto plain = test::route(selective(0), call), planned = test::route(selective(1), call);
  REQUIRE(!test::same_pairs(plain, planned));
  int plans = 0;
  for (std::uint64_t step = 0; step < 400; ++step) {
    call.step = step;
    const auto routed = test::route(selective(0.25), call);
    const bool by_plan = test::same_pairs(routed, planned);
    CHECK((by_plan || test::same_pairs(routed, plain)));
    plans += by_plan ? 1 : 0;
    // Of the call, not of its rows.
    auto other = call.subset({0, 1, 2});
    const auto few = test::route(selective(0.25), other);
    CHECK(test::same_pairs(few, test::route(selective(by_plan ? 1 : 0), other)));
  }
  CHECK((plans > 70 && plans < 130));  // 100, standard deviation 8.7
}

TEST_CASE("noise is of row and expert, and of training alone", "[router]") {
  auto call = crowded(12, 4);
  const auto with = test::route(selective(1, PlanWeights::plan, 0.5), call);
  CHECK(!test::same_pairs(with, test::route(selective(1), call)));
  std::vector<Index> reversed;
  for (Index t = 11; t >= 0; --t) reversed.push_back(t);
  const auto back = test::route(selective(1, PlanWeights::plan, 0.5), call.subset(reversed));
  for (Index t = 0; t < 12; ++t) {
    CHECK(with.experts_of(t) == back.experts_of(11 - t));
    for (const ExpertId e : with.experts_of(t))
      CHECK(near(back.weight_of(11 - t, e), with.weight_of(t, e), 1e-9));
  }
  call.training = false;
  CHECK(test::same_pairs(test::route(selective(1, PlanWeights::plan, 0.5), call),
                         test::route(selective(0), call)));
}

TEST_CASE("a plan that is a constant trains nothing, an unrolled one does", "[router]") {
  const auto call = crowded(12, 4);
  auto constant = selective(1), unrolled = selective(1, PlanWeights::plan_unrolled);
  CHECK(test::same_pairs(test::route(constant, call), test::route(unrolled, call)));
  for (const double g : test::all_gradients(constant, call)) CHECK(g == 0);
  double size = 0;
  for (const double g : test::all_gradients(unrolled, call)) size += std::abs(g);
  CHECK(size > 1e-3);
  auto smooth = moe::selective_sinkhorn<double>({.width = 3,
                                                 .experts = 3,
                                                 .probability = 1,
                                                 .tolerance = 0,
                                                 .iterations = 3,
                                                 .weights = PlanWeights::plan_unrolled});
  test::randomise(smooth, 4);
  test::check_router_gradients(smooth, 5, {.step = 1e-3});
}

TEST_CASE("what Sinkhorn routers cannot obey is refused", "[router]") {
  CHECK_THROWS_WITH(moe::SinkhornTopK({.regularisation = 0}),
                    "moe: Sinkhorn regularisation: expected a finite value > 0, got 0");
  CHECK_THROWS_AS(moe::SinkhornTopK({.iterations = 0}), moe::config_error);
  CHECK_THROWS_AS(moe::SinkhornTopK({.tolerance = -1}), moe::config_error);
  CHECK_THROWS_AS(moe::SinkhornTopK({.share = 1.5}), moe::config_error);
  CHECK_THROWS_AS(moe::SinkhornTopK({.noise = -1}), moe::config_error);
  CHECK_THROWS_AS(selective(0.5, PlanWeights::plan, 0, 5), moe::config_error);
  auto input = crowded(3, 4).input();
  input.draws.reset();
  CHECK_THROWS_AS(moe::SinkhornTopK({.share = 0.5}).check_call(input), moe::config_error);
  CHECK_THROWS_AS(moe::SinkhornTopK({.noise = 0.5}).check_call(input), moe::config_error);
  CHECK_NOTHROW(moe::SinkhornTopK({}).check_call(input));
}
