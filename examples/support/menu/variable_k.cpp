// Rows take as many experts as they need, or as the training is old.
#include <vector>

#include "groups.hpp"
#include "moe/router/named/adaptive_top_two.hpp"
#include "moe/router/named/block_ffn.hpp"
#include "moe/router/named/broadcast.hpp"
#include "moe/router/named/dense_to_sparse.hpp"
#include "moe/router/named/moe_plus_plus.hpp"
#include "moe/router/named/null_experts.hpp"
#include "moe/router/named/relu.hpp"
#include "moe/router/named/threshold.hpp"
#include "moe/router/named/top_p.hpp"
#include "moe/router/schedule.hpp"

namespace example {
namespace {

using S = const RouterSetting&;

/// EvoMoE's temperature, from 2 to 0.3.
moe::CallOptions falling_temperature(S, double part) {
  const moe::LinearSchedule temperature({.from = 2, .to = 0.3, .steps = 1000});
  return {.temperature = temperature.at(static_cast<Index>(part * 1000))};
}

}  // namespace

std::vector<MenuRouter> variable_k_routers() {
  return {
      {"top_p", "2403.07652", "as many as hold a share p of the probability",
       [](S s) { return moe::top_p_router<float>({.width = s.width, .experts = s.experts}); }},
      {"adaptive_top_two", "2310.07188", "one expert where the router is sure, else two",
       [](S s) { return moe::adaptive_top_two_router<float>({.width = s.width, .experts = s.experts}); }},
      {"threshold", "2603.01697", "DynaMoE: every expert whose probability is above 1 / E",
       [](S s) {
         return moe::threshold_router<float>(
             {.width = s.width, .experts = s.experts, .threshold = 1 / static_cast<double>(s.experts)});
       }},
      {"broadcast_top_p", "2504.00661", "DynMoLE: top-p, and uncertain rows to all experts",
       [](S s) { return moe::broadcast_top_p<float>({.width = s.width, .experts = s.experts}); }},
      {"broadcast_top_k", "2406.12375", "GW-MoE: top-k, and uncertain rows to all experts in training",
       [](S s) { return moe::broadcast_top_k<float>({.width = s.width, .experts = s.experts, .k = s.k}); }},
      {"dense_to_sparse",
       "2112.14397",
       "EvoMoE: from all experts to K as the temperature falls",
       [](S s) {
         return moe::dense_to_sparse_router<float>({.width = s.width, .experts = s.experts, .k = s.k});
       },
       {.options = falling_temperature}},
      // An L1 loss that holds them at K on average; it adapts gently, because runs are short.
      {"relu", "2412.14711", "ReMoE: the experts whose logit is positive",
       [](S s) {
         return moe::relu_router<float>(
             {.width = s.width, .experts = s.experts, .k = s.k, .coefficient = 1e-3, .growth = 1.02});
       }},
      {"block_ffn", "2507.08771", "BlockFFN: positive logits under a norm; like neighbours, few a chunk",
       [](S s) { return moe::block_ffn_router<float>({.width = s.width, .experts = s.experts}); }},
      {"null_experts", "2406.13233", "AdaMoE: 2 K of E experts and as many nulls",
       [](S s) {
         return moe::null_expert_router<float>(
             {.width = s.width, .experts = s.experts, .nulls = s.experts, .k = 2 * s.k, .load_balance = 0.1});
       }},
      {"moe_plus_plus",
       "2410.07348",
       "MoE++: three more experts that compute nothing; logits go into the next layer's",
       [](S s) {
         return moe::moe_plus_plus_router<float>(
             {.width = s.width, .ffn = s.experts, .constants = 1, .k = s.k, .residual = true});
       },
       {.zero_computation = true}},
  };
}

}  // namespace example
