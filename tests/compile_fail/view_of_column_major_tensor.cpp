// expect: moe: row-major expected; declare the tensor
#include <unsupported/Eigen/CXX11/Tensor>

#include "moe/core/view.hpp"

void view(Eigen::Tensor<float, 3, Eigen::RowMajor>& rows, Eigen::Tensor<float, 3>& columns) {
#if defined(MOE_MUST_COMPILE)
  static_cast<void>(columns);
  moe::MatrixView<float>{rows};
#else
  static_cast<void>(rows);
  moe::MatrixView<float>{columns};
#endif
}
