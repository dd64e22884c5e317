// An isolated layer is the layer; what it refuses is tested in tests/compile_fail.
#include "moe/layer/isolated_layer.hpp"

#include <Eigen/Core>

#include "moe/expert/bank/zero_computation.hpp"
#include "moe/router/named/expert_choice.hpp"
#include "support/catch.hpp"

TEST_CASE("an isolated layer runs per segment and refuses calls without", "[layer][smoke]") {
  using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using Layer = moe::MoeLayer<moe::ExpertChoice<float>, moe::ZeroComputation<float>>;
  const moe::ZeroComputation<float> copies({.width = 4, .copy = 3});
  const moe::IsolatedLayer<Layer> layer(moe::expert_choice<float>({.width = 4, .experts = 3}), copies);
  static_assert(moe::IsolatedLayer<Layer>::coupling(false) == moe::Coupling::per_segment);
  const Rows x = Rows::Random(6, 4);
  Rows y(6, 4);
  moe::Workspace workspace;
  moe::LayerOutput<float> out(y);
  CHECK_THROWS_AS(layer.forward(x, out, workspace), moe::config_error);
  moe::LayerInput<float> in(x);
  in.segments = moe::Segments::uniform(2);
  CHECK_NOTHROW(layer.forward(in, out, workspace));
}
