// Logits that are not linear in the row, or not trained.
#include <vector>

#include "groups.hpp"
#include "moe/router/named/attention_router.hpp"
#include "moe/router/named/centroid_router.hpp"
#include "moe/router/named/cosine_top_k.hpp"
#include "moe/router/named/flextron.hpp"
#include "moe/router/named/frozen_top_k.hpp"
#include "moe/router/named/hyper_router.hpp"
#include "moe/router/named/mixture_of_routers.hpp"
#include "moe/router/named/rmoe.hpp"
#include "moe/router/named/uncertain.hpp"
#include "moe/router/schedule.hpp"

namespace example {
namespace {

using S = const RouterSetting&;

auto cosine(S s, moe::CosineForm form) {
  return moe::cosine_top_k<float>({.width = s.width, .experts = s.experts, .k = s.k, .form = form});
}

/// From one expert to K.
moe::CallOptions growing_k(S s, double part) {
  const moe::LinearSchedule k({.from = 1, .to = static_cast<double>(s.k), .steps = 1000});
  return {.experts_per_token = moe::rounded_at(k, static_cast<Index>(part * 1000))};
}

}  // namespace

std::vector<MenuRouter> scorer_routers() {
  return {
      {"cosine", "2204.09179", "X-MoE: cosines in a small space over a trained tau",
       [](S s) { return cosine(s, moe::CosineForm::paper); }},
      {"cosine_tutel", "2204.09179", "the same as in Tutel: 256 dimensions with a bias",
       [](S s) { return cosine(s, moe::CosineForm::tutel); }},
      {"cosine_torchscale", "2204.09179", "the same as in torchscale: only experts normed, no tau",
       [](S s) { return cosine(s, moe::CosineForm::torchscale); }},
      {"cosine_fixed_norms", "2204.09179", "the same with experts set to one length after every step",
       [](S s) { return cosine(s, moe::CosineForm::fixed_norms); }},
      {"cosine_geometric", "2604.14419", "the same, tau from 0.07: geometric routing",
       [](S s) { return cosine(s, moe::CosineForm::geometric); }},
      {"cosine_sigmoid", "2204.09179", "sigmoids of cosines over tau",
       [](S s) {
         return moe::cosine_sigmoid_top_k<float>({.width = s.width, .experts = s.experts, .k = s.k});
       }},
      {"attention", "2405.17976", "Yuan 2.0-M32: attention among the experts",
       [](S s) { return moe::attention_router<float>({.width = s.width, .experts = s.experts, .k = s.k}); }},
      {"rmoe", "2408.06793",
       "RMoE: logits from a gated recurrent unit, whose state goes into the next layer's",
       [](S s) {
         return moe::rmoe_router<float>(moe::GruCell<float>(s.width, s.width),
                                        {.width = s.width, .experts = s.experts, .k = s.k});
       }},
      {"mixture_of_routers", "2503.23362", "two routers vote: the K best of their mixture",
       [](S s) {
         return moe::mixture_of_routers<float>({.width = s.width, .experts = s.experts, .k = s.k});
       }},
      {"uncertain", "2312.16610", "MoFME: logits over their deviation under dropout",
       [](S s) { return moe::uncertain_router<float>({.width = s.width, .experts = s.experts, .k = s.k}); }},
      {"hyper",
       "2312.07035",
       "HyperRouter: a frozen network makes the weights; K grows from 1",
       [](S s) {
         return moe::hyper_router<float>(
             {.width = s.width, .experts = s.experts, .hidden = 64, .k = s.k, .seed = s.number});
       },
       {.options = growing_k}},
      {"frozen_top_k",
       "2303.01610",
       "SMoE-Dropout: random weights for good; K grows from 1",
       [](S s) {
         return moe::frozen_top_k<float>(
             {.width = s.width, .experts = s.experts, .k = s.k, .seed = s.number});
       },
       {.options = growing_k}},
      {"flextron", "2406.10260", "Flextron: a small network picks one; weight 1, no gradient from the task",
       [](S s) {
         return moe::flextron_router<float>({.width = s.width, .experts = s.experts, .hidden = 64});
       }},
      {"kmeans", "-", "online k-means: experts are means of their rows, by cosines; no gradient",
       [](S s) { return moe::kmeans_router<float>({.width = s.width, .experts = s.experts, .k = s.k}); }},
      {"cluster", "2211.12105", "AdaptDHM: to the cluster of largest inner product; no gradient",
       [](S s) { return moe::cluster_router<float>({.width = s.width, .clusters = s.experts}); }},
  };
}

}  // namespace example
