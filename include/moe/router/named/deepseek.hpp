// The routers of the DeepSeek models. Their shared experts are the layer's
// (moe/layer/shared/shared_experts.hpp): routers see routed experts only.
#pragma once

#include "moe/router/balance/communication_balance.hpp"
#include "moe/router/balance/device_balance.hpp"
#include "moe/router/balance/load_balance.hpp"
#include "moe/router/balance/selection_bias.hpp"
#include "moe/router/balance/sequence_balance.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/sigmoid.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/group_limited.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

/// DeepSeekMoE, 2401.06066: softmax over all, the k best, weights as they are. Defaults of the 16B model.
struct DeepSeekV1Options {
  Index width = 2048;  // D
  Index experts = 64;  // E, the routed ones
  Index k = 6;
  double expert_balance = 0.001;  // alpha1
  double device_balance = 0;      // alpha2; 0.05 in the 145B model
  Index devices = 1;              // groups of alpha2
  GatherWeighting::Options weights{};
  NonFinite non_finite = NonFinite::throw_;
};

template <class Real>
using DeepSeekV1 = TokenChoice<LinearScorer<Real>, Softmax, TopKSelection, GatherWeighting,
                               Balancing<LoadBalance, DeviceBalance>>;

/// Throws config_error for sizes that do not fit.
template <class Real>
DeepSeekV1<Real> deepseek_v1(const DeepSeekV1Options& options) {
  return {LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
          Softmax{},
          TopKSelection(options.k),
          GatherWeighting(options.weights),
          Balancing<LoadBalance, DeviceBalance>(
              LoadBalance({.coefficient = options.expert_balance}),
              DeviceBalance({.coefficient = options.device_balance, .groups = options.devices})),
          options.non_finite};
}

/// DiT-MoE, 2407.11633: that router in a diffusion transformer, whose layers have two shared experts.
/// Defaults of DiT-MoE-XL/2-8E2A.
struct DiTMoeOptions {
  Index width = 1152;  // D
  Index experts = 8;   // E, the routed ones
  Index k = 2;
  double expert_balance = 0.01;  // alpha
  NonFinite non_finite = NonFinite::throw_;
};

/// Throws config_error for sizes that do not fit.
template <class Real>
DeepSeekV1<Real> dit_moe_router(const DiTMoeOptions& options) {
  return deepseek_v1<Real>({.width = options.width,
                            .experts = options.experts,
                            .k = options.k,
                            .expert_balance = options.expert_balance,
                            .non_finite = options.non_finite});
}

/// DeepSeek-V2, 2405.04434: the same within the best groups (devices) of a token, weights times a scale.
/// Defaults of the 236B model; the Lite model has groups = kept_groups = 1, scale 1.
struct DeepSeekV2Options {
  Index width = 5120;
  Index experts = 160;
  Index k = 6;
  Index groups = 8;                     // D of the paper
  Index kept_groups = 3;                // M
  double expert_balance = 0.003;        // alpha1
  double device_balance = 0.05;         // alpha2
  double communication_balance = 0.02;  // alpha3
  GatherWeighting::Options weights{.scale = 16};
  NonFinite non_finite = NonFinite::throw_;
};

template <class Real>
using DeepSeekV2 = TokenChoice<LinearScorer<Real>, Softmax, GroupLimitedSelection, GatherWeighting,
                               Balancing<LoadBalance, DeviceBalance, CommunicationBalance>>;

/// Throws config_error for sizes that do not fit.
template <class Real>
DeepSeekV2<Real> deepseek_v2(const DeepSeekV2Options& options) {
  return {LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
          Softmax{},
          GroupLimitedSelection({.k = options.k,
                                 .groups = options.groups,
                                 .kept = options.kept_groups,
                                 .score = GroupScore::highest}),
          GatherWeighting(options.weights),
          Balancing<LoadBalance, DeviceBalance, CommunicationBalance>(
              LoadBalance({.coefficient = options.expert_balance}),
              DeviceBalance({.coefficient = options.device_balance, .groups = options.groups}),
              CommunicationBalance({.coefficient = options.communication_balance,
                                    .groups = options.groups,
                                    .reached = options.kept_groups})),
          options.non_finite};
}

/// DeepSeek-V3, 2412.19437, and its kin (Kimi K2, GLM-4.5, dots: groups = kept_groups = 1): sigmoid scores,
/// chosen with a bias that balances, weighed without it, divided by their sum, times a scale. Defaults of the
/// 671B model.
struct DeepSeekV3Options {
  Index width = 7168;
  Index experts = 256;
  Index k = 8;
  Index groups = 8;
  Index kept_groups = 4;
  double sequence_balance = 1e-4;  // alpha
  SequenceCounts sequence_counts = SequenceCounts::best_scores;
  double bias_speed = 1e-3;  // u
  GatherWeighting::Options weights{.normalise = Normalise::sum_plus_eps, .eps = 1e-20, .scale = 2.5};
  NonFinite non_finite = NonFinite::throw_;
};

template <class Real>
using DeepSeekV3 = TokenChoice<LinearScorer<Real>, SigmoidScore, GroupLimitedSelection, GatherWeighting,
                               Balancing<SelectionBias, SequenceBalance>>;

/// Throws config_error for sizes that do not fit.
template <class Real>
DeepSeekV3<Real> deepseek_v3(const DeepSeekV3Options& options) {
  return {LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
          SigmoidScore{},
          GroupLimitedSelection({.k = options.k,
                                 .groups = options.groups,
                                 .kept = options.kept_groups,
                                 .score = GroupScore::top_two_sum}),
          GatherWeighting(options.weights),
          Balancing<SelectionBias, SequenceBalance>(
              SelectionBias({.outputs = options.experts, .speed = options.bias_speed}),
              SequenceBalance({.coefficient = options.sequence_balance, .counts = options.sequence_counts})),
          options.non_finite};
}

MOE_NAMESPACE_END
