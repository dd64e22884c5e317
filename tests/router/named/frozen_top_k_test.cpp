#include "moe/router/named/frozen_top_k.hpp"

#include "moe/router/named/top_k.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/router/scorer/frozen.hpp"
#include "moe/router/scorer/linear.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::Index;

namespace {

const test::RouterCases kCases{
    {"FrozenTopK", [] { return moe::frozen_top_k<double>({.width = 4, .experts = 6, .k = 2, .seed = 3}); }},
};

}  // namespace

TEST_CASE("a frozen router is TopKSoftmax whose parameters have no gradients", "[router]") {
  auto frozen = moe::frozen_top_k<double>({.width = 4, .experts = 6, .k = 3, .seed = 5});
  auto free = moe::top_k_softmax<double>({.width = 4, .experts = 6, .k = 3, .load_balance = 0});
  free.scorer().initialise(5);
  CHECK(test::parameter(frozen, "gate.weight") == test::parameter(free, "gate.weight"));
  auto call = test::random_call<double>(20, 4, 3);
  call.training = true;
  CHECK(test::same_pairs(test::route(frozen, call), test::route(free, call)));

  STATIC_REQUIRE(moe::Scorer<moe::FrozenScorer<moe::LinearScorer<double>>>);
  auto gradients = frozen.make_gradients();
  int parameters = 0;
  auto look = [&](const moe::Parameter<double>& p) {
    ++parameters;
    CHECK(!p.gradient);
  };
  frozen.visit_parameters(&gradients, look);
  CHECK(parameters == 1);
  auto stored = [&](const char*, double* values, double* own, Index n) {
    CHECK((values != nullptr && own == nullptr && n > 0));
  };
  frozen.visit_storage(&gradients, stored);

  // The rows' gradient is that of the router that learns.
  const auto all = test::all_gradients(free, call);
  const std::vector<double> dx(all.end() - 80, all.end());
  CHECK(test::same_bits(test::all_gradients(frozen, call), dx));
}

TEST_CASE("K grows call by call as if the router had been built with it", "[router]") {
  const auto grown = moe::frozen_top_k<double>({.width = 4, .experts = 6, .seed = 5});
  auto call = test::random_call<double>(20, 4, 3);
  for (Index k = 1; k <= 6; ++k) {
    const auto built = moe::frozen_top_k<double>({.width = 4, .experts = 6, .k = k, .seed = 5});
    call.options.experts_per_token = 0;
    const auto expected = test::route(built, call);
    call.options.experts_per_token = k;
    CHECK(test::same_route(test::route(grown, call), expected));
  }
}

TEST_CASE("options of a frozen router are checked", "[router]") {
  CHECK_THROWS_AS(moe::frozen_top_k<double>({.width = 4, .experts = 6, .k = 7}), moe::config_error);
  CHECK_THROWS_AS(moe::frozen_top_k<double>({.width = 0, .experts = 6}), moe::config_error);
}
