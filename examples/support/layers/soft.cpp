// Rows that are mixed instead of chosen.
#include <utility>
#include <vector>

#include "groups.hpp"
#include "moe/layer/soft/home_soft.hpp"
#include "moe/layer/soft/soft_layer.hpp"
#include "moe/router/soft/mixture_of_tokens.hpp"
#include "moe/router/soft/soft_moe.hpp"

namespace example {
namespace {

using S = const LayerSetting&;

template <class R>
AnyLayer soft_layer(R router, S s) {
  router.scorer().initialise(s.seed);
  return AnyLayer(
      moe::SoftLayer<R, AnyBank>(std::move(router), glu_bank(s.experts, s.width, s.hidden, s.seed)));
}

}  // namespace

std::vector<MenuLayer> soft_layers() {
  return {
      {"soft_moe", "2308.00951", "Soft MoE: every slot reads a mean of the sequence; K slots for a row",
       [](S s) {
         return soft_layer(moe::soft_moe<float>(
                               {.width = s.width, .experts = s.experts, .slots = s.k * s.length / s.experts}),
                           s);
       }},
      {"mixture_of_tokens", "2310.15961",
       "rows at one place of E / K sequences mix into one for every expert: later bytes of other sequences",
       [](S s) {
         return soft_layer(moe::mixture_of_tokens<float>(
                               {.width = s.width, .experts = s.experts, .group = s.experts / s.k}),
                           s);
       }},
      {"home_soft", "2507.06363",
       "Mamba-HoME: slots of 8 rows each, and slots of those of the whole sequence",
       [](S s) {
         auto layer = moe::home_soft({.width = s.width,
                                      .group = 8,
                                      .experts = s.experts,
                                      .slots = s.k * 8 / s.experts,
                                      .second_experts = s.experts / 2},
                                     glu_bank(s.experts, s.width, s.hidden, s.seed),
                                     glu_bank(s.experts / 2, s.width, s.hidden, s.seed + 1));
         layer.router().initialise(s.seed);
         layer.second_router().initialise(s.seed + 1);
         return AnyLayer(std::move(layer));
       }},
  };
}

}  // namespace example
