// A token-choice router described by plain data: what the config files of released models choose from. The
// router it makes consists of the static parts (any_parts.hpp, any_scorer.hpp), so that nothing is said
// twice.
#pragma once

#include <cstdint>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/router/balance/load_balance.hpp"
#include "moe/router/balance/selection_bias.hpp"
#include "moe/router/balance/z.hpp"
#include "moe/router/hash_table.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/runtime/any_parts.hpp"
#include "moe/router/runtime/any_scorer.hpp"
#include "moe/router/score/identity.hpp"
#include "moe/router/score/relu.hpp"
#include "moe/router/score/sigmoid.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/score/sqrt_softplus.hpp"
#include "moe/router/selection/group_limited.hpp"
#include "moe/router/selection/table.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/expert_scale.hpp"
#include "moe/router/weighting/gather.hpp"
#include "moe/router/weighting/leading.hpp"
#include "moe/router/weighting/sigmoid.hpp"
#include "moe/router/weighting/softmax.hpp"
#include "moe/router/weighting/sparse_mixer.hpp"

MOE_NAMESPACE_BEGIN

/// Defaults: a linear router, softmax over all outputs, the k best, weights as they are.
struct TokenChoiceOptions {
  enum class Scorer : std::uint8_t { linear, two_layer, cosine };
  enum class Score : std::uint8_t { softmax, sigmoid, relu, logit, sqrt_softplus };
  enum class Weight : std::uint8_t {
    score,              // of the chosen, normalised and scaled by `weights`
    softmax_of_chosen,  // softmax over the chosen scores
    sigmoid_of_chosen,  // sigmoid of each chosen score
    leading,            // score over the sum of those with id below `leading`; the others weigh 0
    sparse_mixer,       // router/weighting/sparse_mixer.hpp, scores must be logits
  };

  Index width = 0;    // D
  Index outputs = 0;  // N
  Index k = 0;        // K

  Scorer scorer = Scorer::linear;
  bool bias = false;  // of every linear map of the scorer
  Index hidden = 0;   // two_layer: H; cosine: Dp
  InputNorm norm{.enabled = false};
  double soft_cap = 0;  // 0: none
  double spread = 0;    // of the logits of a row, 0: as it is; not together with a soft cap

  Score score = Score::softmax;
  bool selection_bias = false;  // added for the selection only; state "e_score_correction_bias"
  double bias_speed = 0;        // u of router/balance/selection_bias.hpp; 0: as loaded
  Index groups = 1;             // with kept_groups < groups only the best groups stay
  Index kept_groups = 1;
  GroupScore group_score = GroupScore::highest;

  Weight weight = Weight::score;
  GatherWeighting::Options weights{};
  Index leading = 0;
  double sparse_mixer_eps = 0.01;
  bool per_expert_scale = false;  // state "per_expert_scale", 1 at first
  WeightPlace place = WeightPlace::result;

  double load_balance = 0;  // coefficients of losses in training
  double z_loss = 0;
  NonFinite non_finite = NonFinite::throw_;
};

/// Any router that TokenChoiceOptions describe.
template <class Real>
using OptionsRouter = TokenChoice<AnyScorer<Real>, AnyScore, AnySelection, ExpertScale<AnyWeighting>,
                                  Balancing<SelectionBias, LoadBalance, ZLoss>>;

