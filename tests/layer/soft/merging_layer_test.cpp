#include "moe/layer/soft/merging_layer.hpp"

#include <cmath>
#include <utility>

#include "layer/soft/plain_merging.hpp"
#include "moe/executor/pool.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/layer/isolated_layer.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/soft/segment_mixer.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/layer_laws.hpp"
#include "support/same_bits.hpp"

using moe::Index;
using test::Values;

namespace {

using Linear = moe::LinearScorer<double>;
using Bank = moe::Glu<moe::Silu, double>;
using Layer = moe::MergingLayer<moe::SegmentMixer<Linear>, Bank>;

Layer make(Index width, Index hidden, Index experts, Index router_width = 0) {
  Layer layer(moe::SegmentMixer<Linear>(Linear(
                  {.width = router_width == 0 ? width : router_width, .outputs = experts, .bias = true})),
              Bank({experts, width, hidden, true}));
  test::draw_parameters(layer, 5, 0.3);
  return layer;
}
moe::LayerInput<double> input(const Values& x, Index width, Index rows_each) {
  moe::LayerInput<double> in(test::view(x, width));
  in.segments = moe::Segments::uniform(rows_each);
  return in;
}

}  // namespace

TEST_CASE("MergingLayer: laws of layers", "[layer]") {
  test::check_layer(
      "gated experts", [] { return make(5, 6, 3); }, [] { return make(5, 6, 4); });
}

TEST_CASE("threads change no bit, of parameters that are many stretches", "[layer]") {
  const auto layer = make(70, 40, 3);
  const Values x = test::random_rows(24, 70, 1), dy = test::random_rows(24, 70, 2);
  std::vector<Values> seen[3];
  for (const Index threads : {1, 2, 5}) {
    moe::PoolExecutor pool(threads);
    auto tape = layer.make_tape();
    auto gradients = layer.make_gradients();
    Values y(x.size()), dx(x.size()), flat;
    moe::LayerOutput<double> out(test::view(y, 70));
    moe::Workspace workspace;
    layer.forward_train(input(x, 70, 8), out, tape, workspace, pool);
    layer.backward(tape, Layer::LayerGradients(test::view(dy, 70), test::view(dx, 70), gradients), workspace,
                   pool);
    layer.visit_storage(gradients, [&](const char*, const double*, const double* g, Index n) {
      flat.insert(flat.end(), g, g + n);
    });
    seen[0].push_back(y), seen[1].push_back(dx), seen[2].push_back(flat);
  }
  for (const auto& values : seen) {
    CHECK(test::same_bits(values[0], values[1]));
    CHECK(test::same_bits(values[0], values[2]));
  }
}

TEST_CASE("a workspace holds one merged expert, however many there are and whoever works", "[layer]") {
  const Index one = Bank({1, 64, 96, true}).bytes();
  const auto bytes = [](Index experts, moe::Mode mode, Index workers) {
    return make(64, 96, experts).workspace_bytes({8, 2}, mode, workers);
  };
  const Index few = bytes(2, moe::Mode::inference, 1), many = bytes(64, moe::Mode::inference, 4);
  CHECK(few >= one);
  CHECK(few < one + one / 2);
  CHECK(many - few < one / 2);
  CHECK(bytes(2, moe::Mode::training, 1) >= 2 * one);
}

TEST_CASE("rows of its own for the mixer have a gradient of their own", "[layer]") {
  auto layer = make(4, 5, 3, 2);
  const Values x = test::random_rows(6, 4, 3), dy = test::random_rows(6, 4, 4);
  Values features = test::random_rows(6, 2, 5);
  auto in = input(x, 4, 3);
  in.router_x = test::view(std::as_const(features), 2);
  CHECK(test::gradient_error(layer, in, 1) <= 1e-9);
  auto tape = layer.make_tape();
  const Values y = test::train_layer(layer, in, tape);
  Values dx(x.size()), router_dx(features.size());
  Layer::LayerGradients out(test::view(dy, 4), test::view(dx, 4));
  out.router_dx = test::view(router_dx, 2);
  moe::Workspace workspace;
  layer.backward(tape, out, workspace);
  for (std::size_t i = 0; i < features.size(); ++i) {
    const double own = features[i], step = 1e-5;
    double value[2];
    for (const int side : {0, 1}) {
      features[i] = side == 0 ? own + step : own - step;
      const Values z = test::run_layer(layer, in);
      value[side] = 0;
      for (std::size_t j = 0; j < z.size(); ++j) value[side] += dy[j] * z[j];
    }
    features[i] = own;
    CHECK(std::fabs((value[0] - value[1]) / (2 * step) - router_dx[i]) <= 1e-8);
  }
}

