// AnyLayer: what the erased type does beyond the typed layer behind it.
#include "moe/models/any/any_layer.hpp"

#include <array>
#include <cstring>
#include <sstream>
#include <string>

#include "models/fixture.hpp"
#include "moe/executor/pool.hpp"
#include "moe/layer/concept.hpp"
#include "support/catch.hpp"

static_assert(moe::TokenLayer<moe::models::AnyLayer>);

using test::Golden;
using test::Index;
using test::Ran;

TEST_CASE("an erased layer says what it is", "[models]") {
  const Golden golden("longcat_flash");
  const auto layer = golden.load();
  CHECK(layer.spec().model == "longcat_flash");
  CHECK(layer.width() == 32);
  CHECK(layer.experts() == 10);  // 7, and 3 that copy
  CHECK(layer.coupling(true) == moe::Coupling::row_independent);
  CHECK(layer.bytes() >= 7 * 3 * 32 * 20 * 4);
  std::ostringstream out;
  out << layer;
  CHECK(out.str() == R"(layer of width 32, 10 experts, row_independent
  model longcat_flash
  scorer linear
  score softmax
  selection top_k
  weighting gather
  balance selection_bias
  capacity dropless
  experts glu
  weights float
  experts zero_computation
  frame identity
)");
}

TEST_CASE("any executor and a fixed workspace give the same bits", "[models]") {
  for (const char* const folder : {"deepseek_v3", "nemotron_h_2", "moepp", "llama4_2"}) {
    const Golden golden(folder);
    const auto layer = golden.load();
    const Ran want(layer, golden.input());
    moe::PoolExecutor pool(3);
    const Index bytes = layer.workspace_bytes(golden.tokens, moe::Mode::inference, pool.concurrency());
    std::vector<std::byte> block(static_cast<std::size_t>(bytes));
    moe::Workspace fixed{std::span<std::byte>(block)};
    std::vector<float> y(golden.y.size());
    moe::LayerOutput<float> out(moe::MatrixView<float>(y.data(), golden.tokens, golden.width));
    layer.forward(golden.input(), out, fixed, pool);
    CHECK(y == want.y);
  }
}

TEST_CASE("frozen parts get no gradients, gradients add up and go back to zero", "[models]") {
  const Golden golden("qwen2_moe");
  auto layer = golden.load();
  const Ran ran(layer, golden.input());
  auto gradients = layer.make_gradients();
  moe::Workspace workspace;
  const auto run = [&](moe::models::Trained trained) {
    layer.backward(ran.tape,
                   {.dy = moe::ConstMatrixView<float>(golden.dy.data(), golden.tokens, golden.width),
                    .gradients = &gradients,
                    .trained = trained},
                   workspace);
  };
  const auto sizes = [&] {
    std::array<double, 3> size{};  // router, experts, shared
    layer.visit_storage(gradients, [&](const char* name, float*, float* g, Index n) {
      const std::size_t part =
          std::strncmp(name, "gate", 4) == 0 ? 0 : (std::strncmp(name, "experts", 7) == 0 ? 1 : 2);
      for (Index i = 0; i < n; ++i) size[part] += std::abs(static_cast<double>(g[i]));
    });
    return size;
  };
  run({.router = true, .experts = false, .shared = false});
  auto s = sizes();
  CHECK((s[0] > 0 && s[1] == 0 && s[2] == 0));
  run({.router = false, .experts = true, .shared = true});
  const double router = s[0];
  s = sizes();
  CHECK((s[0] == router && s[1] > 0 && s[2] > 0));
  layer.zero_gradients(gradients);
  s = sizes();
  CHECK((s[0] == 0 && s[1] == 0 && s[2] == 0));
}

TEST_CASE("tapes and gradients of another kind of layer are refused", "[models]") {
  const Golden golden("mixtral"), other("switch_transformers");
  const auto layer = golden.load(), limited = other.load();
  const Ran ran(layer, golden.input());
  moe::Workspace workspace;
  auto gradients = limited.make_gradients();
  const moe::models::AnyLayer::Backward call{
      .dy = moe::ConstMatrixView<float>(golden.dy.data(), golden.tokens, golden.width),
      .gradients = &gradients};
  CHECK_THROWS_AS(layer.backward(ran.tape, call, workspace), moe::state_error);
  auto tape = limited.make_tape();
  std::vector<float> y(golden.y.size());
  moe::LayerOutput<float> out(moe::MatrixView<float>(y.data(), golden.tokens, golden.width));
  CHECK_THROWS_AS(layer.forward_train(golden.input(), out, tape, workspace), moe::state_error);
}

TEST_CASE("parameters can be changed, and state moves with the steps", "[models]") {
  const Golden golden("deepseek_v3");
  auto layer = golden.load();
  const Ran before(layer, golden.input());
  Index names = 0;
  layer.visit_parameters([&](const moe::Parameter<float>& p) {
    ++names;
    if (std::string(p.name) != "gate.weight") return;
    for (Index i = 0; i < p.value.cols; ++i) p.value(0, i) = -p.value(0, i);
  });
  CHECK(names == 1 + 3 * 12 + 3);
  CHECK(Ran(layer, golden.input()).y != before.y);
  double bias = 0;
  layer.visit_state([&](const char* name, double* values, Index n) {
    CHECK(std::string(name) == "e_score_correction_bias");
    CHECK(n == 12);
    bias = values[0];
  });
  moe::RouteStats stats;
  moe::LayerOutput<float> out;
  std::vector<float> y(golden.y.size());
  out.y = moe::MatrixView<float>(y.data(), golden.tokens, golden.width);
  out.stats = &stats;
  moe::Workspace workspace;
  layer.forward(golden.input(), out, workspace);
  CHECK(stats.pairs() == golden.tokens * golden.k);
  layer.on_step_end(stats);  // speed 0: the loaded bias stays
  layer.visit_state([&](const char*, double* values, Index) { CHECK(values[0] == bias); });
}
