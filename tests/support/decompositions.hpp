// What Eigen takes seconds to compile, SVD, eigenvectors and products: once, in decompositions.cpp.
#pragma once

#include <Eigen/Core>

namespace test {

/// m = u diag(values) v^T, values descending.
struct Svd {
  Eigen::VectorXd values;
  Eigen::MatrixXd u, v;
};
Svd svd_of(const Eigen::MatrixXd& m);
Eigen::MatrixXd product(const Eigen::MatrixXd& a, const Eigen::MatrixXd& b);
/// Squares of all elements of a - b.
double squared_distance(const Eigen::MatrixXd& a, const Eigen::MatrixXd& b);

}  // namespace test
