#include "moe/product/right_singular.hpp"

#include <Eigen/Core>
#include <random>

#include "support/catch.hpp"
#include "support/decompositions.hpp"

using moe::Index;

TEST_CASE("right singular vectors of blocks of rows are those of Eigen's SVD", "[product]") {
  std::mt19937_64 random(3);
  std::normal_distribution<double> normal;
  const Index rank = GENERATE(2, 5, 7);
  const Index rows = GENERATE(3, 7, 20);
  Eigen::MatrixXd left(rows, rank), right(rank, 7);
  for (double& v : left.reshaped()) v = normal(random);
  for (double& v : right.reshaped()) v = normal(random);
  const Eigen::MatrixXd a = test::product(left, right);
  moe::RightSingular singular(7);
  const Index cut = rows / 3;
  singular.add(cut, [&](Index r, Index i) { return a(r, i); });
  singular.add(rows - cut, [&](Index r, Index i) { return a(cut + r, i); });
  singular.finish();

  const test::Svd svd = test::svd_of(a);
  const double bound = 0x1p-52 * 100 * svd.values(0);  // both lose a few roundings of the largest
  for (Index k = 0; k < 7; ++k) {
    const double want = k < svd.values.size() ? svd.values(k) : 0;
    INFO(k << " of rank " << rank << ", rows " << rows);
    CHECK(std::abs(singular.value(k) - want) <= bound);
    if (want < 1e-9) continue;
    double along = 0, own = 0;
    for (Index i = 0; i < 7; ++i) {
      along += singular.vector(k, i) * svd.v(i, k);
      own += singular.vector(k, i) * singular.vector(k, i);
    }
    CHECK(std::abs(own - 1) <= 1e-14);
    CHECK(std::abs(std::abs(along) - 1) <= 1e-10);
  }
  CHECK_THROWS_AS(moe::RightSingular(0), moe::config_error);
}

TEST_CASE("no rows have no singular values", "[product]") {
  moe::RightSingular singular(3);
  singular.add(0, [](Index, Index) { return 1.0; });
  singular.finish();
  for (Index k = 0; k < 3; ++k) {
    CHECK(singular.value(k) == 0);
    CHECK(singular.vector(k, 1) == 0);
  }
}
