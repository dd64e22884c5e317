#include "moe/router/weighting/equal.hpp"

#include "support/catch.hpp"
#include "support/one_row.hpp"

TEST_CASE("all choices weigh the same, whatever their scores, and these get no gradient", "[router]") {
  const double score[] = {0.9, 0.1, 0};
  const moe::ExpertId ids[] = {2, 0, 1};
  double weight[3], dscore[3] = {5, 6, 7}, dweight[3] = {1, 2, 3};
  bool keep[3] = {};
  const auto row = test::one_row<double>(score, score, 3);
  const moe::EqualWeighting equal;
  for (moe::Index k = 1; k <= 3; ++k) {
    equal.forward(row, {ids, k}, weight, keep);
    for (moe::Index i = 0; i < k; ++i) CHECK((weight[i] == 1 / static_cast<double>(k) && keep[i]));
  }
  equal.backward(row, {ids, 3}, dweight, dscore);
  CHECK((dscore[0] == 5 && dscore[1] == 6 && dscore[2] == 7));
}
