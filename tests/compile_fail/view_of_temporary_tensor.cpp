// expect: moe: a view of a temporary tensor would dangle
#include <unsupported/Eigen/CXX11/Tensor>

#include "moe/core/view.hpp"

using Tensor = Eigen::Tensor<float, 3, Eigen::RowMajor>;

void view(float* data) {
#if defined(MOE_MUST_COMPILE)
  moe::MatrixView<float>{Eigen::TensorMap<Tensor>(data, 2, 3, 4)};
#else
  static_cast<void>(data);
  moe::MatrixView<float>{Tensor(2, 3, 4)};
#endif
}
