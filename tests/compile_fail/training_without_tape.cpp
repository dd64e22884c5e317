// expect: moe: a tape of this layer expected
#include <Eigen/Core>

#include "moe/moe.hpp"

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Layer = moe::MoeLayer<moe::SoftmaxTopK<float>, moe::Glu<moe::Silu, float>>;

void call(const Layer& layer, const Rows& x, moe::LayerOutput<float>& out, moe::Workspace& workspace) {
#if defined(MOE_MUST_COMPILE)
  Layer::Tape tape;
  layer.forward_train(x, out, tape, workspace);
#else
  layer.forward_train(x, out, workspace);
#endif
}
