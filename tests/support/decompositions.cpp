#include "support/decompositions.hpp"

#include <Eigen/SVD>

#include "support/task_vectors.hpp"

MOE_NAMESPACE_BEGIN
namespace impl {
template void rank_factors(const Eigen::MatrixXd&, Index, Eigen::MatrixXd&, Eigen::MatrixXd&);
}
MOE_NAMESPACE_END

namespace test {

Svd svd_of(const Eigen::MatrixXd& m) {
  const Eigen::JacobiSVD<Eigen::MatrixXd> svd(m, Eigen::ComputeThinU | Eigen::ComputeThinV);
  return {svd.singularValues(), svd.matrixU(), svd.matrixV()};
}

Eigen::MatrixXd product(const Eigen::MatrixXd& a, const Eigen::MatrixXd& b) {
  return a * b;
}

double squared_distance(const Eigen::MatrixXd& a, const Eigen::MatrixXd& b) {
  return (a - b).squaredNorm();
}

}  // namespace test
