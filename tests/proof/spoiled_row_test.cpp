// A row that is not finite, under NonFinite::isolate_row: NaN in y, nothing in any gradient or loss, and no
// bit of any other row moves. Over the listed frames, capacities, banks and storages; routers: tests/router.
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "moe/catalogue.hpp"
#include "support/catch.hpp"
#include "support/layer_cases.hpp"
#include "support/same_bits.hpp"

namespace {

using test::Batch;
using test::Index;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr Index kTokens = 9, kSpoiled = 4;

struct Result {
  std::vector<float> y, dx, gradients;
  double losses = 0;
};

Result train(test::TestLayer<float>& layer, Batch<float>& batch, const std::vector<float>& dy) {
  moe::SerialExecutor serial;
  moe::Workspace workspace;
  moe::LayerOutput<float> out(batch.y_view());
  layer.forward_train(batch.input(), out, workspace, test::AnyExecutor(serial));
  Result r;
  r.y = batch.y;
  r.dx.assign(batch.x.size(), 0);
  r.losses = out.losses.total();
  layer.backward({dy.data(), batch.tokens, batch.width}, {r.dx.data(), batch.tokens, batch.width}, 1,
                 workspace, test::AnyExecutor(serial));
  layer.visit([&](const std::string&, moe::ParameterView<float>, moe::ParameterView<float> g) {
    for (Index i = 0; i < g.size(); ++i) r.gradients.push_back(g(i / g.cols, i % g.cols));
  });
  return r;
}

}  // namespace

TEST_CASE("a spoiled row is as if it were not there, in every listed part", "[proof]") {
  for (test::LayerCase one : test::layer_cases()) {
    one.spec.non_finite = moe::NonFinite::isolate_row;
    one.spec.load_balance = one.spec.z_loss = one.spec.sequence_balance = 0.3;
    const auto layer = test::make_layer<float>(one.spec);
    std::mt19937_64 random(5);
    Batch<float> batch(one.spec, kTokens, random);
    batch.offsets = {0, 6, kTokens};
    std::vector<float> dy(batch.x.size());
    for (std::size_t i = 0; i < dy.size(); ++i) dy[i] = static_cast<float>(i % 7) - 3;
    const auto row = [&](std::vector<float>& of) { return of.data() + kSpoiled * batch.width; };

    batch.valid = std::make_unique<bool[]>(static_cast<std::size_t>(kTokens));
    for (Index t = 0; t < kTokens; ++t) batch.valid[static_cast<std::size_t>(t)] = t != kSpoiled;
    Result want = train(*layer, batch, dy);
    for (Index j = 0; j < batch.width; ++j) row(want.y)[j] = kNan;
    batch.valid.reset();
    for (Index j = 0; j < batch.width; ++j) row(dy)[j] = kNan;  // what a loss makes of a y of NaN
    for (const float bad : {kNan, kInfinity, -kInfinity}) {
      INFO(one.part << ", x is " << bad);
      row(batch.x)[2] = bad;
      const Result got = train(*layer, batch, dy);
      CHECK(test::same_bits(got.y, want.y));
      CHECK(test::same_bits(got.dx, want.dx));
      CHECK(test::same_bits(got.gradients, want.gradients));
      CHECK(got.losses == want.losses);
    }
  }
}

TEST_CASE("an infinity behind a soft cap reaches nobody's gradients", "[proof]") {
  using Scorer = moe::MappedScorer<moe::LinearScorer<float>, moe::SoftCap>;
  moe::TokenChoice<Scorer, moe::Softmax, moe::TopKSelection, moe::GatherWeighting> router(
      Scorer(moe::LinearScorer<float>({.width = 8, .outputs = 4}), moe::SoftCap(3)), moe::Softmax{},
      moe::TopKSelection(2), moe::GatherWeighting{}, {}, moe::NonFinite::isolate_row);
  moe::Glu<moe::Silu> bank({.experts = 4, .width = 8, .hidden = 16});
  bank.initialise(2);
  router.scorer().inner().initialise(1);
  moe::MoeLayer layer(std::move(router), std::move(bank));
  std::vector<float> x(16 * 8), y(x.size()), dx(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 11) / 7 - 1;
  x[5 * 8] = kInfinity;
  const std::vector<float> dy(x.size(), 1);
  decltype(layer)::Tape tape;
  moe::Workspace workspace;
  moe::LayerOutput<float> out(moe::MatrixView<float>(y.data(), 16, 8));
  layer.forward_train(moe::ConstMatrixView<float>(x.data(), 16, 8), out, tape, workspace);
  auto gradients = layer.make_gradients();
  decltype(layer)::LayerGradients back(moe::ConstMatrixView<float>(dy.data(), 16, 8),
                                       moe::MatrixView<float>(dx.data(), 16, 8), gradients);
  layer.backward(tape, back, workspace);
  Index bad = 0, all = 0;
  layer.visit_storage(gradients, [&](const char*, float*, float* g, Index n) {
    for (Index i = 0; i < n; ++i, ++all) bad += moe::is_finite(g[i]) ? 0 : 1;
  });
  CHECK(all > 0);
  CHECK(bad == 0);
  for (const float g : dx) CHECK(moe::is_finite(g));
}
