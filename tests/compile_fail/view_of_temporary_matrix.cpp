// expect: moe: a view of a temporary matrix would dangle
#include <Eigen/Core>

#include "moe/core/view.hpp"

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

void view(Matrix& m) {
#if defined(MOE_MUST_COMPILE)
  moe::MatrixView<float>{m};
#else
  static_cast<void>(m);
  moe::MatrixView<float>{Matrix(3, 4)};
#endif
}
