// The layer asks of router, bank, capacity policy, frame, shared part and executor what their concepts say,
// and no more; what is built of layers asks of a layer what TokenLayer says.
#include "support/archetypes.hpp"

#include <set>
#include <string>
#include <vector>

#include "moe/expert/bank/any.hpp"
#include "moe/expert/bank/composite.hpp"
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/layer/isolated_layer.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/layer/shared/shared_experts.hpp"
#include "support/catch.hpp"
#include "support/layer_archetypes.hpp"
#include "support/layer_part_archetypes.hpp"

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

TEST_CASE("banks that have the least train in composites, run-time choices and shared experts",
          "[layer][smoke]") {
  using Bank = test::TrainableBankArchetype;
  using Chosen = moe::OneBank<Bank, moe::ZeroComputation<double>>;
  moe::MoeLayer layer(test::TrainableRouterArchetype(6),
                      moe::Composite(Bank(factors(), 1), Chosen(Bank(factors(), 1))), moe::Dropless{},
                      moe::SharedExperts(Bank(factors(), 1)));
  using Layer = decltype(layer);
  static_assert(Layer::kTrainable);
  const double x[] = {1, -2}, dy[] = {1, 10};
  double y[2], dx[2];
  moe::LayerOutput<double> out(moe::MatrixView<double>(y, 2, 1));
  moe::Workspace workspace;
  Layer::Tape tape;
  layer.forward_train(moe::ConstMatrixView<double>(x, 2, 1), out, tape, workspace);
  CHECK((y[0] == 1 * (1 + 6) && y[1] == -2 * (3 + 6)));  // shared: 1 + 2 + 3
  Layer::Gradients gradients = layer.make_gradients();
  Layer::LayerGradients back(moe::ConstMatrixView<double>(dy, 2, 1), moe::MatrixView<double>(dx, 2, 1),
                             gradients);
  layer.backward(tape, back, workspace);
  CHECK((dx[0] == 7 && dx[1] == 90));
  std::set<std::string> parameters, ranges;
  double sum = 0;
  layer.visit_parameters(gradients, [&](const moe::Parameter<double>& p) { parameters.insert(p.name); });
  layer.visit_storage(gradients, [&](const char* name, double*, double* g, Index n) {
    ranges.insert(name);
    for (Index i = 0; i < n; ++i) sum += g[i];
  });
  CHECK(parameters == std::set<std::string>{"experts.0-2.factor", "experts.3-5.factor", "shared_factor"});
  CHECK(ranges == parameters);
  CHECK(sum == (1 - 20) + 3 * (1 - 20));
  layer.visit_state([](const char*, double*, Index) { FAIL("no state"); });
  layer.on_step_end(moe::RouteStats{});
}

TEST_CASE("a layer trains with an archetype frame and an archetype shared part", "[layer][smoke]") {
  using Layer = moe::MoeLayer<test::TrainableRouterArchetype, test::TrainableBankArchetype, moe::Dropless,
                              test::SharedArchetype, test::FrameArchetype>;
  static_assert(Layer::kTrainable);
  const Layer layer(test::TrainableRouterArchetype(3), test::TrainableBankArchetype(factors(), 1),
                    moe::Dropless{}, test::SharedArchetype(1, 10), test::FrameArchetype());
  const double x[] = {1, -2, 3, -4}, dy[] = {1, 10, 100, 1000};
  const bool valid[] = {true, true, true, false};
  double y[4], trained_y[4], dx[4];
  moe::LayerInput<double> in(moe::ConstMatrixView<double>(x, 4, 1));
  in.valid = valid;
  moe::LayerOutput<double> out(moe::MatrixView<double>(y, 4, 1)),
      again(moe::MatrixView<double>(trained_y, 4, 1));
  moe::Workspace workspace;
  test::ExecutorArchetype executor(0);
  layer.forward(in, out, workspace, executor);
  Layer::Tape tape = layer.make_tape();
  layer.forward_train(in, again, tape, workspace, executor);
  Layer::Gradients gradients = layer.make_gradients();
  Layer::LayerGradients back(moe::ConstMatrixView<double>(dy, 4, 1), moe::MatrixView<double>(dx, 4, 1),
                             gradients);
  layer.backward(tape, back, workspace, executor);
  // 3 f(2 x) + 10 x, f the first expert (factor 1) or, of a negative row, the last (factor 3).
  const double want_y[] = {16, -56, 48, 0}, want_dx[] = {16, 280, 1600, 0};
  for (int t = 0; t < 4; ++t) {
    CHECK(y[t] == want_y[t]);
    CHECK(trained_y[t] == want_y[t]);
    CHECK(dx[t] == want_dx[t]);
  }
  CHECK(gradients.shared.factor == 1 - 20 + 300);
  CHECK(gradients.experts.factor[0] == 3 * 2 + 3 * 6 * 100);
}

namespace {

/// What a chain does with its layers: two calls in a row, and back.
template <moe::TokenLayer L>
void twice(const L& layer, const moe::ConstMatrixView<double>& x, const moe::MatrixView<double>& y,
           const moe::MatrixView<double>& dx) {
  test::ExecutorArchetype executor(0);
  moe::Workspace workspace;
  workspace.reserve(layer.workspace_bytes(moe::CallShape{x.rows, 1}, moe::Mode::training, 3));
  std::vector<double> middle(static_cast<std::size_t>(x.rows * layer.width()));
  const moe::MatrixView<double> rows(middle.data(), x.rows, layer.width());
  typename L::Tape first = layer.make_tape(), second = layer.make_tape();
  moe::LayerOutput<double> inner(rows), outer(y);
  layer.forward_train(moe::LayerInput<double>(x), inner, first, workspace, executor);
  layer.forward_train(moe::LayerInput<double>(moe::ConstMatrixView<double>(rows)), outer, second, workspace,
                      executor);
  typename L::LayerGradients back{};
  back.dy = y;
  back.dx = rows;
  layer.backward(second, back, workspace, executor);
  back.dy = rows;
  back.dx = dx;
  layer.backward(first, back, workspace, executor);
  CHECK(layer.coupling(true) == moe::Coupling::row_independent);
}

}  // namespace

TEST_CASE("layers meet TokenLayer: an archetype, a MoeLayer, an isolated one", "[layer][smoke]") {
  using Layer = moe::MoeLayer<test::TrainableRouterArchetype, test::TrainableBankArchetype>;
  static_assert(moe::TokenLayer<Layer>);
  static_assert(moe::TokenLayer<moe::IsolatedLayer<Layer>>);
  static_assert(!moe::TokenLayer<moe::MoeLayer<test::ArchetypeRouter<double>, test::BankArchetype>>);
  const double x[] = {1, -2};
  double y[2], dx[2];
  const moe::ConstMatrixView<double> rows(x, 2, 1);
  const moe::MatrixView<double> out(y, 2, 1), din(dx, 2, 1);
  twice(test::LayerArchetype(1), rows, out, din);
  CHECK((y[0] == 4 && y[1] == -8 && dx[0] == 16 && dx[1] == -32));
  twice(Layer(test::TrainableRouterArchetype(3), test::TrainableBankArchetype(factors(), 1)), rows, out, din);
  CHECK((y[0] == 1 && y[1] == -18 && dx[0] == 1 && dx[1] == -162));
}
