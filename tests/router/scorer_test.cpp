#include "moe/router/scorer/concept.hpp"

#include "moe/router/scorer/linear.hpp"
#include "support/router_archetype.hpp"
#include "support/router_laws.hpp"

namespace {

using moe::Index;
using Archetype = moe::TokenChoice<test::ArchetypeScorer, test::ArchetypeScore, test::ArchetypeSelection,
                                   test::ArchetypeWeighting, moe::Balancing<>>;

Archetype archetype() {
  moe::Buffer<double> w(3);
  w[0] = 0.5;
  w[1] = -1.25;
  w[2] = 0.75;
  return {test::ArchetypeScorer(std::move(w)), test::ArchetypeScore{}, test::ArchetypeSelection{},
          test::ArchetypeWeighting{}};
}

}  // namespace

TEST_CASE("parts with nothing but what their concepts ask for make a router", "[scorer]") {
  STATIC_REQUIRE(moe::Scorer<test::ArchetypeScorer>);
  STATIC_REQUIRE(moe::ScoreFunction<test::ArchetypeScore>);
  STATIC_REQUIRE(moe::Selection<test::ArchetypeSelection>);
  STATIC_REQUIRE(moe::Weighting<test::ArchetypeWeighting>);
  STATIC_REQUIRE(moe::TrainableRouter<Archetype>);
  Archetype router = archetype();
  test::check_router_laws(router, {.masks = false});  // its score function knows no -inf
  test::check_router_gradients(router, 5);

  // Logits {0.5, -1.25, 0.75} x: the largest square is expert 1's, whatever x; weight 3 (1 + (1.25 x)^2).
  auto call = test::random_call<double>(1, 1, 1);
  call.x[0] = 2;
  const auto routed = test::route(router, call);
  CHECK(routed.expert == std::vector<moe::ExpertId>{1});
  CHECK(routed.weight == std::vector<double>{3 * 7.25});
}

TEST_CASE("the smallest router obeys the laws", "[scorer]") {
  STATIC_REQUIRE(moe::Router<test::ArchetypeRouter<float>>);
  STATIC_REQUIRE(!moe::TrainableRouter<test::ArchetypeRouter<float>>);
  test::ArchetypeRouter<float> router(3);
  test::check_router_laws(router, {.masks = false});
}

TEST_CASE("scorers of this library are scorers", "[scorer]") {
  STATIC_REQUIRE(moe::Scorer<moe::LinearScorer<float>>);
  STATIC_REQUIRE(moe::Scorer<moe::LinearScorer<double>>);
  STATIC_REQUIRE(!moe::Scorer<test::ArchetypeRouter<double>>);
}
