// Whole layers on a pool, for the thread sanitizer (which Eigen's own pool, in invariance_test.cpp, does not
// bear).
#include <cstring>

#include "moe/executor/pool.hpp"
#include "support/catch.hpp"
#include "support/random_spec.hpp"

namespace {

using namespace test;

/// y, dx and parameter gradients of one training call.
std::vector<float> train(TestLayer<float>& layer, Batch<float>& batch, AnyExecutor executor) {
  moe::Workspace workspace;
  moe::LayerOutput<float> out(batch.y_view());
  layer.forward_train(batch.input(), out, workspace, executor);
  std::vector<float> results = batch.y, dx(batch.x.size());
  layer.backward(batch.x_view(), {dx.data(), batch.tokens, batch.width}, 1, workspace, executor);
  results.insert(results.end(), dx.begin(), dx.end());
  layer.visit([&](const std::string&, moe::ParameterView<float>, moe::ParameterView<float> g) {
    for (Index i = 0; i < g.size(); ++i) results.push_back(g(i / g.cols, i % g.cols));
  });
  return results;
}

}  // namespace

TEST_CASE("random layers train to the same bits on a pool", "[threads]") {
  moe::SerialExecutor serial;
  moe::PoolExecutor pool(4);
  for (std::uint64_t seed = 0; seed < 24; ++seed) {
    Draw draw(seed + 70);
    const LayerSpec spec = random_spec(draw, true);
    const auto layer = make_layer<float>(spec);
    Batch<float> batch = random_batch<float>(draw, spec, 40);
    const std::vector<float> want = train(*layer, batch, AnyExecutor(serial));
    const std::vector<float> got = train(*layer, batch, AnyExecutor(pool));
    INFO("configuration " << seed);
    REQUIRE(got.size() == want.size());
    CHECK(std::memcmp(got.data(), want.data(), want.size() * sizeof(float)) == 0);
  }
}
