// Experts in groups.
#include <vector>

#include "groups.hpp"
#include "moe/router/named/bi_level.hpp"
#include "moe/router/named/each_group.hpp"
#include "moe/router/named/expert_clusters.hpp"
#include "moe/router/named/one_group.hpp"

namespace example {
namespace {
using S = const RouterSetting&;
}

std::vector<MenuRouter> grouped_routers() {
  return {
      {"each_group", "2105.15082", "M6-T: the best expert of each of K groups",
       [](S s) {
         return moe::each_group_router<float>({.width = s.width, .experts = s.experts, .groups = s.k});
       }},
      {"one_group", "2110.07431", "SAM as in Hetu: the K best of the group of largest probability",
       [](S s) {
         return moe::one_group_router<float>(
             {.width = s.width, .experts = s.experts, .groups = s.groups(), .k = s.k});
       }},
      {"bi_level", "2212.05191", "SMILE: a router for groups, one within; one expert",
       [](S s) {
         return moe::bi_level_router<float>({.width = s.width, .experts = s.experts, .groups = s.groups()});
       }},
      {"bi_level_top_k", "2110.07431", "SAM's mixture router: a router for groups, one within; K experts",
       [](S s) {
         return moe::bi_level_router<float>(
             {.width = s.width, .experts = s.experts, .groups = s.groups(), .k = s.k, .alignment = 0.01});
       }},
      {"expert_clusters", "2207.09094", "MoEC: clusters with alike probabilities, dropout within them",
       [](S s) {
         return moe::expert_cluster_router<float>(
             {.width = s.width, .experts = s.experts, .clusters = s.groups(), .k = s.k, .dropout = 0.25});
       }},
  };
}

}  // namespace example
