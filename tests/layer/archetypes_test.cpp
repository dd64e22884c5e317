// The layer asks of router, bank, capacity policy and executor what their concepts say, and no more.
#include "support/archetypes.hpp"
#include "moe/layer/moe_layer.hpp"
#include "support/catch.hpp"
#include "support/layer_archetypes.hpp"

namespace {

using moe::Index;

moe::Buffer<double> factors() {
  moe::Buffer<double> factor(3);
  for (Index e = 0; e < 3; ++e) factor[e] = static_cast<double>(e + 1);
  return factor;
}

}  // namespace

TEST_CASE("a layer of archetypes runs", "[layer][smoke]") {
  const moe::MoeLayer<test::ArchetypeRouter<double>, test::BankArchetype> layer(
      test::ArchetypeRouter<double>(3), test::BankArchetype(factors(), 1));
  const double x[] = {1, -2, 3, -4};
  double y[] = {9, 9, 9, 9};
  moe::LayerOutput<double> out(moe::MatrixView<double>(y, 4, 1));
  moe::Workspace workspace;
  test::ExecutorArchetype executor(0);
  layer.forward(moe::ConstMatrixView<double>(x, 4, 1), out, workspace, executor);
  CHECK(y[0] == 1);
  CHECK(y[1] == -6);
  CHECK(y[2] == 3);
  CHECK(y[3] == -12);
}

TEST_CASE("a layer of trainable archetypes with an archetype capacity trains", "[layer][smoke]") {
  using Layer =
      moe::MoeLayer<test::TrainableRouterArchetype, test::TrainableBankArchetype, test::CapacityArchetype>;
  static_assert(Layer::kTrainable);
  static_assert(Layer::coupling(true) == moe::Coupling::per_batch);
  const Layer layer(test::TrainableRouterArchetype(3), test::TrainableBankArchetype(factors(), 1),
                    test::CapacityArchetype(2));
  const double x[] = {1, -2, 3, -4}, dy[] = {1, 10, 100, 1000};
  double y[4], dx[4];
  moe::LayerOutput<double> out(moe::MatrixView<double>(y, 4, 1));
  moe::Workspace workspace;
  test::ExecutorArchetype executor(0);
  Layer::Tape tape;
  layer.forward_train(moe::ConstMatrixView<double>(x, 4, 1), out, tape, workspace, executor);
  CHECK(tape.plan().dropped_count == 2);
  Layer::Gradients gradients = layer.make_gradients();
  Layer::LayerGradients back(moe::ConstMatrixView<double>(dy, 4, 1), moe::MatrixView<double>(dx, 4, 1),
                             gradients);
  layer.backward(tape, back, workspace, executor);
  const double want_y[] = {0, -6, 0, -12}, want_dx[] = {0, 30, 0, 3000};
  for (int t = 0; t < 4; ++t) {
    CHECK(y[t] == want_y[t]);
    CHECK(dx[t] == want_dx[t]);
  }
  CHECK(gradients.experts.factor[0] == 0);
  CHECK(gradients.experts.factor[2] == -2 * 10 - 4 * 1000);
}
