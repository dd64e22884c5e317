// quantise() of layers made of layers: the same layer over banks that were quantised one by one, bit for bit.
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "moe/depth/adapter_block.hpp"
#include "moe/depth/chain.hpp"
#include "moe/depth/depth_layer.hpp"
#include "moe/depth/gated_paths.hpp"
#include "moe/depth/layer_block.hpp"
#include "moe/depth/momentum.hpp"
#include "moe/depth/normed_layer.hpp"
#include "moe/depth/parallel.hpp"
#include "moe/depth/stochastic_pair.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/layer/quantise.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/catch.hpp"
#include "support/depth_calls.hpp"
#include "support/same_bits.hpp"

namespace {

using moe::Index;
constexpr Index kWidth = 8, kTokens = 5;

using To = moe::Int8Groups<>;
template <class Storage>
using Bank = moe::Mlp<moe::Relu, Storage>;
template <class Storage>
using Layer = moe::MoeLayer<moe::SoftmaxTopK<float>, Bank<Storage>>;

Layer<float> exact(std::uint64_t seed) {
  auto router = moe::softmax_top_k<float>({.width = kWidth, .experts = 3, .k = 2});
  router.scorer().initialise(seed);
  Bank<float> bank({.experts = 3, .width = kWidth, .hidden = 6});
  bank.initialise(seed);
  return {std::move(router), std::move(bank)};
}
Layer<To> rounded(std::uint64_t seed) {
  const Layer<float> layer = exact(seed);
  return {layer.router(), Bank<To>(layer.experts())};
}
template <class L>
std::vector<L> two(L (*make)(std::uint64_t)) {
  std::vector<L> layers;
  layers.push_back(make(1));
  layers.push_back(make(2));
  return layers;
}

/// With parameters of its own that are not those of a new one.
template <class L>
L with_own(L layer) {
  layer.visit_parameters([](const moe::Parameter<float>& p) {
    const std::string_view name = p.name;
    if (name != "norm.scale" && !name.starts_with("gate.") && !name.starts_with("pair.gate.")) return;
    for (Index i = 0; i < p.value.size(); ++i) {
      p.value(i / p.value.cols, i % p.value.cols) = 0.3f + 0.1f * static_cast<float>(i);
    }
  });
  return layer;
}

/// Of a call that trains.
template <class L>
std::vector<float> results(const L& layer) {
  const std::vector<float> x = test::normal_rows<float>(3, kTokens, kWidth);
  std::vector<float> y(x.size());
  moe::LayerOutput<float> out(test::rows_of(y, kWidth));
  moe::LayerInput<float> in(test::rows_of(x, kWidth));
  moe::DrawCounter draws(4);
  in.draws = &draws;
  in.mode = moe::Mode::training;
  moe::Workspace workspace;
  layer.forward(in, out, workspace);
  return y;
}
template <class L, class Want>
void check_rounded(const L& layer, const Want& want) {
  const auto made = moe::quantise<To>(layer);
  static_assert(std::is_same_v<decltype(made), const Want>);
  CHECK(test::same_bits(results(made), results(want)));
  CHECK_FALSE(test::same_bits(results(made), results(layer)));
}

}  // namespace

TEST_CASE("quantise goes through chains and branches, of one type and of several", "[depth]") {
  check_rounded(moe::Chain(two(exact), moe::Residual::inner), moe::Chain(two(rounded), moe::Residual::inner));
  check_rounded(moe::Parallel(std::tuple(exact(3), moe::Chain(two(exact))), moe::Join::add),
                moe::Parallel(std::tuple(rounded(3), moe::Chain(two(rounded))), moe::Join::add));
}

TEST_CASE("a bank that steps refer to becomes one of each when it is quantised", "[depth]") {
  const Layer<float> layer = exact(1);
  Bank<float> shared = layer.experts();
  std::vector<moe::MoeLayer<moe::SoftmaxTopK<float>, Bank<float>&>> steps;
  for (int i = 0; i < 2; ++i) steps.emplace_back(layer.router(), shared);
  const Layer<To> step = rounded(1);
  check_rounded(moe::Chain(std::move(steps)), moe::Chain(std::vector{step, step}));
}

TEST_CASE("quantise keeps norms, gates and rules around a layer", "[depth]") {
  check_rounded(with_own(moe::NormedLayer(exact(1), 0.5)), with_own(moe::NormedLayer(rounded(1), 0.5)));
  check_rounded(moe::momentum_smoe(exact(1), {.gamma = 0.5}), moe::momentum_smoe(rounded(1), {.gamma = 0.5}));
  check_rounded(with_own(moe::s2moe(exact(1), {.noise = 0.5})),
                with_own(moe::s2moe(rounded(1), {.noise = 0.5})));
  check_rounded(with_own(moe::GatedPaths(moe::Parallel(two(exact), moe::Join::concatenate))),
                with_own(moe::GatedPaths(moe::Parallel(two(rounded), moe::Join::concatenate))));
}

TEST_CASE("quantise of a depth layer rounds the layers among its blocks and copies the others", "[depth]") {
  using Adapter = moe::AdapterBlock<moe::Relu, float>;
  using Router = moe::SoftmaxTopK<float>;
  const auto router = [](std::uint64_t seed) {
    Router r = moe::softmax_top_k<float>({.width = kWidth, .experts = 2, .k = 1});
    r.scorer().initialise(seed);
    return r;
  };
  Adapter adapter({.width = kWidth, .hidden = 3});
  adapter.initialise(5, true);
  moe::LayerBlock block(exact(1));
  const moe::DepthOptions nested{moe::DepthForm::nested};
  using Blocks = moe::LayerBlock<Layer<float>>;
  const moe::DepthLayer<Router, Blocks&, Adapter> layer({router(1), router(2)}, nested, block, adapter);
  const moe::DepthLayer<Router, moe::LayerBlock<Layer<To>>, Adapter> want(
      {router(1), router(2)}, nested, moe::LayerBlock(rounded(1)), adapter);
  check_rounded(layer, want);
  CHECK(moe::quantise<To>(layer).form() == moe::DepthForm::nested);
}
