// expect: moe: a matrix of another type of numbers
#include <Eigen/Core>

#include "moe/core/view.hpp"

void view(Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>& m) {
#if defined(MOE_MUST_COMPILE)
  moe::MatrixView<double>{m};
#else
  moe::MatrixView<float>{m};
#endif
}
