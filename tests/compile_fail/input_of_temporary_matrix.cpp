// expect: moe: a view of a temporary matrix would dangle
#include <Eigen/Core>

#include "moe/core/input.hpp"

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

void make(const Matrix& x) {
#if defined(MOE_MUST_COMPILE)
  moe::LayerInput<float>{x};
#else
  moe::LayerInput<float>{Matrix(x)};
#endif
}
