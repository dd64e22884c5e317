// Rows are chosen for together.
#include <vector>

#include "groups.hpp"
#include "moe/router/named/base.hpp"
#include "moe/router/named/capacity_aware.hpp"
#include "moe/router/named/expert_choice.hpp"
#include "moe/router/named/patch_router.hpp"
#include "moe/router/named/plan_choice.hpp"
#include "moe/router/named/rectified.hpp"
#include "moe/router/named/sinkhorn_router.hpp"
#include "moe/router/named/token_graph.hpp"
#include "moe/router/named/union_of_experts.hpp"

namespace example {
namespace {
using S = const RouterSetting&;
}

std::vector<MenuRouter> set_routers() {
  return {
      {"expert_choice", "2202.09368", "experts choose rows of a sequence: K for a row on average",
       [](S s) {
         return moe::expert_choice<float>(
             {.width = s.width, .experts = s.experts, .capacity_factor = static_cast<double>(s.k)});
       }},
      {"rectified", "2402.12399", "top-k under a capacity; what is lost goes to free places",
       [](S s) { return moe::rectified_router<float>({.width = s.width, .experts = s.experts, .k = s.k}); }},
      {"base", "2103.16716", "BASE: a balanced assignment in training, the best expert in inference",
       [](S s) { return moe::base_router<float>({.width = s.width, .experts = s.experts}); }},
      {"sinkhorn", "2202.01169", "chosen by a balanced plan in training, weighed by the softmax",
       [](S s) { return moe::sinkhorn_router<float>({.width = s.width, .experts = s.experts, .k = s.k}); }},
      {"sinkhorn_base", "2202.01169", "S-BASE: the same with one expert and its sigmoid",
       [](S s) { return moe::sinkhorn_base_router<float>({.width = s.width, .experts = s.experts}); }},
      {"selective_sinkhorn", "row 216", "softmax top-k; a few training calls go by the plan",
       [](S s) {
         return moe::selective_sinkhorn<float>({.width = s.width, .experts = s.experts, .k = s.k});
       }},
      {"patch", "2306.04073", "every expert takes its best rows of a sequence, weighed by a softmax of them",
       [](S s) { return moe::patch_router<float>({.width = s.width, .experts = s.experts, .patches = 16}); }},
      {"expert_choice_capped", "2202.09368", "expert choice with at most K experts for a row (EC-CAP)",
       [](S s) {
         return moe::expert_choice<float>({.width = s.width,
                                           .experts = s.experts,
                                           .capacity_factor = static_cast<double>(s.k),
                                           .cap = s.k});
       }},
      {"sinkhorn_expert_choice", "2401.15969", "experts choose by their column of Sinkhorn's plan",
       [](S s) {
         return moe::sinkhorn_expert_choice<float>(
             {.width = s.width, .experts = s.experts, .capacity_factor = static_cast<double>(s.k)});
       }},
      {"sparse_expert_choice", "2401.15969", "experts choose by a plan with so many rows in a column",
       [](S s) {
         return moe::sparse_expert_choice<float>(
             {.width = s.width, .experts = s.experts, .capacity_factor = static_cast<double>(s.k)});
       }},
      {"capacity_aware", "2503.05066", "top-k that keeps every expert to its capacity",
       [](S s) { return moe::capacity_aware<float>({.width = s.width, .experts = s.experts, .k = s.k}); }},
      {"similarity_aware",
       "2505.00792",
       "logits mixed over like rows of the sequence, none of later ones",
       [](S s) {
         return moe::similarity_aware<float>(
             {.width = s.width, .experts = s.experts, .k = s.k, .causal = true});
       },
       {.causal = true}},
      {"attention_aware",
       "2505.00792",
       "logits mixed by an attention that the caller has",
       [](S s) { return moe::attention_aware<float>({.width = s.width, .experts = s.experts, .k = s.k}); },
       {.reads = "mixing: near bytes before it", .causal = true}},
      {"union_of_experts", "2503.02495", "the K best for the mean of the sequence, for all its rows",
       [](S s) { return moe::union_of_experts<float>({.width = s.width, .experts = s.experts, .k = s.k}); }},
  };
}

}  // namespace example
