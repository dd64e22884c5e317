// Linear logits, the K best: what top-k routers differ in is scores, weights and what balances them.
#include <vector>

#include "groups.hpp"
#include "moe/router/balance/dirichlet_prior.hpp"
#include "moe/router/named/deepseek.hpp"
#include "moe/router/named/grin.hpp"
#include "moe/router/named/gshard.hpp"
#include "moe/router/named/loss_free.hpp"
#include "moe/router/named/noisy_top_k.hpp"
#include "moe/router/named/open_moe.hpp"
#include "moe/router/named/reinforce.hpp"
#include "moe/router/named/remix.hpp"
#include "moe/router/named/speech.hpp"
#include "moe/router/named/switch.hpp"
#include "moe/router/named/top_k.hpp"
#include "moe/router/named/unipool.hpp"
#include "moe/router/named/v_moe.hpp"
#include "moe/router/schedule.hpp"

namespace example {
namespace {

using S = const RouterSetting&;

moe::TopKOptions top_k_options(S s) {
  return {.width = s.width, .experts = s.experts, .k = s.k};
}

/// A softmax top-k without load balance, whose probabilities are drawn towards a prior.
auto dirichlet_prior(S s) {
  using Balance = moe::Balancing<moe::DirichletPrior>;
  using Router = moe::TokenChoice<moe::LinearScorer<float>, moe::Softmax, moe::TopKSelection,
                                  moe::GatherWeighting, Balance>;
  return Router(moe::LinearScorer<float>({.width = s.width, .outputs = s.experts}), moe::Softmax{},
                moe::TopKSelection(s.k), moe::GatherWeighting({.normalise = moe::Normalise::sum}),
                Balance(moe::DirichletPrior()));
}

/// From all experts to K.
moe::CallOptions falling_k(S s, double part) {
  const moe::CosineSchedule k(
      {.from = static_cast<double>(s.experts), .to = static_cast<double>(s.k), .steps = 1000});
  return {.experts_per_token = moe::rounded_at(k, static_cast<Index>(part * 1000))};
}

}  // namespace

std::vector<MenuRouter> top_k_routers() {
  return {
      {"softmax_top_k", "2401.04088", "softmax over all, the K best, their probabilities",
       [](S s) { return moe::softmax_top_k<float>(top_k_options(s)); }},
      {"top_k_softmax", "1701.06538", "the K best logits, softmax over them",
       [](S s) { return moe::top_k_softmax<float>(top_k_options(s)); }},
      {"sigmoid_top_k", "2412.19437", "the K best sigmoids",
       [](S s) { return moe::sigmoid_top_k<float>(top_k_options(s)); }},
      {"normalised_sigmoid_top_k", "2505.10860", "the K best sigmoids, divided by their sum",
       [](S s) { return moe::normalised_sigmoid_top_k<float>(top_k_options(s)); }},
      {"unipool", "row 235",
       "UniPool: the positive logits over their length; the layers' loads are balanced together",
       [](S s) {
         return moe::unipool_router<float>(
             {.width = s.width, .experts = s.experts, .layers = s.layers, .k = s.k});
       }},
      {"dirichlet_prior", "2510.01185", "softmax top-k; a loss shapes the probabilities by a Dirichlet prior",
       dirichlet_prior},
      {"falling_k",
       "softmax_top_k",
       "softmax top-k whose K falls along a cosine from E (VER)",
       [](S s) { return moe::softmax_top_k<float>(top_k_options(s)); },
       {.options = falling_k}},
      {"switch", "2101.03961", "Switch: the best one, jittered in training",
       [](S s) { return moe::switch_router<float>({.width = s.width, .experts = s.experts}); }},
      {"gshard", "2006.16668", "GShard: the best, and the second by chance",
       [](S s) { return moe::gshard_router<float>({.width = s.width, .experts = s.experts}); }},
      {"noisy_top_k", "1701.06538", "the K best of noisy logits, balanced by importance and load",
       [](S s) { return moe::noisy_top_k<float>({.width = s.width, .experts = s.experts, .k = s.k}); }},
      {"deepseek_v1", "2401.06066", "DeepSeekMoE: softmax top-k over fine experts",
       [](S s) { return moe::deepseek_v1<float>({.width = s.width, .experts = s.experts, .k = s.k}); }},
      {"deepseek_v2", "2405.04434", "DeepSeek-V2: within the best groups of experts",
       [](S s) {
         return moe::deepseek_v2<float>({.width = s.width,
                                         .experts = s.experts,
                                         .k = s.k,
                                         .groups = 4,
                                         .kept_groups = 2,
                                         .weights = {}});
       }},
      {"deepseek_v3", "2412.19437", "DeepSeek-V3: sigmoids, chosen with a bias that balances",
       [](S s) {
         return moe::deepseek_v3<float>({.width = s.width,
                                         .experts = s.experts,
                                         .k = s.k,
                                         .groups = 4,
                                         .kept_groups = 2,
                                         .weights = {.normalise = moe::Normalise::sum}});
       }},
      {"dit_moe", "2407.11633", "DiT-MoE: DeepSeekMoE's router in a diffusion transformer",
       [](S s) { return moe::dit_moe_router<float>({.width = s.width, .experts = s.experts, .k = s.k}); }},
      {"speech", "2111.11831", "SpeechMoE2: the best one, losses for sharp and even probabilities",
       [](S s) { return moe::speech_router<float>({.width = s.width, .experts = s.experts}); }},
      {"loss_free_top_k", "2408.15664", "sigmoid top-k with a bias that follows the load",
       [](S s) { return moe::loss_free_top_k<float>({.width = s.width, .experts = s.experts, .k = s.k}); }},
      {"open_moe", "2402.01739", "OpenMoE: softmax top-2 with load-balance and z-losses",
       [](S s) { return moe::open_moe<float>({.width = s.width, .experts = s.experts}); }},
      {"v_moe", "2106.05974", "V-MoE: the K best of a noisy softmax, balanced by importance and load",
       [](S s) { return moe::v_moe_router<float>({.width = s.width, .experts = s.experts, .k = s.k}); }},
      {"grin", "2409.12136", "GRIN: sampled experts with SparseMixer's gradient",
       [](S s) { return moe::grin_router<float>({.width = s.width, .experts = s.experts, .k = s.k}); }},
      {"remix",
       "row 214",
       "ReMix: K experts drawn in order, trained by rewards alone",
       [](S s) { return moe::remix_router<float>({.width = s.width, .experts = s.experts, .k = s.k}); },
       {.sampled = true}},
      {"rl_r",
       "2202.01169",
       "RL-R: one expert drawn by a policy that REINFORCE trains",
       [](S s) { return moe::rl_r_router<float>({.width = s.width, .experts = s.experts}); },
       {.sampled = true}},
  };
}

}  // namespace example
