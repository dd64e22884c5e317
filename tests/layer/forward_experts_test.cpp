// Routing decided elsewhere gives what the layer's own routing gives.
#include "moe/layer/forward_experts.hpp"

#include <Eigen/Core>

#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/catch.hpp"

TEST_CASE("the routes of a layer, handed in, give its bits in any order", "[layer][smoke]") {
  using moe::Index;
  using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  auto router = moe::softmax_top_k<float>({.width = 11, .experts = 6, .k = 3});
  router.scorer().initialise(1, 3);
  moe::Glu<moe::GeluTanh, float> bank({.experts = 6, .width = 11, .hidden = 9, .bias = true});
  bank.initialise(2);
  const moe::MoeLayer layer(std::move(router), std::move(bank));
  const Rows x = Rows::Random(20, 11);
  Rows y(20, 11), given(20, 11);
  moe::Workspace workspace;
  decltype(layer)::Tape tape;
  moe::LayerOutput<float> out(y);
  moe::LayerInput<float> in(x);
  in.mode = moe::Mode::inference;
  layer.forward_train(in, out, tape, workspace);
  Eigen::Matrix<moe::ExpertId, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> ids(20, 3);
  Rows weights(20, 3);
  for (Index p = 0; p < 60; ++p) {
    ids.data()[p] = tape.routes().expert[p];
    weights.data()[p] = tape.routes().weight[p];
  }
  moe::forward_experts(layer.experts(), x, ids, weights, given, workspace);
  CHECK(given == y);
  ids.col(0).swap(ids.col(2));
  weights.col(0).swap(weights.col(2));
  moe::forward_experts(layer.experts(), x, ids, weights, given, workspace);
  CHECK(given == y);
}
