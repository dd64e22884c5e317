// moe/expert/bank/task_vectors.hpp without Eigen's eigenvectors, which decompositions.cpp compiles.
#pragma once

#include "moe/expert/bank/task_vectors.hpp"

MOE_NAMESPACE_BEGIN
namespace impl {
extern template void rank_factors(const Eigen::MatrixXd&, Index, Eigen::MatrixXd&, Eigen::MatrixXd&);
}
MOE_NAMESPACE_END
