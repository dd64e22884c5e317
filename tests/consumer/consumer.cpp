// A program that uses the library, built by every consumer project of this folder.
#include <Eigen/Core>
#include <cstdio>

#include "moe/moe.hpp"

#if defined(CONSUMER_EXPECTS_VERSION)  // what the package said must be what the headers are
constexpr int kExpected[] = {CONSUMER_EXPECTS_VERSION};
static_assert(kExpected[0] == MOE_VERSION_MAJOR && kExpected[1] == MOE_VERSION_MINOR &&
              kExpected[2] == MOE_VERSION_PATCH);
#endif

int main() {
  using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  auto router = moe::softmax_top_k<float>({.width = 8, .experts = 4, .k = 2});
  router.scorer().initialise(1);
  moe::Glu<moe::Silu> experts({.experts = 4, .width = 8, .hidden = 16});
  experts.initialise(2);
  const moe::MoeLayer layer(std::move(router), std::move(experts));

  const Rows x = Rows::Ones(3, 8);
  Rows y(3, 8);
  moe::LayerOutput<float> out(y);
  moe::Workspace workspace;
  layer.forward(x, out, workspace);
  std::printf("moe %s, %s, |Y| = %g\n", moe::describe().version, moe::describe().instructions,
              static_cast<double>(y.norm()));
  return y.norm() > 0 && y.row(0) == y.row(2) ? 0 : 1;  // equal tokens, equal bits
}
