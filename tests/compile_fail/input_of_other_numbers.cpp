// expect: moe: a matrix of another type of numbers
#include <Eigen/Core>

#include "moe/core/input.hpp"

void make(const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>& x) {
#if defined(MOE_MUST_COMPILE)
  moe::LayerInput<double>{x};
#else
  moe::LayerInput<float>{x};
#endif
}
