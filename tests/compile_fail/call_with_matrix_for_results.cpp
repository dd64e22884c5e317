// expect: moe: results go to a LayerOutput
#include <Eigen/Core>

#include "moe/moe.hpp"

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Layer = moe::MoeLayer<moe::SoftmaxTopK<float>, moe::Glu<moe::Silu, float>>;

void call(const Layer& layer, const Rows& x, Rows& y, moe::Workspace& workspace) {
#if defined(MOE_MUST_COMPILE)
  moe::LayerOutput out(y);
  layer.forward(x, out, workspace);
#else
  layer.forward(x, y, workspace);
#endif
}
