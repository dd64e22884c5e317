#include "moe/router/weighting/unit.hpp"

#include "support/catch.hpp"
#include "support/one_row.hpp"

TEST_CASE("every choice weighs 1, however many there are, and hands the scores no gradient", "[router]") {
  const double score[] = {0.9, 0.1, 0};
  const moe::ExpertId ids[] = {2, 0, 1};
  double weight[3] = {7, 7, 7}, dscore[3] = {5, 6, 7}, dweight[3] = {1, 2, 3};
  bool keep[3] = {};
  const auto row = test::one_row<double>(score, score, 3);
  const moe::UnitWeighting unit;
  unit.forward(row, {ids, 2}, weight, keep);
  CHECK((weight[0] == 1 && weight[1] == 1 && keep[0] && keep[1]));
  CHECK((weight[2] == 7 && !keep[2]));
  unit.backward(row, {ids, 2}, dweight, dscore);
  CHECK((dscore[0] == 5 && dscore[1] == 6 && dscore[2] == 7));
}
