// AnyLayer: what the erased type does beyond the typed layer behind it.
#include "moe/models/any/any_layer.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <sstream>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "models/fixture.hpp"
#include "moe/archive/writer.hpp"
#include "moe/executor/pool.hpp"
#include "moe/layer/concept.hpp"
#include "moe/train/adamw.hpp"
#include "moe/train/trained_layer.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/taken.hpp"

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

TEST_CASE("an erased layer hands on what comes from outside", "[models]") {
  const Golden golden("qwen2_moe");
  auto layer = golden.load();
  const Ran ran(layer, golden.input());
  auto gradients = layer.make_gradients();
  moe::Workspace workspace;
  moe::models::AnyLayer::Backward call{
      .dy = moe::ConstMatrixView<float>(golden.dy.data(), golden.tokens, golden.width),
      .gradients = &gradients};
  const auto sizes = [&] {
    layer.zero_gradients(gradients);
    layer.backward(ran.tape, call, workspace);
    std::array<double, 2> size{};  // router, experts
    layer.visit_storage(gradients, [&](const char* name, float*, float* g, Index n) {
      for (Index i = 0; i < n && std::strncmp(name, "shared", 6) != 0; ++i)
        size[std::strncmp(name, "gate", 4) == 0 ? 0 : 1] += std::abs(static_cast<double>(g[i]));
    });
    return size;
  };
  const auto plain = sizes();
  moe::Buffer<bool> frozen;
  frozen.assign(ran.tape.routes().pairs(), true);
  call.frozen_pair = frozen;
  CHECK((sizes()[0] == plain[0] && sizes()[1] == 0));
  std::vector<float> dlogit(static_cast<std::size_t>(golden.tokens * layer.experts()), 0);
  dlogit[1] = 1e3F;
  call.dlogit = moe::ConstMatrixView<float>(dlogit.data(), golden.tokens, layer.experts());
  CHECK(sizes()[0] > plain[0]);
  const std::vector<double> advantage(static_cast<std::size_t>(golden.tokens), 1);
  call.advantage = advantage;
  CHECK_THROWS_AS(sizes(), moe::config_error);  // nothing was sampled
}

TEST_CASE("storage shown with a backward has no gradients of frozen parts", "[models]") {
  const Golden golden("qwen2_moe");
  auto layer = golden.load();
  auto gradients = layer.make_gradients();
  const auto trained_ranges = [&](const moe::models::AnyLayer::Backward& call) {
    std::string names;
    layer.visit_storage(call, [&](const char* name, float*, float* g, Index) {
      if (g != nullptr) names.append(name).append(" ");
    });
    return names;
  };
  moe::models::AnyLayer::Backward call;
  call.gradients = &gradients;
  CHECK(trained_ranges(call) ==
        "gate.weight experts.gate_up experts.down shared_experts.gate_up shared_experts.down "
        "shared_expert_gate.weight ");
  call.trained = {.experts = false, .shared = false};
  CHECK(trained_ranges(call) == "gate.weight ");
  CHECK(trained_ranges({}).empty());
}

// Every part's ranges hold all its parameters and nothing else that is not 0.
TEST_CASE("an optimiser moves every parameter of every model and keeps its state by name", "[models]") {
  for (const std::string& folder : test::golden_folders()) {
    CAPTURE(folder);
    if (folder == "nllb_moe_2" || folder == "nllb_moe_3") continue;  // refused, see docs/models.md
    auto layer = Golden(folder).load();
    auto gradients = layer.make_gradients();
    const moe::TrainedLayer trained(layer, gradients);
    std::vector<float> before;
    Index parameters = 0, wrong = 0, states = 0;
    double packed = 0, logical = 0;
    layer.visit_parameters(gradients, [&](const moe::Parameter<float>& p) {
      ++parameters;
      for (Index o = 0; o < p.value.rows; ++o) {
        for (Index i = 0; i < p.value.cols; ++i) {
          p.gradient(o, i) = 1;
          before.push_back(p.value(o, i));
        }
      }
    });
    moe::AdamW<float> optimiser({.decay = 0});
    optimiser.step(trained, 0.25);  // the first step of each is the rate
    std::size_t n = 0;
    layer.visit_parameters([&](const moe::Parameter<float>& p) {
      for (Index o = 0; o < p.value.rows; ++o) {
        for (Index i = 0; i < p.value.cols; ++i) {
          wrong += !(std::abs(before[n++] - p.value(o, i) - 0.25f) < 1e-4f);
          logical += std::abs(static_cast<double>(p.value(o, i)));
        }
      }
    });
    trained.visit_storage([&](const char*, const float* w, const float* g, Index count) {
      for (Index i = 0; i < count; ++i) {
        wrong += g[i] != 0;
        packed += std::abs(static_cast<double>(w[i]));
      }
    });
    CHECK(wrong == 0);
    CHECK(std::abs(packed - logical) <= 1e-9 * logical);
    auto state = optimiser.state(trained);
    state.visit_parameters([&](const moe::Parameter<float>&) { ++states; });
    CHECK(states == 2 * parameters);
    moe::ArchiveWriter writer;
    writer.add_layer("optimiser", state);
    CHECK_NOTHROW(writer.bytes());  // no two of one name
  }
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
  CHECK_THROWS_AS(layer.backward(ran.tape, call, workspace), moe::shape_error);
  auto tape = limited.make_tape();
  std::vector<float> y(golden.y.size());
  moe::LayerOutput<float> out(moe::MatrixView<float>(y.data(), golden.tokens, golden.width));
  CHECK_THROWS_AS(layer.forward_train(golden.input(), out, tape, workspace), moe::state_error);
}

