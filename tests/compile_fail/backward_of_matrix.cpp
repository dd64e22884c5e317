// expect: moe: the second argument of backward is a LayerGradients
#include <Eigen/Core>

#include "moe/moe.hpp"

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Layer = moe::MoeLayer<moe::SoftmaxTopK<float>, moe::Glu<moe::Silu, float>>;

void call(const Layer& layer, const Layer::Tape& tape, const Rows& dy, Rows& dx, moe::Workspace& workspace) {
#if defined(MOE_MUST_COMPILE)
  layer.backward(tape, Layer::LayerGradients(dy, dx), workspace);
#else
  layer.backward(tape, dy, workspace);
  static_cast<void>(dx);
#endif
}