namespace impl {

template <class Real>
AnyScorer<Real> make_scorer(const TokenChoiceOptions& o) {
  using Kind = TokenChoiceOptions::Scorer;
  if (o.soft_cap != 0 && o.spread != 0) {
    fail<config_error>("router: expected a soft cap or a spread of the logits, got both");
  }
  AnyLogitMap map;
  if (o.soft_cap != 0) map = SoftCap(o.soft_cap);
  if (o.spread != 0) map = LogitSpread(o.spread);
  const auto normed = [&](OneScorer<Real> scorer) {
    return AnyScorer<Real>(NormedScorer<OneScorer<Real>>(std::move(scorer), o.norm), map);
  };
  if (o.scorer == Kind::two_layer) {
    return normed(TwoLayerScorer<Real>({o.width, o.hidden, o.outputs, o.bias}));
  }
  if (o.scorer == Kind::cosine) {
    return normed(CosineScorer<Real>({o.width, o.hidden, o.outputs, o.bias}));
  }
  return normed(LinearScorer<Real>({.width = o.width, .outputs = o.outputs, .bias = o.bias}));
}

inline AnyScore make_score(const TokenChoiceOptions& o) {
  using Kind = TokenChoiceOptions::Score;
  if (o.score == Kind::sigmoid) return SigmoidScore{};
  if (o.score == Kind::relu) return ReluScore{};
  if (o.score == Kind::logit) return IdentityScore{};
  if (o.score == Kind::sqrt_softplus) return SqrtSoftplusScore{};
  return Softmax{};
}

inline AnySelection make_selection(const TokenChoiceOptions& o) {
  if (o.kept_groups == o.groups) return TopKSelection(o.k);
  if (o.group_score == GroupScore::top_two_sum && o.outputs < 2 * o.groups) {
    fail<config_error>("groups: expected at least 2 experts in each, whose two best are added, got ",
                       o.outputs, " experts in ", o.groups, " groups");
  }
  return GroupLimitedSelection({.k = o.k, .groups = o.groups, .kept = o.kept_groups, .score = o.group_score});
}

inline AnyWeighting make_weighting(const TokenChoiceOptions& o) {
  using Kind = TokenChoiceOptions::Weight;
  switch (o.weight) {
    case Kind::softmax_of_chosen:
      return SoftmaxWeighting{};
    case Kind::sigmoid_of_chosen:
      return SigmoidWeighting{};
    case Kind::leading:
      return LeadingWeighting(o.leading, false);
    case Kind::sparse_mixer:
      if (o.score != TokenChoiceOptions::Score::logit) {
        fail<config_error>("sparse mixer: expected scores that are logits");
      }
      return SparseMixerWeighting(o.outputs, o.sparse_mixer_eps);
    case Kind::score:
      break;
  }
  return GatherWeighting(o.weights);
}

template <class Real>
OptionsRouter<Real> make_router(const TokenChoiceOptions& o, AnySelection selection) {
  Buffer<double> ones;
  ones.assign(o.per_expert_scale ? o.outputs : 0, 1.0);
  OptionsRouter<Real> router(
      make_scorer<Real>(o), make_score(o), std::move(selection),
      ExpertScale<AnyWeighting>(make_weighting(o), {ones.data(), static_cast<std::size_t>(ones.size())}),
      Balancing<SelectionBias, LoadBalance, ZLoss>(
          SelectionBias({.outputs = o.outputs, .speed = o.bias_speed, .enabled = o.selection_bias}),
          LoadBalance({.coefficient = o.load_balance}), ZLoss(o.z_loss)),
      o.non_finite);
  router.set_weight_place(o.place);
  return router;
}

}  // namespace impl

/// Throws config_error for options that do not fit together.
template <class Real>
OptionsRouter<Real> token_choice_router(const TokenChoiceOptions& options) {
  return impl::make_router<Real>(options, impl::make_selection(options));
}

/// With experts chosen by a table of token ids (router/selection/table.hpp) in place of the k best.
template <class Real>
OptionsRouter<Real> token_choice_router(const TokenChoiceOptions& options, HashTable table) {
  if (table.hashes() != options.k || options.selection_bias || options.groups != options.kept_groups) {
    fail<config_error>("hash layer: expected a table of K = ", options.k,
                       " experts per token id, and neither selection bias nor groups, got a table of ",
                       table.hashes());
  }
  return impl::make_router<Real>(options, TableSelection(std::move(table)));
}

MOE_NAMESPACE_END
