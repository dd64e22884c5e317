#include "moe/train/trained_matrix.hpp"

#include <Eigen/Core>

#include "moe/train/sgd.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace {

using moe::Index;
using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

TEST_CASE("a matrix of one's own is trained like a layer", "[train]") {
  Rows w = Rows::Ones(3, 4), g = Rows::Constant(3, 4, 2);
  moe::TrainedMatrix<float> matrix("table", w, g);
  static_assert(moe::TrainedModel<decltype(matrix)>);
  moe::Sgd<float> optimiser({.decay = 0.5});
  optimiser.step(matrix, 0.25);
  CHECK(w == Rows::Constant(3, 4, 1 - 0.25f * (2 + 0.5f)));
  CHECK(g.isZero(0));
  matrix.visit_parameters([&](const moe::Parameter<float>& p) {
    CHECK((&p.value(2, 3) == &w(2, 3) && &p.gradient(1, 2) == &g(1, 2)));
  });

  Eigen::VectorXf bias = Eigen::VectorXf::Ones(5), dbias = Eigen::VectorXf::Zero(5);
  optimiser = moe::Sgd<float>({.decay = 0.5});
  optimiser.step(moe::TrainedMatrix<float>("bias", {bias.data(), 5, 1}, {dbias.data(), 5, 1}), 0.25);
  CHECK(bias == Eigen::VectorXf::Ones(5));  // no decay of vectors
}

TEST_CASE("a matrix with gaps, or a gradient of another shape, is refused", "[train]") {
  Rows w(3, 4), g(3, 5);
  CHECK(test::message_of<moe::shape_error>([&] { moe::TrainedMatrix<float> m("table", w, g); }) ==
        "moe: gradient of table: expected a matrix of 3 x 4, got 3 x 5");
  CHECK(test::message_of<moe::shape_error>([&] { moe::TrainedMatrix<float> m("table", w, g.leftCols(4)); }) ==
        "moe: table: expected rows without gaps, 4 numbers apart, got 5");
}

}  // namespace