TEST_CASE("layers, tapes and gradients that were moved from are refused", "[models]") {
  const Golden golden("mixtral");
  auto layer = golden.load();
  auto tape = layer.make_tape();
  auto gradients = layer.make_gradients();
  moe::Workspace workspace;
  std::vector<float> y(golden.y.size());
  moe::LayerOutput<float> out(moe::MatrixView<float>(y.data(), golden.tokens, golden.width));
  layer.forward_train(golden.input(), out, tape, workspace);
  moe::models::AnyLayer::Backward call{
      .dy = moe::ConstMatrixView<float>(golden.dy.data(), golden.tokens, golden.width),
      .gradients = &gradients};
  const auto message = [](const auto& f) { return test::message_of<moe::state_error>(f); };
  const auto gone = [](const char* what) {
    return std::string("moe: ") + what + ": expected one with its parts, got one that was moved from";
  };
  const auto kept = test::taken(gradients);
  CHECK(message([&] { layer.backward(tape, call, workspace); }) == gone("gradients"));
  CHECK(message([&] { layer.zero_gradients(gradients); }) == gone("gradients"));
  call.gradients = nullptr;
  const auto moved_tape = test::taken(tape);
  CHECK(tape.tokens() == 0);
  CHECK(message([&] { tape.routes(); }) == gone("tape"));
  CHECK(message([&] { layer.backward(tape, call, workspace); }) == gone("tape"));
  CHECK(message([&] { layer.forward_train(golden.input(), out, tape, workspace); }) == gone("tape"));
  const auto moved = test::taken(layer);
  CHECK_NOTHROW(moved.backward(moved_tape, call, workspace));
  CHECK(message([&] { layer.forward(golden.input(), out, workspace); }) == gone("layer"));
  CHECK(message([&] { layer.make_tape(); }) == gone("layer"));
  CHECK(message([&] { layer.workspace_bytes(3); }) == gone("layer"));
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

TEST_CASE("a const layer shows what others do", "[models]") {
  for (const char* const folder : {"deepseek_v3", "qwen2_moe", "moepp"}) {
    for (const auto storage : {moe::models::StorageKind::float32, moe::models::StorageKind::int8}) {
      const Golden golden(folder);
      auto layer = golden.load({.storage = storage});
      const auto& reads = std::as_const(layer);
      auto gradients = layer.make_gradients();
      std::vector<std::pair<std::string, std::vector<double>>> written, shown;
      const auto into = [](auto& all) {
        return [&all](const char* name, auto* values, auto... rest) {
          const Index n = std::get<sizeof...(rest) - 1>(std::tuple(rest...));
          all.emplace_back(name, std::vector<double>());
          for (Index i = 0; i < n; ++i) {
            if constexpr (std::is_same_v<std::remove_cvref_t<decltype(*values)>, std::byte>) {
              all.back().second.push_back(std::to_integer<int>(values[i]));
            } else {
              all.back().second.push_back(static_cast<double>(values[i]));
            }
          }
        };
      };
      layer.visit_storage(gradients, into(written));
      layer.visit_packed(into(written));
      layer.visit_state(into(written));
      reads.visit_storage(gradients, into(shown));
      reads.visit_packed(into(shown));
      reads.visit_state(into(shown));
      layer.visit_parameters([&](const moe::Parameter<float>& p) {
        written.push_back({p.name, {static_cast<double>(p.value(p.value.rows - 1, p.value.cols - 1))}});
      });
      reads.visit_parameters([&](const moe::Parameter<const float>& p) {
        shown.push_back({p.name, {static_cast<double>(p.value(p.value.rows - 1, p.value.cols - 1))}});
      });
      CHECK(!shown.empty());
      CHECK(shown == written);
      reads.zero_gradients(gradients);
    }
  }
}