TEST_CASE("segments of one mixture share the expert that was merged for the first of them", "[layer]") {
  // Equal segments have equal mixtures; the last one has its own again.
  const auto layer = make(4, 5, 3);
  Values x = test::random_rows(3, 4, 6);
  const Values other = test::random_rows(3, 4, 7);
  Values all = x;
  all.insert(all.end(), x.begin(), x.end());
  all.insert(all.end(), other.begin(), other.end());
  all.insert(all.end(), x.begin(), x.end());
  const Values y = test::run_layer(layer, input(all, 4, 3)), alone = test::run_layer(layer, input(x, 4, 3));
  for (const Index s : {0, 1, 3})
    CHECK(test::same_bits(Values(y.begin() + s * 12, y.begin() + s * 12 + 12), alone));
}

TEST_CASE("a call that is refused leaves the tape of the one before", "[layer]") {
  const auto layer = make(4, 5, 3);
  const Values x = test::random_rows(6, 4, 8), dy = test::random_rows(6, 4, 9);
  auto tape = layer.make_tape();
  test::train_layer(layer, input(x, 4, 3), tape);
  Values before(x.size()), after(x.size());
  moe::Workspace workspace;
  layer.backward(tape, Layer::LayerGradients(test::view(dy, 4), test::view(before, 4)), workspace);
  Values bad = x;
  bad[5] = INFINITY;
  CHECK_THROWS_AS(test::train_layer(layer, input(bad, 4, 2), tape), moe::numeric_error);
  layer.backward(tape, Layer::LayerGradients(test::view(dy, 4), test::view(after, 4)), workspace);
  CHECK(test::same_bits(before, after));
  CHECK(tape.tokens() == 6);
}

TEST_CASE("what a merging layer refuses, it refuses before anything is written", "[layer]") {
  CHECK(test::message_of<moe::config_error>([] {
          Layer(moe::SegmentMixer<Linear>(Linear({.width = 4, .outputs = 2})), Bank({3, 4, 5}));
        }) == "moe: layer: expected as many experts in the bank as the mixer weighs, 2, got 3");
  CHECK(test::message_of<moe::config_error>([] {
          Layer(moe::SegmentMixer<Linear>(Linear({.width = 4, .outputs = 2})),
                Bank({.experts = 2, .width = 4, .hidden = 5, .output = 3}));
        }) == "moe: layer: expected experts whose results are as wide as their rows, 4, got 3");
  auto layer = make(4, 5, 3);
  const Values x = test::random_rows(6, 4, 10), dy = test::random_rows(6, 4, 11);
  struct Looks : moe::Observer<double> {
    void see(const moe::CallView<double>&) override {}
  } looks;
  Values y(x.size(), 3);
  moe::LayerOutput<double> out(test::view(y, 4));
  out.observer = &looks;
  moe::Workspace workspace;
  CHECK(test::message_of<moe::config_error>([&] { layer.forward(input(x, 4, 3), out, workspace); }) ==
        "moe: observer: expected none for a layer of merged experts, which routes no row");
  out.observer = nullptr;
  moe::RouteStats stats;
  stats.load.assign(2, 1);
  out.stats = &stats;
  CHECK_THROWS_AS(layer.forward(input(x, 4, 3), out, workspace), moe::shape_error);
  out.stats = nullptr;
  for (const double v : y) CHECK(v == 3);

  auto tape = layer.make_tape();
  test::train_layer(layer, input(x, 4, 3), tape);
  Layer::LayerGradients back(test::view(dy, 4), {});
  back.auxiliary_scale = NAN;
  CHECK_THROWS_AS(layer.backward(tape, back, workspace), moe::config_error);
  back.auxiliary_scale = 1;
  Values router_dx(x.size());
  back.router_dx = test::view(router_dx, 4);
  CHECK_THROWS_AS(layer.backward(tape, back, workspace), moe::config_error);
  const Layer moved = std::move(layer);
  CHECK_THROWS_AS(layer.forward(input(x, 4, 3), out, workspace), moe::state_error);
  CHECK(test::run_layer(moved, input(x, 4, 3)).size() == x.size());
  CHECK_NOTHROW(moved.backward(tape, Layer::LayerGradients(test::view(dy, 4), {}), workspace));
}

TEST_CASE("a merging layer couples a segment, no more: it may be isolated", "[layer]") {
  const moe::IsolatedLayer<Layer> layer(make(4, 5, 3));
  const Values x = test::random_rows(6, 4, 12);
  CHECK(test::run_layer(layer, input(x, 4, 3)).size() == x.size());
  CHECK_THROWS_AS(test::run_layer(layer, moe::LayerInput<double>(test::view(x, 4))), moe::config_error);
  CHECK(Layer::coupling(false) == moe::Coupling::per_segment);
}

TEST_CASE("mixer and bank may live elsewhere, shared by layers", "[layer]") {
  auto owned = make(4, 5, 3);
  moe::MergingLayer<moe::SegmentMixer<Linear>&, Bank&> shared(owned.router(), owned.experts());
  const Values x = test::random_rows(6, 4, 13);
  CHECK(test::same_bits(test::run_layer(owned, input(x, 4, 3)), test::run_layer(shared, input(x, 4, 3))));
}
