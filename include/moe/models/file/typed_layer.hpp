// One layer of a released model as a type of the caller's choice, built of static parts:
// MoeLayer<DeepSeekV3<float>, Glu<Silu, Int8Groups<>>, Dropless, SharedExperts<Glu<Silu, Int8Groups<>>>>.
// What the model is must be what the type computes; where it is not, the error says which part does not fit
// and why.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "moe/core/type_list.hpp"
#include "moe/layer/frame/list.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/layer/shared/none.hpp"
#include "moe/layer/shared/shared_experts.hpp"
#include "moe/models/file/load_layer.hpp"
#include "moe/plan/capacity/list.hpp"
#include "moe/router/balance/list.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/runtime/token_choice_options.hpp"
#include "moe/router/score/list.hpp"
#include "moe/router/scorer/gating_residual.hpp"
#include "moe/router/scorer/list.hpp"
#include "moe/router/selection/list.hpp"
#include "moe/router/weighting/list.hpp"

MOE_NAMESPACE_BEGIN
namespace models {
namespace impl {

/// Throws config_error unless `fits`.
inline void require_fit(const LayerSpec& spec, bool fits, const char* part, const char* what_it_computes) {
  if (fits) return;
  fail<config_error>("layer type: ", part, " does not fit layer ", spec.layer, " of ", spec.model.c_str(),
                     ": ", what_it_computes);
}

template <class P>
P stateless(const LayerSpec& s, bool fits, const char* part, const char* what) {
  require_fit(s, fits, part, what);
  return P{};
}

/// PartOf<P>::make(spec): the part of a router or a layer, without weights. Parts of the lists need nothing
/// here.
template <class P>
struct PartOf {
  static_assert(sizeof(P) == 0, "moe: load_layer<Layer>() does not know a part of this layer's type");
};

/// The spec's part of a family if it is a P. Throws config_error that names both.
template <class P, class Any>
P part_as(const LayerSpec& s, const Any& any, const char* family) {
  const P* const part = any.template get_if<P>();
  if (part == nullptr) {
    fail<config_error>("layer type: the ", family, " ", P::kName, " does not fit layer ", s.layer, " of ",
                       s.model.c_str(), ", whose ", family, " is ", any.name());
  }
  return *part;
}

template <ListedIn<Scorers<float>> P>
struct PartOf<P> {
  static P make(const LayerSpec& s) {
    require_fit(s, !s.router.norm.enabled && s.router.map.is_identity(), P::kName,
                "the model norms its router's rows or maps its logits: a NormedScorer or a MappedScorer");
    require_fit(s, !s.router.gating_residual, P::kName,
                "its logits take over those of the layer below: a GatingResidual");
    const OneScorer<float> scorer = moe::impl::make_scorer<float>(s.router).inner().inner().inner();
    return part_as<P>(s, scorer, "scorer");
  }
};
template <class Inner>
struct PartOf<NormedScorer<Inner>> {
  static NormedScorer<Inner> make(const LayerSpec& s) {
    LayerSpec bare = s;
    bare.router.norm.enabled = false;
    return NormedScorer<Inner>(PartOf<Inner>::make(bare), s.router.norm);
  }
};
template <class Inner>
struct PartOf<GatingResidual<Inner>> {
  static GatingResidual<Inner> make(const LayerSpec& s) {
    require_fit(s, s.router.map.is_identity(), "GatingResidual",
                "it maps logits behind the residual: a MappedScorer around it");
    LayerSpec bare = s;
    bare.router.gating_residual = false;
    return GatingResidual<Inner>(PartOf<Inner>::make(bare), s.router.gating_residual);
  }
};
template <class Inner, class Map>
struct PartOf<MappedScorer<Inner, Map>> {
  static MappedScorer<Inner, Map> make(const LayerSpec& s) {
    LayerSpec bare = s;
    bare.router.map = AnyLogitMap();
    return MappedScorer<Inner, Map>(PartOf<Inner>::make(bare),
                                    part_as<Map>(s, s.router.map, "map of the logits"));
  }
};

template <ListedIn<Scores> P>
struct PartOf<P> {
  static P make(const LayerSpec& s) { return part_as<P>(s, s.router.score, "score"); }
};

template <ListedIn<Selections> P>
struct PartOf<P> {
  static P make(const LayerSpec& s) {
    require_fit(s, !s.hash_table, P::kName, "it chooses by token id");
    AnySelection selection = moe::impl::make_selection(s.router);
    if constexpr (std::is_same_v<P, GroupLimitedSelection>) {  // all experts are one group
      if (selection.holds<TopKSelection>()) {
        selection = GroupLimitedSelection({.k = s.router.k, .groups = 1, .kept = 1});
      }
    }
    return part_as<P>(s, selection, "selection");
  }
};

template <ListedIn<Weightings> P>
struct PartOf<P> {
  static P make(const LayerSpec& s) {
    require_fit(s, !s.router.per_expert_scale, P::kName, "the model scales every expert: an ExpertScale");
    return part_as<P>(s, s.router.weighting, "weighting");
  }
};
template <class Inner>
struct PartOf<ExpertScale<float, Inner>> {
  static ExpertScale<float, Inner> make(const LayerSpec& s) {
    LayerSpec bare = s;
    bare.router.per_expert_scale = false;
    return ExpertScale<float, Inner>(PartOf<Inner>::make(bare),
                                     s.router.per_expert_scale ? s.router.outputs : 0);
  }
};

/// As the spec has it; where it has none, switched off: a checkpoint does not say the coefficients of losses.
template <ListedIn<BalanceParts> P>
struct PartOf<P> {
  static P make(const LayerSpec& s) {
    if (const P* const part = s.router.balance.get_if<P>()) return *part;
    typename P::Options off;
    if constexpr (requires { off.coefficient; }) off.coefficient = 0;
    if constexpr (requires { off.enabled; }) off.enabled = false;
    if constexpr (requires { off.outputs; }) off.outputs = s.router.outputs;
    if constexpr (requires { off.groups; }) {
      const auto* const limited = s.router.selection.get_if<GroupLimitedSelection>();
      off.groups = limited == nullptr ? 1 : limited->options().groups;
      if constexpr (requires { off.reached; }) off.reached = limited == nullptr ? 1 : limited->options().kept;
    }
    return P(off);
  }
};
template <class... Parts>
struct PartOf<Balancing<Parts...>> {
  static Balancing<Parts...> make(const LayerSpec& s) {
    require_fit(s, !selects_with_bias(s) || (std::is_same_v<Parts, SelectionBias> || ...), "Balancing",
                "the model has a selection bias, the type has no SelectionBias");
    if constexpr (sizeof...(Parts) == 0) {
      return {};
    } else {
      return Balancing<Parts...>(PartOf<Parts>::make(s)...);
    }
  }
};

template <class S, class F, class Select, class W, class Balance>
struct PartOf<TokenChoice<S, F, Select, W, Balance>> {
  static TokenChoice<S, F, Select, W, Balance> make(const LayerSpec& s) {
    // One after the other: of several misfits the first in this order is told.
    S scorer = PartOf<S>::make(s);
    F score = PartOf<F>::make(s);
    Select selection = PartOf<Select>::make(s);
    W weighting = PartOf<W>::make(s);
    TokenChoice<S, F, Select, W, Balance> router(std::move(scorer), std::move(score), std::move(selection),
                                                 std::move(weighting), PartOf<Balance>::make(s));
    router.set_weight_place(s.router.place);
    return router;
  }
};
template <>
struct PartOf<OptionsRouter<float>> {
  static OptionsRouter<float> make(const LayerSpec& s) {
    require_fit(s, !s.hash_table, "OptionsRouter", "it chooses by token id; load_layer() without a type can");
    return token_choice_router<float>(s.router);
  }
};

/// The activation within a gate, which must be the model's.
template <class Inner>
Inner inner_activation(const LayerSpec& s, const AnyActivation& model) {
  if constexpr (std::is_same_v<Inner, AnyActivation>) {
    return model;
  } else {
    require_fit(s, std::string_view(Inner::name()) == model.name(), Inner::name(),
                "its experts have another activation");
    return Inner{};
  }
}

/// The activation or gate that a bank has, and whether the model's is that.
template <class Act>
Act activation_of(const LayerSpec& s) {
  const AnyActivation model = s.gated ? s.gate.act : s.activation;
  if constexpr (std::is_same_v<Act, AnyGate>) {
    return s.gate;
  } else if constexpr (std::is_same_v<Act, SituGate>) {
    require_fit(s, s.gate.kind == AnyGate::Kind::situ, "SituGate", "its experts have another gate");
    return {s.gate.beta, s.gate.limit};
  } else if constexpr (requires(const Act& gate) { gate.offset; }) {  // ClampedGate
    using Inner = std::remove_cvref_t<decltype(std::declval<Act>().act)>;
    require_fit(s, s.gate.kind == AnyGate::Kind::clamped, "ClampedGate",
                "its experts' gates are not clamped");
    return {s.gate.limit, s.gate.offset, inner_activation<Inner>(s, model)};
  } else if constexpr (requires(const Act& gate) { gate.limit; }) {  // BoundedGate
    using Inner = std::remove_cvref_t<decltype(std::declval<Act>().act)>;
    require_fit(s, s.gate.kind == AnyGate::Kind::bounded, "BoundedGate",
                "its experts' gates are not bounded behind the activation");
    return {s.gate.limit, inner_activation<Inner>(s, model)};
  } else {
    require_fit(s, !s.gated || s.gate.kind == AnyGate::Kind::product, "the experts' activation",
                "its experts have a gate that is no product with an activation");
    if constexpr (std::is_same_v<Act, AnyActivation>) {
      return model;
    } else {
      require_fit(s, std::string_view(Act::name()) == model.name(), Act::name(),
                  "its experts have another activation");
      return Act{};
    }
  }
}

/// Banks: make(spec, extents).
template <class Act, class Storage>
struct PartOf<Glu<Act, Storage>> {
  static Glu<Act, Storage> make(const LayerSpec& s, const TwoLayerOptions& extents) {
    require_fit(s, s.gated, "Glu", "its experts have no gate");
    return {extents, activation_of<Act>(s)};
  }
};
template <class Act, class Storage>
struct PartOf<Mlp<Act, Storage>> {
  static Mlp<Act, Storage> make(const LayerSpec& s, const TwoLayerOptions& extents) {
    require_fit(s, !s.gated, "Mlp", "its experts have a gate");
    return Mlp<Act, Storage>(extents, activation_of<Act>(s));
  }
};

/// Loaded::from(tensors, spec, progress): a part of a layer with its weights.
template <class P>
struct Loaded {
  static P from(const LayerSource& t, const LayerSpec& s, const LoadProgress& progress) {
    require_fit(s, s.outputs() == s.experts, "the bank", "it has experts that compute nothing: a Composite");
    P bank = PartOf<P>::make(s, {s.experts, s.expert_width(), s.hidden, s.expert_bias});
    load_bank(bank, t, s, progress);
    return bank;
  }
};
template <class Bank>
struct Loaded<Composite<Bank, ZeroComputation<float>>> {
  static Composite<Bank, ZeroComputation<float>> from(const LayerSource& t, const LayerSpec& s,
                                                      const LoadProgress& progress) {
    require_fit(s, s.outputs() > s.experts, "Composite", "all its experts compute something");
    Bank bank = PartOf<Bank>::make(s, {s.experts, s.expert_width(), s.hidden, s.expert_bias});
    load_bank(bank, t, s, progress);
    return Composite<Bank, ZeroComputation<float>>(std::move(bank), load_cheap_experts(t, s));
  }
};
template <>
struct Loaded<NoShared> {
  static NoShared from(const LayerSource&, const LayerSpec& s, const LoadProgress&) {
    return stateless<NoShared>(s, s.shared_hidden == 0, "NoShared", "the model has a shared expert");
  }
};
template <class Bank>
struct Loaded<SharedExperts<Bank>> {
  static SharedExperts<Bank> from(const LayerSource& t, const LayerSpec& s, const LoadProgress&) {
    require_fit(s, s.shared_hidden > 0, "SharedExperts", "the model has no shared expert");
    Bank bank = PartOf<Bank>::make(shared_spec(s), {1, s.width, s.shared_hidden, false});
    load_shared_bank(bank, t, s);
    SharedExperts<Bank> shared(std::move(bank), s.shared_gate, s.shared_scale);
    load_shared_gate(shared, t);
    return shared;
  }
};
template <ListedIn<Frames<float>> P>
struct Loaded<P> {
  static P from(const LayerSource& t, const LayerSpec& s, const LoadProgress&) {
    return part_as<P>(s, load_frame(&t, s), "frame");
  }
};
template <ListedIn<Capacities> P>
struct Loaded<P> {
  static P from(const LayerSource&, const LayerSpec& s, const LoadProgress&) {
    return part_as<P>(s, s.capacity, "capacity");
  }
};

template <class R>
R load_router_as(const LayerSource& tensors, const LayerSpec& spec) {
  R router = PartOf<R>::make(spec);
  load_parameters(router, tensors);
  // State of parts that the model does not have (an adaptive coefficient) stays as built.
  auto state = [&](const char* name, double* to, Index n) {
    if (tensors.has(name)) load_state(tensors, name, to, n);
  };
  router.visit_state(state);
  return router;
}

template <class Layer>
struct LayerOf;
template <class R, class B, class C, class S, class F>
struct LayerOf<MoeLayer<R, B, C, S, F>> {
  static MoeLayer<R, B, C, S, F> load(const LayerSource& t, const LayerSpec& s,
                                      const LoadProgress& progress) {
    // What costs nothing first: a type that does not fit is refused before experts are read.
    auto router = load_router_as<R>(t, s);
    auto capacity = Loaded<C>::from(t, s, progress);
    auto frame = Loaded<F>::from(t, s, progress);
    auto shared = Loaded<S>::from(t, s, progress);
    return MoeLayer<R, B, C, S, F>(std::move(router), Loaded<B>::from(t, s, progress), std::move(capacity),
                                   std::move(shared), std::move(frame));
  }
};

}  // namespace impl

/// As load_layer() without a type; also throws config_error when the type does not compute what the model
/// does.
template <class Layer>
Layer load_layer(const std::filesystem::path& folder, Index layer, const LoadProgress& progress = {}) {
  const io::Config config = io::Config::from_file(folder / "config.json");
  const LayerSpec spec = describe_layer(config, layer);
  const io::Checkpoint checkpoint(folder);
  const LayerTensors tensors(checkpoint, config, spec);
  tensors.require_whole_block(spec);
  return impl::LayerOf<Layer>::load(tensors, spec, progress);
}

}  // namespace models
MOE_NAMESPACE_END
