#include "moe/router/named/hyper_router.hpp"

#include <string>

#include "moe/router/scorer/hyper.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

namespace {

using moe::Index;

const moe::HyperRouterOptions kOptions{
    .width = 4, .experts = 5, .hidden = 7, .k = 2, .seed = 3, .load_balance = 0.5};

const test::RouterCases kCases{
    // The generated biases choose among rows of zeros.
    {"HyperRouter", [] { return moe::hyper_router<double>(kOptions); }, {.ties = false}},
    {"HyperRouter, float",
     [] { return moe::hyper_router<float>({.width = 6, .experts = 9, .hidden = 20}); },
     {.ties = false}},
};

}  // namespace

TEST_CASE("weights that were made once give the bits of weights made in every call, until z may move",
          "[hyper]") {
  auto router = moe::hyper_router<double>(kOptions);
  router.scorer().initialise(5);
  const auto call = test::random_call<double>(40, 4, 1);
  const auto before = test::route(router, call);
  CHECK(!router.scorer().fixed());
  router.scorer().fix();
  CHECK(router.scorer().fixed());
  CHECK(test::same_route(before, test::route(router, call)));

  test::set_parameter(router, "embedding", {{1, -2, 3, -4}});
  CHECK(!router.scorer().fixed());
  const auto moved = test::route(router, call);
  CHECK(!test::same_route(before, moved));
  router.scorer().fix();
  CHECK(test::same_route(moved, test::route(router, call)));
  auto nothing = [](const char*, double*, double*, Index) {};
  router.visit_storage(nullptr, nothing);  // who saves it does not undo it
  CHECK(router.scorer().fixed());
}

TEST_CASE("the embedding is all that trains; the network is a function of the seed", "[hyper]") {
  auto router = moe::hyper_router<double>(kOptions), same = moe::hyper_router<double>(kOptions);
  auto options = kOptions;
  options.seed = 4;
  auto other = moe::hyper_router<double>(options);
  int parameters = 0;
  auto count = [&](const moe::Parameter<double>& p) {
    ++parameters;
    CHECK(std::string(p.name) == "embedding");
    CHECK((p.value.rows == 1 && p.value.cols == 4));
  };
  router.visit_parameters(nullptr, count);
  CHECK(parameters == 1);
  const auto call = test::random_call<double>(10, 4, 1);
  CHECK(test::same_route(test::route(router, call), test::route(same, call)));
  CHECK(!test::same_route(test::route(router, call), test::route(other, call)));
}

TEST_CASE("K may grow from call to call", "[hyper]") {
  auto router = moe::hyper_router<double>(kOptions);
  auto call = test::random_call<double>(10, 4, 1);
  for (const Index k : {1, 3, 5}) {
    call.options.experts_per_token = k;
    CHECK(test::route(router, call).pairs() == 10 * k);
  }
}

TEST_CASE("hyper routers refuse sizes that do not fit", "[hyper]") {
  using S = moe::HyperScorer<float>;
  CHECK_THROWS_WITH(S({.width = 3, .hidden = 0, .outputs = 2}),
                    "moe: hidden width: expected a value in [1, 2147483647], got 0");
  CHECK_THROWS_AS(S({.width = 0, .outputs = 2}), moe::config_error);
  CHECK_THROWS_AS(S({.width = 3, .outputs = 0}), moe::config_error);
  CHECK_THROWS_AS(moe::hyper_router<float>({.width = 3, .experts = 2, .k = 3}), moe::config_error);
}
