// expect: moe: this matrix is const, but it would be written to
#include <Eigen/Core>

#include "moe/layer/call/output.hpp"

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

void make(Rows& y, const Rows& constant) {
#if defined(MOE_MUST_COMPILE)
  static_cast<void>(constant);
  moe::LayerOutput out(y);
#else
  static_cast<void>(y);
  moe::LayerOutput out(constant);
#endif
}
