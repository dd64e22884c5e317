#include "moe/router/weighting/random_second.hpp"

#include "support/catch.hpp"
#include "support/one_row.hpp"

using moe::ExpertId;

TEST_CASE("a random second choice is kept with twice its share", "[router]") {
  STATIC_REQUIRE(moe::Weighting<moe::RandomSecondWeighting>);
  const moe::RandomSecondWeighting random({}), always({.random = false});
  const ExpertId ids[] = {1, 0};
  const double score[] = {0.2, 0.6};
  int kept = 0;
  for (std::uint64_t key = 0; key < 200; ++key) {
    moe::RouterInput<double> call;
    call.row_key = {&key, 1};
    call.draws = moe::DrawKey{5, 0};
    for (const bool training : {true, false}) {
      call.training = training;
      const auto row = test::one_row<double>(call, nullptr, score, 2);
      double weight[2] = {};
      bool keep[2] = {};
      random.forward(row, moe::Chosen{ids, 2}, weight, keep);
      CHECK(keep[0]);
      CHECK(weight[0] == 0.6 / (0.6 + 0.2));
      CHECK(keep[1] == (!training || row.uniform(moe::DrawStream::second_expert) < 2 * weight[1]));
      kept += training && keep[1] ? 1 : 0;
      always.forward(row, moe::Chosen{ids, 2}, weight, keep);
      CHECK(keep[1]);
    }
  }
  CHECK((kept > 60 && kept < 140));  // 100 expected, 5.6 standard deviations of 7.1
}
