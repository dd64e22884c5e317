// expect: moe: this matrix is const, but it would be written to
#include <Eigen/Core>

#include "moe/moe.hpp"

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Layer = moe::MoeLayer<moe::SoftmaxTopK<float>, moe::Glu<moe::Silu, float>>;

void make(Rows& dy, const Rows& x, Rows& dx, Layer::Gradients& gradients) {
#if defined(MOE_MUST_COMPILE)
  static_cast<void>(x);
  Layer::LayerGradients{dy, dx, gradients};
#else
  static_cast<void>(dx);
  Layer::LayerGradients{dy, x, gradients};
#endif
}
