#include "moe/router/scorer/concept.hpp"

#include <cmath>
#include <vector>

#include "moe/router/scorer/cosine.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/scorer/map/spread.hpp"
#include "moe/router/scorer/mapped.hpp"
#include "moe/router/scorer/normed.hpp"
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

/// Logits of rows of U(-1, 1) times `size`.
template <class S>
std::vector<float> logits_of(const S& scorer, float size) {
  auto call = test::random_call<float>(5, scorer.width(), 2);
  for (float& x : call.x) x *= size;
  std::vector<float> out(static_cast<std::size_t>(5 * scorer.outputs()));
  moe::Logits<float> logits;
  logits.value = moe::MatrixView<float>(out.data(), 5, scorer.outputs());
  test::MeasuredMemory memory([&](moe::Arena& a) { scorer.measure(a, 5, 1); });
  moe::Arena arena = memory.arena();
  moe::SerialExecutor serial;
  scorer.logits(call.input(), logits, nullptr, arena, serial);
  return out;
}

}  // namespace

TEST_CASE("parts with nothing but what their concepts ask for make a router", "[scorer]") {
  STATIC_REQUIRE(moe::Scorer<test::ArchetypeScorer>);
  STATIC_REQUIRE(moe::ScoreFunction<test::ArchetypeScore>);
  STATIC_REQUIRE(moe::Selection<test::ArchetypeSelection>);
  STATIC_REQUIRE(moe::Weighting<test::ArchetypeWeighting>);
  STATIC_REQUIRE(moe::TrainableRouter<Archetype>);
  Archetype router = archetype();
  // Its score function knows no -inf, its scorer takes an infinite weight for a mask.
  test::check_router_laws(router, {.masks = false, .parameters = false});
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

TEST_CASE("rows whose squares overflow are scored like smaller ones", "[scorer]") {
  const auto check = [](auto scorer) {
    const std::vector<float> want = logits_of(scorer, 1), got = logits_of(scorer, 0x1p100f);
    for (std::size_t i = 0; i < want.size(); ++i) CHECK(std::abs(got[i] - want[i]) <= 1e-5f);
  };
  moe::LinearScorer<float> linear({.width = 6, .outputs = 5});
  linear.initialise(3);
  moe::CosineScorer<float> cosine({.width = 6, .projected = 4, .outputs = 5, .bias = false});
  cosine.initialise(3);
  check(cosine);
  check(moe::NormedScorer(linear, {.eps = 0}));
  check(moe::MappedScorer(linear, moe::LogitSpread(2)));
}
