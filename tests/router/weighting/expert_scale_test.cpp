#include "moe/router/weighting/expert_scale.hpp"

#include <limits>
#include <vector>

#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/router_laws.hpp"

namespace {

using moe::GatherWeighting;
using moe::Index;
using Scaled = moe::ExpertScale<GatherWeighting>;
template <class W>
using Router = moe::TokenChoice<moe::LinearScorer<double>, moe::Softmax, moe::TopKSelection, W>;

const std::vector<double> kFactors{0.5, -2, 1, 3, 0.25, 1.5};
const GatherWeighting kShares({.normalise = moe::Normalise::sum});

template <class W>
Router<W> make(W weighting) {
  Router<W> router(moe::LinearScorer<double>({.width = 4, .outputs = 6}), moe::Softmax{},
                   moe::TopKSelection(3), std::move(weighting));
  test::randomise(router, 2);
  return router;
}

}  // namespace

TEST_CASE("weights are multiplied by their expert's factor, after normalising", "[expert_scale]") {
  STATIC_REQUIRE(moe::Weighting<Scaled>);
  const auto plain = make(kShares);
  const auto none = make(Scaled(kShares));
  const auto scaled = make(Scaled(kShares, kFactors));
  const auto call = test::random_call<double>(20, 4, 1);
  const auto a = test::route(plain, call), b = test::route(none, call), c = test::route(scaled, call);
  CHECK(test::same_route(a, b));
  REQUIRE(a.expert == c.expert);
  for (std::size_t p = 0; p < a.expert.size(); ++p) {
    CHECK(c.weight[p] == a.weight[p] * kFactors[static_cast<std::size_t>(a.expert[p])]);
  }
}

TEST_CASE("scaled weights obey the laws of routers and match central differences", "[expert_scale]") {
  auto router = make(Scaled(kShares, kFactors));
  test::check_router_laws(router);
  test::check_router_gradients(router, 5);
}

TEST_CASE("factors are saved with the router", "[expert_scale]") {
  auto router = make(Scaled(kShares, kFactors)), other = make(Scaled(kShares, std::vector<double>(6, 1)));
  const auto state = test::save_state(router);
  REQUIRE(state.size() == 1);
  CHECK(state[0].first == "per_expert_scale");
  CHECK(state[0].second == kFactors);
  test::load_state(other, state);
  const auto call = test::random_call<double>(9, 4, 1);
  CHECK(test::same_route(test::route(router, call), test::route(other, call)));
  auto bad = state;
  bad[0].second[2] = std::numeric_limits<double>::infinity();
  CHECK_THROWS_AS(test::load_state(other, bad), moe::numeric_error);
  CHECK(test::save_state(other) == state);
  auto none = make(Scaled(kShares));
  CHECK(test::save_state(none).empty());
}

TEST_CASE("factors that do not fit are refused", "[expert_scale]") {
  CHECK_THROWS_AS(make(Scaled(kShares, std::vector<double>(5, 1))), moe::config_error);
  CHECK_THROWS_AS(Scaled(kShares, std::vector<double>{1, std::numeric_limits<double>::quiet_NaN()}),
                  moe::numeric_error);
}
