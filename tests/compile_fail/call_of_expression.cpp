// expect: moe: a row-major matrix expected, a Map, Ref or Block of one
#include <Eigen/Core>

#include "moe/moe.hpp"

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Layer = moe::MoeLayer<moe::SoftmaxTopK<float>, moe::Glu<moe::Silu, float>>;

void call(const Layer& layer, const Rows& x, moe::LayerOutput<float>& out, moe::Workspace& workspace) {
#if defined(MOE_MUST_COMPILE)
  const Rows half = x / 2;
  layer.forward(half, out, workspace);
#else
  layer.forward(x / 2, out, workspace);
#endif
}
