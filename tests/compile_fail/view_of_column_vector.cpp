// expect: moe: a column vector is not a matrix of rows
#include <Eigen/Core>

#include "moe/core/view.hpp"

void view(Eigen::VectorXf& column) {
#if defined(MOE_MUST_COMPILE)
  moe::MatrixView<float>{column.transpose()};
#else
  moe::MatrixView<float>{column};
#endif
}
