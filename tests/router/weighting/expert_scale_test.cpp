#include "moe/router/weighting/expert_scale.hpp"

#include <vector>

#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/plain_routing.hpp"

namespace {

using moe::GatherWeighting;
using moe::Index;
using Scaled = moe::ExpertScale<double, GatherWeighting>;
template <class W>
using Router = moe::TokenChoice<moe::LinearScorer<double>, moe::Softmax, moe::TopKSelection, W>;

const test::Matrix kFactors{{0.5}, {-2}, {1}, {0}, {0.25}, {1.5}};
const GatherWeighting kShares({.normalise = moe::Normalise::sum});

template <class W>
Router<W> make(W weighting) {
  Router<W> router(moe::LinearScorer<double>({.width = 4, .outputs = 6}), moe::Softmax{},
                   moe::TopKSelection(3), std::move(weighting));
  test::randomise(router, 2);
  return router;
}

Router<Scaled> scaled() {
  auto router = make(Scaled(kShares, 6));
  test::set_parameter(router, "per_expert_scale", kFactors);
  return router;
}

}  // namespace

TEST_CASE("weights are multiplied by their expert's factor, after normalising", "[expert_scale]") {
  STATIC_REQUIRE(moe::Weighting<Scaled>);
  auto plain = make(kShares);
  const auto none = make(Scaled(kShares));
  auto router = scaled();
  test::set_parameter(router, "gate.weight", test::parameter(plain, "gate.weight"));
  const auto call = test::random_call<double>(20, 4, 1);
  const auto a = test::route(plain, call), b = test::route(none, call), c = test::route(router, call);
  CHECK(test::same_route(a, b));
  REQUIRE(a.expert == c.expert);
  for (std::size_t p = 0; p < a.expert.size(); ++p) {
    CHECK(c.weight[p] == a.weight[p] * kFactors[static_cast<std::size_t>(a.expert[p])][0]);
  }
}

TEST_CASE("scaled weights obey the laws of routers; factors learn, at 0 too", "[expert_scale]") {
  auto router = scaled();
  test::check_router_laws(router, {.parameters = false});
  test::check_router_gradients(router, 5);
}

TEST_CASE("factors are a parameter of the router", "[expert_scale]") {
  auto router = scaled();
  CHECK(test::parameter(router, "per_expert_scale") == kFactors);
  CHECK(test::parameter(router, "gate.weight").size() == 6);
  auto fresh = Scaled(kShares, 2);
  auto ones = [](const moe::Parameter<double>& p) {
    for (Index o = 0; o < p.value.rows; ++o) CHECK(p.value(o, 0) == 1);
  };
  fresh.visit_parameters(nullptr, ones);
}

TEST_CASE("factors that do not fit are refused", "[expert_scale]") {
  CHECK_THROWS_WITH(make(Scaled(kShares, 5)),
                    "moe: per-expert scale: expected a factor for each of 6 outputs, got 5");
}
