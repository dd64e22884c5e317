// Parts that all layers of the model share.
#include <memory>
#include <utility>
#include <vector>

#include "groups.hpp"
#include "moe/depth/omni_router.hpp"
#include "moe/depth/shared_parts.hpp"
#include "moe/layer/moe_layer.hpp"

namespace example {
namespace {

using S = const LayerSetting&;

MenuLayer::Made omni_router(S s) {
  const auto router = std::make_shared<AnyRouter>(menu_router("switch", s));
  std::vector<AnyBank> banks;
  for (Index i = 0; i < s.layers; ++i) {
    banks.push_back(glu_bank(s.experts, s.width, s.k * s.hidden, s.seed + static_cast<std::uint64_t>(i)));
  }
  return std::make_unique<HeldTextLayers<moe::MoeLayer<AnyRouter&, AnyBank>>>(
      moe::omni_router(*router, std::move(banks)), router, true);
}

/// As many experts in the pool as a layer of its own would have for every layer.
MenuLayer::Made unipool(S s) {
  const auto pool = std::make_shared<AnyBank>(glu_bank(s.layers * s.experts, s.width, s.hidden, s.seed));
  std::vector<moe::MoeLayer<AnyRouter, AnyBank&>> layers;
  LayerSetting own = s;
  own.experts *= s.layers;
  for (Index i = 0; i < s.layers; ++i) {
    ++own.seed;
    layers.emplace_back(menu_router("unipool", own), *pool);
  }
  return std::make_unique<HeldTextLayers<moe::MoeLayer<AnyRouter, AnyBank&>>>(
      moe::SharedParts(std::move(layers)), pool, true);
}

}  // namespace

std::vector<MenuLayer> shared_layers() {
  return {
      {"omni_router", "2507.05724", "one router for all layers, which have experts of their own: Switch's",
       omni_router},
      {"unipool", "row 235", "UniPool: one pool of experts for all layers, balanced together", unipool},
  };
}

}  // namespace example
