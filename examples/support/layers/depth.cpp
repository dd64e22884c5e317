// Layers around layers.
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "groups.hpp"
#include "moe/depth/chain.hpp"
#include "moe/depth/graph_moe.hpp"
#include "moe/depth/momentum.hpp"
#include "moe/depth/stochastic_pair.hpp"
#include "moe/depth/vq_moe.hpp"
#include "moe/layer/moe_layer.hpp"

namespace example {
namespace {

using S = const LayerSetting&;

/// Half of the experts, K / 2 of them for a row: a step of two.
AnyLayer half_layer(LayerSetting s) {
  s.experts /= 2;
  s.k /= 2;
  return plain_layer(menu_router("softmax_top_k", s), glu_bank(s.experts, s.width, s.hidden, s.seed));
}
AnyLayer second_half_layer(LayerSetting s) {
  ++s.seed;
  return half_layer(s);
}

AnyLayer momentum_smoe(S s) {
  std::vector<moe::MomentumSmoe<AnyLayer>> steps;
  steps.push_back(moe::momentum_smoe(half_layer(s)));
  steps.push_back(moe::momentum_smoe(second_half_layer(s)));
  return AnyLayer(moe::Chain(std::move(steps)));
}

/// Adam's moments first, then heavy-ball momentum, as the authors have them.
AnyLayer adam_smoe(S s) {
  using Chain = moe::Chain<moe::AdamSmoe<AnyLayer>, moe::MomentumSmoe<AnyLayer>>;
  return AnyLayer(Chain(std::tuple(moe::adam_smoe(half_layer(s), {.carries_square = false}),
                                   moe::momentum_smoe(second_half_layer(s)))));
}

/// One layer twice.
AnyLayer graph_moe(S s) {
  struct Parts {
    AnyRouter router;
    AnyBank bank;
  };
  LayerSetting half = s;
  half.k /= 2;
  const auto parts = std::make_shared<Parts>(
      Parts{menu_router("rmoe", half), glu_bank(s.experts, s.width, s.hidden, s.seed)});
  std::vector<moe::MoeLayer<AnyRouter&, AnyBank&>> rounds;
  for (int i = 0; i < 2; ++i) rounds.emplace_back(parts->router, parts->bank);
  return AnyLayer(moe::Chain(std::move(rounds), moe::Residual::none), parts);
}

AnyLayer s2_moe(S s) {
  moe::StochasticPair pair(
      plain_layer(menu_router("softmax_top_k", s), glu_bank(s.experts, s.width, s.hidden, s.seed)));
  pair.initialise(s.seed);
  return AnyLayer(std::move(pair));
}

/// A routed path of K / 2 experts and a path by codes, over one bank.
AnyLayer vq_moe(S s) {
  struct Parts {
    moe::CodebookRouter<float> codebook;
    AnyBank bank;
  };
  LayerSetting half = s;
  half.k /= 2;
  const auto parts = std::make_shared<Parts>(
      Parts{initialised(moe::CodebookRouter<float>({.width = s.width, .experts = s.experts}), s.seed),
            glu_bank(s.experts, s.width, s.hidden, s.seed)});
  return AnyLayer(moe::vq_moe({}, parts->codebook, menu_router("softmax_top_k", half), parts->bank), parts);
}

}  // namespace

std::vector<MenuLayer> depth_layers() {
  return {
      {"momentum_smoe", "2410.14574", "MomentumSMoE: two steps, each goes on where those before it went",
       momentum_smoe},
      {"adam_smoe", "2410.14574", "AdamSMoE: the same, the first step with Adam's moments", adam_smoe},
      {"graph_moe", "2501.07890", "GraphMoE: one layer twice, whose router remembers the first round",
       graph_moe},
      {"s2_moe", "2503.23007", "S2MoE: in training beside a noisy copy of the rows", s2_moe},
      {"vq_moe", "2411.19402", "VQMoE: a routed path and one by the nearest code, over the same experts",
       vq_moe},
  };
}

}  // namespace example
