// expect: moe: a matrix of another type of numbers
#include <Eigen/Core>

#include "moe/moe.hpp"

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Layer = moe::MoeLayer<moe::SoftmaxTopK<float>, moe::Glu<moe::Silu, float>>;

void call(const Layer& layer, const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>& x,
          moe::LayerOutput<float>& out, moe::Workspace& workspace) {
#if defined(MOE_MUST_COMPILE)
  const Rows rows = x.cast<float>();
  layer.forward(rows, out, workspace);
#else
  layer.forward(x, out, workspace);
#endif
}
