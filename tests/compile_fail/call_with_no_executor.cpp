// expect: moe: the last argument of a call is an Executor
#include <Eigen/Core>

#include "moe/moe.hpp"

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Layer = moe::MoeLayer<moe::SoftmaxTopK<float>, moe::Glu<moe::Silu, float>>;

void call(const Layer& layer, const Rows& x, moe::LayerOutput<float>& out, moe::Workspace& workspace) {
#if defined(MOE_MUST_COMPILE)
  moe::PoolExecutor threads(2);
  layer.forward(x, out, workspace, threads);
#else
  layer.forward(x, out, workspace, 2);
#endif
}
