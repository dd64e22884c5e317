// Layers around softmax top-k routers, whose code they share.
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "groups.hpp"
#include "moe/depth/cartesian_moe.hpp"
#include "moe/depth/chain.hpp"
#include "moe/depth/chain_of_experts.hpp"
#include "moe/depth/parallel.hpp"
#include "moe/depth/rex_moe.hpp"
#include "moe/depth/t2mir.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/layer/named/compressed_experts.hpp"
#include "moe/layer/named/mole_latent.hpp"

namespace example {
namespace {

using S = const LayerSetting&;
/// A layer over a bank that it refers to.
using OverBank = moe::MoeLayer<AnyRouter, AnyBank&>;

/// The same layer with its parts erased.
template <class R, class B>
AnyLayer erased(moe::MoeLayer<R, B>& layer, std::uint64_t seed) {
  layer.router().scorer().initialise(seed);
  return plain_layer(AnyRouter(std::move(layer.router())), AnyBank(std::move(layer.experts())));
}
template <class R>
AnyLayer erased(moe::MoeLayer<R, AnyBank>& layer, std::uint64_t seed) {
  layer.router().scorer().initialise(seed);
  return plain_layer(AnyRouter(std::move(layer.router())), std::move(layer.experts()));
}
template <class Layers>
std::vector<OverBank> erased_over(Layers& layers, AnyBank& bank, std::uint64_t seed) {
  std::vector<OverBank> all;
  for (auto& layer : layers) {
    layer.router().scorer().initialise(++seed);
    all.emplace_back(AnyRouter(std::move(layer.router())), bank);
  }
  return all;
}

/// K experts in two steps.
AnyLayer chain_of_experts(S s) {
  const auto bank = std::make_shared<AnyBank>(glu_bank(s.experts, s.width, s.hidden, s.seed));
  auto chain = moe::chain_of_experts(
      {.steps = 2, .router = {.width = s.width, .experts = s.experts, .k = s.k / 2}}, *bank);
  return AnyLayer(moe::Chain(erased_over(chain.layers(), *bank, s.seed), chain.residual()), bank);
}

AnyLayer cartesian_moe(S s) {
  const moe::TopKOptions half{.width = s.width, .experts = s.experts / 2, .k = s.k / 2};
  auto chain =
      moe::cartesian_moe({.first = half, .second = half}, glu_bank(half.experts, s.width, s.hidden, s.seed),
                         glu_bank(half.experts, s.width, s.hidden, s.seed + 1));
  std::vector<AnyLayer> steps;
  steps.push_back(erased(std::get<0>(chain.layers()), s.seed));
  steps.push_back(erased(std::get<1>(chain.layers()), s.seed + 1));
  return AnyLayer(moe::Chain(std::move(steps), chain.residual()));
}

/// Half of the experts by row, the others by sequence, results added up.
AnyLayer t2mir(S s) {
  const moe::TopKOptions half{.width = s.width, .experts = s.experts / 2, .k = s.k / 2};
  moe::TopKOptions by_task = half;
  by_task.load_balance = 0;
  auto both = moe::t2mir({.by_token = half, .by_task = by_task, .join = moe::Join::add},
                         glu_bank(half.experts, s.width, s.hidden, s.seed),
                         glu_bank(half.experts, s.width, s.hidden, s.seed + 1));
  std::vector<AnyLayer> halves;
  halves.push_back(erased(std::get<0>(both.layers()), s.seed));
  auto& own = std::get<1>(both.layers());
  own.router().scorer().inner().initialise(s.seed + 1);
  halves.push_back(plain_layer(AnyRouter(std::move(own.router())), std::move(own.experts())));
  return AnyLayer(moe::Parallel(std::move(halves), both.join()));
}

AnyLayer mole_latent(S s) {
  auto layer = moe::mole_latent<float>(
      {.width = s.width, .experts = s.experts, .latent = s.width / 2, .hidden = s.hidden, .k = s.k});
  layer.experts().initialise(s.seed);
  return erased(layer, s.seed);
}

AnyLayer compressed_experts(S s) {
  auto layer = moe::compressed_experts<float>(
      {.width = s.width, .experts = s.experts, .hidden = s.hidden, .k = 2 * s.k, .k_main = s.k});
  layer.experts().bank<0>().initialise(s.seed);
  layer.router().inner().scorer().initialise(s.seed);
  return plain_layer(AnyRouter(std::move(layer.router())), AnyBank(std::move(layer.experts())));
}

/// Every layer lends its experts to the others; how many of them a layer sees grows over the first half of
/// the training.
class RexLayers final : public HeldTextLayers<OverBank> {
 public:
  RexLayers(moe::SharedParts<OverBank> layers, std::shared_ptr<void> pool,
            const moe::ProgressivePoolOptions& growth)
      : HeldTextLayers(std::move(layers), std::move(pool)), growth_(growth) {}

  void on_step_end(const std::vector<const moe::RouteStats*>& stats) override {
    HeldTextLayers::on_step_end(stats);
    ++step_;
  }

 private:
  void prepare(Index i, Input& in) override { in.logit_mask = growth_.mask(i, step_); }

  moe::ProgressivePool<float> growth_;
  Index step_ = 0;
};

MenuLayer::Made rex_moe(S s) {
  const auto pool = std::make_shared<AnyBank>(glu_bank(s.layers * s.experts, s.width, s.hidden, s.seed));
  auto group =
      moe::rex_moe({.group = s.layers, .router = {.width = s.width, .experts = s.experts, .k = s.k}}, *pool);
  return std::make_unique<RexLayers>(
      moe::SharedParts(erased_over(group.layers(), *pool, s.seed)), pool,
      moe::ProgressivePoolOptions{
          .group = s.layers, .experts = s.experts, .steps = std::max(Index{1}, s.steps / 2)});
}

}  // namespace

std::vector<MenuLayer> top_k_layers() {
  return {
      {"chain_of_experts", "2506.18945", "two steps over one bank, a router and K / 2 experts each",
       chain_of_experts},
      {"cartesian_moe", "2410.16077", "an expert of the first half, then one of the second", cartesian_moe},
      {"t2mir",
       "2506.05426",
       "half of the experts by row, half by the mean of the sequence",
       t2mir,
       {.reads = "task: 1 where the sequence begins with white space", .task_by_segment = true}},
      {"mole_latent", "2503.23100", "MoLE: experts read a shared map to half the width", mole_latent},
      {"compressed_experts", "2503.00634", "the K best run, for the next K stands a vector each",
       compressed_experts},
      {"rex_moe", "2510.17483", "each layer's experts are lent to the others, more and more of them",
       rex_moe},
  };
}

}  // namespace example
