// A program that uses the library, built by every consumer project of this folder.
#include <Eigen/Core>
#include <cstdio>

#include "moe/moe.hpp"

#if defined(CONSUMER_EXPECTS_VERSION)  // what the package said must be what the headers are
constexpr int kExpected[] = {CONSUMER_EXPECTS_VERSION};
static_assert(kExpected[0] == MOE_VERSION_MAJOR && kExpected[1] == MOE_VERSION_MINOR &&
              kExpected[2] == MOE_VERSION_PATCH);
#endif

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// Two tokens through a layer with two of four experts; the same two in another order give the same rows.
int main() {
  auto router = moe::softmax_top_k<float>({.width = 8, .experts = 4, .k = 2});
  moe::Glu<moe::Silu> experts({.experts = 4, .width = 8, .hidden = 16});
  router.scorer().initialise(1);
  experts.initialise(2);
  const moe::MoeLayer layer(std::move(router), std::move(experts));

  const Rows x = Rows::Random(2, 8);
  const Rows swapped = x.colwise().reverse();
  Rows y(2, 8), y_swapped(2, 8);
  moe::LayerOutput<float> out(y), out_swapped(y_swapped);
  moe::Workspace workspace;
  moe::SerialExecutor serial;
  layer.forward(x, out, workspace, serial);
  layer.forward(swapped, out_swapped, workspace, serial);

  std::printf("%s, %s: |Y| = %g\n", MOE_STRINGIFY(MOE_ABI_TAG), moe::arch_name(),
              static_cast<double>(y.norm()));
  return y.norm() > 0 && y.row(0) == y_swapped.row(1) && y.row(1) == y_swapped.row(0) ? 0 : 1;
}
