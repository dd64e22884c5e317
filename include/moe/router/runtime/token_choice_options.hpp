// A token-choice router described by plain data: what the config files of released models choose from. The
// options hold parts, or the options of parts, of the library's lists; the router made of them consists of
// those parts, so that nothing is said twice.
#pragma once

#include <utility>
#include <variant>

#include "moe/core/check.hpp"
#include "moe/router/hash_table.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/runtime/any_balancing.hpp"
#include "moe/router/runtime/any_parts.hpp"
#include "moe/router/runtime/any_scorer.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/selection/group_limited.hpp"
#include "moe/router/selection/table.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/expert_scale.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

/// Defaults: a linear router, softmax over all outputs, the k best, weights as they are.
struct TokenChoiceOptions {
  Index width = 0;    // D
  Index outputs = 0;  // N
  Index k = 0;        // K

  AnyScorerOptions scorer = LinearScorerOptions{};  // extents of 0 mean `width` and `outputs`
  InputNorm norm{.enabled = false};
  bool gating_residual = false;  // router/scorer/gating_residual.hpp
  AnyLogitMap map{};
  AnyScore score = Softmax{};
  AnySelection selection =
      TopKSelection(1);  // with its K replaced by `k`; a table by the one that is handed in
  AnyWeighting weighting = GatherWeighting{};
  bool per_expert_scale = false;  // parameter "per_expert_scale", 1 at first
  WeightPlace place = WeightPlace::result;
  AnyBalancing balance{};
  NonFinite non_finite = NonFinite::throw_;
};

/// Any router that TokenChoiceOptions describe.
template <class Real>
using OptionsRouter =
    TokenChoice<AnyScorer<Real>, AnyScore, AnySelection, ExpertScale<Real, AnyWeighting>, AnyBalancing>;

namespace impl {

/// The scorer of the list whose Options `options` are.
template <class Real, class Options, class... Parts>
OneScorer<Real> scorer_of(TypeList<Parts...>, const Options& options) {
  std::optional<OneScorer<Real>> scorer;
  const auto make = [&]<class Part>(std::type_identity<Part>) {
    if constexpr (std::is_same_v<OptionsOf<Part>, Options>) scorer.emplace(Part(options));
  };
  (make(std::type_identity<Parts>{}), ...);
  return *std::move(scorer);
}

template <class Real>
AnyScorer<Real> make_scorer(const TokenChoiceOptions& o) {
  OneScorer<Real> scorer = std::visit(
      [&](auto options) {
        if (options.width == 0) options.width = o.width;
        if (options.outputs == 0) options.outputs = o.outputs;
        return scorer_of<Real>(Scorers<Real>{}, options);
      },
      o.scorer);
  return AnyScorer<Real>(
      GatingResidual(NormedScorer<OneScorer<Real>>(std::move(scorer), o.norm), o.gating_residual), o.map);
}

/// With the router's K, where the selection has one.
inline AnySelection make_selection(const TokenChoiceOptions& o) {
  if (o.selection.holds<TopKSelection>()) return TopKSelection(o.k);
  if (const auto* const limited = o.selection.get_if<GroupLimitedSelection>()) {
    GroupLimitedSelection::Options options = limited->options();
    if (options.score == GroupScore::top_two_sum && o.outputs < 2 * options.groups) {
      fail<config_error>("groups: expected at least 2 experts in each, whose two best are added, got ",
                         o.outputs, " experts in ", options.groups, " groups");
    }
    options.k = o.k;
    return GroupLimitedSelection(options);
  }
  return o.selection;
}

template <class Real>
OptionsRouter<Real> make_router(const TokenChoiceOptions& o, AnySelection selection) {
  if (o.weighting.holds<SparseMixerWeighting>() && !o.score.holds<IdentityScore>()) {
    fail<config_error>("sparse mixer: expected scores that are logits");
  }
  OptionsRouter<Real> router(make_scorer<Real>(o), o.score, std::move(selection),
                             ExpertScale<Real, AnyWeighting>(o.weighting, o.per_expert_scale ? o.outputs : 0),
                             o.balance, o.non_finite);
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
  if (table.hashes() != options.k || options.balance.get_if<SelectionBias>() != nullptr ||
      !options.selection.holds<TopKSelection>()) {
    fail<config_error>("hash layer: expected a table of K = ", options.k,
                       " experts per token id, and neither selection bias nor groups, got a table of ",
                       table.hashes());
  }
  return impl::make_router<Real>(options, TableSelection(std::move(table)));
}

MOE_NAMESPACE_END
