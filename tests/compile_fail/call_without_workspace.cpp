// expect: moe: the workspace is missing
#include <Eigen/Core>

#include "moe/moe.hpp"

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Layer = moe::MoeLayer<moe::SoftmaxTopK<float>, moe::Glu<moe::Silu, float>>;

void call(const Layer& layer, const Rows& x, moe::LayerOutput<float>& out) {
#if defined(MOE_MUST_COMPILE)
  moe::Workspace workspace;
  layer.forward(x, out, workspace);
#else
  layer.forward(x, out);
#endif
}
