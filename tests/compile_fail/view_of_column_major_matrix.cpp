// expect: moe: row-major expected; declare the matrix
#include <Eigen/Core>

#include "moe/core/view.hpp"

void view(Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>& rows,
          Eigen::MatrixXf& columns) {
#if defined(MOE_MUST_COMPILE)
  static_cast<void>(columns);
  moe::MatrixView<float>{rows};
#else
  static_cast<void>(rows);
  moe::MatrixView<float>{columns};
#endif
}
