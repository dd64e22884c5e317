#include "moe/router/named/attention_router.hpp"

#include "moe/router/scorer/attention.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

namespace {

using moe::ExpertId;
using moe::Index;

const test::RouterCases kCases{
    {"AttentionRouter",
     [] { return moe::attention_router<double>({.width = 4, .experts = 5, .load_balance = 0.5}); }},
    {"AttentionRouter, one expert",
     [] { return moe::attention_router<double>({.width = 3, .experts = 1, .k = 1}); }},
    {"AttentionRouter, float",
     [] { return moe::attention_router<float>({.width = 7, .experts = 9, .k = 3}); }},
};

}  // namespace

TEST_CASE("without a query all logits are the mean value, so that lower ids win with equal weights",
          "[attention_router]") {
  auto router = moe::attention_router<double>({.width = 4, .experts = 6});
  test::randomise(router, 3);
  test::set_parameter(router, "query.weight", test::Matrix(6, test::Vector(4, 0)));
  const auto routed = test::route(router, test::random_call<double>(10, 4, 1));
  for (Index t = 0; t < 10; ++t) test::check_pairs(routed, t, {0, 1}, {0.5, 0.5});
}

TEST_CASE("two experts that attend to each other, by hand", "[attention_router]") {
  auto router = moe::attention_router<double>({.width = 1, .experts = 2});
  const double ln3 = std::log(3.0);
  // q k is ln 3 * (1, 0) for expert 0, with weights 3/4 and 1/4, and 0 for expert 1, with 1/2 and 1/2.
  test::set_parameter(router, "query.weight", {{ln3}, {0}});
  test::set_parameter(router, "key.weight", {{1}, {0}});
  test::set_parameter(router, "value.weight", {{0}, {4 * ln3}});
  // Logits ln 3 and 2 ln 3, probabilities 1/4 and 3/4.
  test::check_pairs(test::route(router, test::call_of({{1}})), 0, {1, 0}, {0.75, 0.25});
}

TEST_CASE("attention routers refuse sizes that do not fit", "[attention_router]") {
  CHECK_THROWS_AS(moe::attention_router<double>({.width = 0, .experts = 4}), moe::config_error);
  CHECK_THROWS_AS(moe::AttentionScorer<double>({.width = 3, .outputs = 0}), moe::config_error);
  CHECK_THROWS_AS(moe::attention_router<double>({.width = 3, .experts = 4, .k = 5}), moe::config_error);
  const moe::AttentionRouterOptions released;
  CHECK((released.width == 2048 && released.experts == 32 && released.k == 2));
}
