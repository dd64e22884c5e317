// The menu of all layers, what is not on it, and what the groups make their layers of.
#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "groups.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/layer/moe_layer.hpp"

namespace example {
namespace {

std::vector<MenuLayer> all_layers() {
  std::vector<MenuLayer> all;
  for (const auto group : {top_k_layers, expert_layers, probing_layers, soft_layers, merging_layers,
                           depth_layers, shared_layers}) {
    for (MenuLayer& layer : group()) all.push_back(std::move(layer));
  }
  std::sort(all.begin(), all.end(),
            [](const MenuLayer& a, const MenuLayer& b) { return std::string_view(a.name) < b.name; });
  return all;
}

}  // namespace

MenuLayer::Made MenuLayer::separate(LayerSetting s,
                                    const std::function<AnyLayer(const LayerSetting&)>& make_layer) {
  const std::uint64_t seed = s.seed;
  std::vector<AnyLayer> layers;
  for (Index i = 0; i < s.layers; ++i) {
    s.number = static_cast<std::uint64_t>(i);
    s.seed = seed + 100 * (s.number + 1);
    layers.push_back(make_layer(s));
  }
  return std::make_unique<HeldTextLayers<AnyLayer>>(moe::SharedParts(std::move(layers)));
}

const std::vector<MenuLayer>& layer_menu() {
  static const std::vector<MenuLayer> menu = all_layers();
  return menu;
}

const std::vector<NotOnTheMenu>& not_on_the_menu() {
  static const char* const kBlock = "decides which rows run a whole block, attention and all: 09_depth";
  static const std::vector<NotOnTheMenu> all{
      {"coupling_loss", "2512.23447", "is a loss beside the call of a layer, on rows of its own"},
      {"dna", "2506.22389", kBlock},
      {"dr_llm", "2510.12773", kBlock},
      {"flexi_depth", "2503.23798", kBlock},
      {"informed_routing", "2510.13831", kBlock},
      {"learn_to_skip", "2311.15436", kBlock},
      {"mixture_of_depths", "2404.02258", kBlock},
      {"mixture_of_recursions", "2507.10524", kBlock},
      {"router_tuning", "2410.13184", kBlock},
      {"token_pruner", "2412.11494", kBlock},
      {"twin_merging", "2406.15479",
       "mixes experts that somebody has trained; of its own only the mixer trains"},
  };
  return all;
}

const MenuLayer* find_layer(const std::string& name) {
  for (const MenuLayer& layer : layer_menu()) {
    if (layer.name == name) return &layer;
  }
  return nullptr;
}

AnyLayer plain_layer(AnyRouter router, AnyBank experts) {
  return AnyLayer(moe::MoeLayer<AnyRouter, AnyBank>(std::move(router), std::move(experts)));
}

AnyBank glu_bank(Index experts, Index width, Index hidden, std::uint64_t seed) {
  return AnyBank(
      initialised(moe::Glu<moe::Silu>({.experts = experts, .width = width, .hidden = hidden}), seed));
}

AnyRouter menu_router(const char* name, const LayerSetting& s) {
  return initialised(router_named(name).make(s), s.seed);
}

}  // namespace example
