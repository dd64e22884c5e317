// Layers loaded into block storages.
#include <string>

#include "models/fixture.hpp"
#include "moe/models/any/quantise.hpp"
#include "support/catch.hpp"

MOE_NAMESPACE_BEGIN
namespace models::impl {
template AnyLayer load_any<BFloat16>(const LayerSource*, const LayerSpec&, OptionsRouter<float>,
                                     const LoadProgress&);
template AnyLayer load_any<Int8Groups<>>(const LayerSource*, const LayerSpec&, OptionsRouter<float>,
                                         const LoadProgress&);
template AnyLayer load_any<Int4Groups<>>(const LayerSource*, const LayerSpec&, OptionsRouter<float>,
                                         const LoadProgress&);
template AnyLayer load_any<Int8Channels>(const LayerSource*, const LayerSpec&, OptionsRouter<float>,
                                         const LoadProgress&);
template AnyLayer load_any<Q4K>(const LayerSource*, const LayerSpec&, OptionsRouter<float>,
                                const LoadProgress&);
template AnyLayer load_any<Q6K>(const LayerSource*, const LayerSpec&, OptionsRouter<float>,
                                const LoadProgress&);
}  // namespace models::impl
MOE_NAMESPACE_END

namespace models = moe::models;
using models::StorageKind;
using test::Golden;
using test::Index;
using test::Ran;

TEST_CASE("layers loaded into block storages: the same routes, less memory, results near", "[models]") {
  struct Kind {
    StorageKind storage;
    double
        off;  // of the largest result: some 30 half steps of 2^-8, of 1 / 127, of 1 / 7 of the largest of 32
  };
  for (const char* const folder :
       {"deepseek_v3", "gpt_oss", "nemotron_h", "longcat_flash", "moepp", "switch_transformers"}) {
    const Golden golden(folder);
    const auto exact = golden.load();
    const Ran want(exact, golden.input());
    double size = 0;
    for (const float v : want.y) size = std::max(size, std::abs(static_cast<double>(v)));
    for (const Kind& kind : {Kind{StorageKind::bfloat16, 0.05}, Kind{StorageKind::int8, 0.1},
                             Kind{StorageKind::int4, 0.7}, Kind{StorageKind::int8_channels, 0.1}}) {
      INFO(folder << " as storage " << static_cast<int>(kind.storage));
      const auto layer = golden.load({.storage = kind.storage});
      const Ran got(layer, golden.input());
      const auto &a = want.tape.routes(), &b = got.tape.routes();
      REQUIRE(a.pairs() == b.pairs());
      for (Index p = 0; p < a.pairs(); ++p) {
        CHECK(a.expert[p] == b.expert[p]);
        CHECK(a.weight[p] == b.weight[p]);
      }
      double worst = 0;
      bool differs = false;
      for (std::size_t i = 0; i < want.y.size(); ++i) {
        const double off = std::abs(static_cast<double>(got.y[i]) - static_cast<double>(want.y[i]));
        worst = off <= worst ? worst : off;
        differs = differs || off != 0;
      }
      CHECK(worst <= kind.off * size);
      CHECK(differs);  // rounded at all
      Index packed = 0;
      auto all = golden.load({.storage = kind.storage});
      all.visit_packed([&](const char*, std::byte*, Index n) { packed += n; });
      CHECK(packed > 0);
    }
  }
}

TEST_CASE("a rounded layer still gives gradients to its router", "[models]") {
  const Golden golden("deepseek_v3");
  auto layer = golden.load({.storage = StorageKind::int8});
  const Ran ran(layer, golden.input());
  auto gradients = layer.make_gradients();
  moe::Workspace workspace;
  layer.backward(ran.tape,
                 {.dy = moe::ConstMatrixView<float>(golden.dy.data(), golden.tokens, golden.width),
                  .gradients = &gradients,
                  .trained = {.router = true, .experts = false, .shared = false, .frame = false}},
                 workspace);
  double of_router = 0, of_rest = 0;
  layer.visit_storage(gradients, [&](const char* name, float*, float* g, Index n) {
    for (Index i = 0; i < n; ++i)
      (std::string(name).find("gate.") == 0 ? of_router : of_rest) += std::abs(static_cast<double>(g[i]));
  });
  CHECK(of_router > 0);
  CHECK(of_rest == 0);
}

TEST_CASE("quantise of a loaded layer gives the layer loaded into that storage, bit for bit", "[models]") {
  for (const char* const folder : {"deepseek_v3", "nemotron_h", "longcat_flash", "moepp", "swin_moe"}) {
    const Golden golden(folder);
    const auto exact = golden.load();
    for (const StorageKind storage : {StorageKind::float32, StorageKind::bfloat16, StorageKind::int8,
                                      StorageKind::int4, StorageKind::int8_channels}) {
      INFO(folder << " as storage " << static_cast<int>(storage));
      const auto rounded = models::quantise(exact, storage);
      const auto want = golden.load({.storage = storage});
      CHECK(Ran(rounded, golden.input()).y == Ran(want, golden.input()).y);
      CHECK(moe::describe(rounded) == moe::describe(want));
      CHECK(rounded.bytes() == want.bytes());
      CHECK(rounded.spec().model == exact.spec().model);
    }
  }
  const Golden golden("mixtral");
  CHECK_THROWS_AS(models::quantise(golden.load(), static_cast<StorageKind>(moe::Storages::kSize)),
                  moe::config_error);
}

TEST_CASE("int8 channels of a W8A8 checkpoint are not rounded again, and give what its runtime does",
          "[models]") {
  const Golden golden("w8a8/qwen2_moe");
  const auto distance = [&](const models::AnyLayer& layer) {
    const Ran got(layer, golden.input());
    double worst = 0, size = 0;
    for (std::size_t i = 0; i < golden.y.size(); ++i) {
      const auto y = static_cast<double>(golden.y[i]);
      worst = std::max(worst, std::abs(static_cast<double>(got.y[i]) - y));
      size = std::max(size, std::abs(y));
    }
    return worst / size;
  };
  // Codes of rows and weights are the same; what is left are some roundings of float. A code that is off by
  // one shows in the third figure.
  CHECK(distance(golden.load({.storage = StorageKind::int8_channels})) < 0x1p-18);
  CHECK(distance(models::quantise(golden.load(), StorageKind::int8_channels)) > 0x1p-10);
  CHECK(distance(golden.load({.storage = StorageKind::int8})) > 0x1p-10);
}
