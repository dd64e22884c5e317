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

#include "moe/layer/moe_layer.hpp"
#include "moe/layer/shared/none.hpp"
#include "moe/layer/shared/shared_experts.hpp"
#include "moe/models/file/load_layer.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "moe/plan/capacity/fixed.hpp"
#include "moe/router/balance/communication_balance.hpp"
#include "moe/router/balance/device_balance.hpp"
#include "moe/router/balance/sequence_balance.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/identity.hpp"
#include "moe/router/score/sigmoid.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/score/sqrt_softplus.hpp"
#include "moe/router/selection/group_limited.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "moe/router/weighting/sigmoid.hpp"
#include "moe/router/weighting/softmax.hpp"
#include "moe/router/weighting/sparse_mixer.hpp"

MOE_NAMESPACE_BEGIN
namespace models {
namespace impl {

/// Throws config_error unless `fits`.
inline void require_fit(const LayerSpec& spec, bool fits, const char* part, const char* what_it_computes) {
  if (fits) return;
  fail<config_error>("layer type: ", part, " does not fit layer ", spec.layer, " of ", spec.model.c_str(),
                     ": ", what_it_computes);
}

/// PartOf<P>::make(spec): the part of a router or a layer, without weights. Specialised for every part.
template <class P>
struct PartOf {
  static_assert(sizeof(P) == 0, "moe: load_layer<Layer>() does not know a part of this layer's type");
};

template <>
struct PartOf<LinearScorer<float>> {
  static LinearScorer<float> make(const LayerSpec& s) {
    const TokenChoiceOptions& o = s.router;
    require_fit(
        s,
        o.scorer == TokenChoiceOptions::Scorer::linear && !o.norm.enabled && o.soft_cap == 0 && o.spread == 0,
        "LinearScorer", "the model's router is not x W^T alone");
    return LinearScorer<float>({.width = o.width, .outputs = o.outputs, .bias = o.bias});
  }
};

template <class P>
P stateless(const LayerSpec& s, bool fits, const char* part, const char* what) {
  require_fit(s, fits, part, what);
  return P{};
}
template <>
struct PartOf<Softmax> {
  static Softmax make(const LayerSpec& s) {
    return stateless<Softmax>(s, s.router.score == Score::softmax, "Softmax",
                              "its scores are not a softmax of all");
  }
};
template <>
struct PartOf<SigmoidScore> {
  static SigmoidScore make(const LayerSpec& s) {
    return stateless<SigmoidScore>(s, s.router.score == Score::sigmoid, "SigmoidScore",
                                   "its scores are not sigmoids");
  }
};
template <>
struct PartOf<SqrtSoftplusScore> {
  static SqrtSoftplusScore make(const LayerSpec& s) {
    return stateless<SqrtSoftplusScore>(s, s.router.score == Score::sqrt_softplus, "SqrtSoftplusScore",
                                        "its scores are not square roots of softplus");
  }
};
template <>
struct PartOf<IdentityScore> {
  static IdentityScore make(const LayerSpec& s) {
    return stateless<IdentityScore>(s, s.router.score == Score::logit, "IdentityScore",
                                    "it does not choose by logits");
  }
};

template <>
struct PartOf<TopKSelection> {
  static TopKSelection make(const LayerSpec& s) {
    require_fit(s, !s.hash_table && s.router.groups == s.router.kept_groups, "TopKSelection",
                "it chooses within groups, or by token id");
    return TopKSelection(s.router.k);
  }
};
template <>
struct PartOf<GroupLimitedSelection> {
  static GroupLimitedSelection make(const LayerSpec& s) {
    require_fit(s, !s.hash_table, "GroupLimitedSelection", "it chooses by token id");
    return GroupLimitedSelection({.k = s.router.k,
                                  .groups = s.router.groups,
                                  .kept = s.router.kept_groups,
                                  .score = s.router.group_score});
  }
};

template <>
struct PartOf<GatherWeighting> {
  static GatherWeighting make(const LayerSpec& s) {
    require_fit(s, s.router.weight == Weight::score && !s.router.per_expert_scale, "GatherWeighting",
                "its weights are not the scores of the chosen");
    return GatherWeighting(s.router.weights);
  }
};
template <>
struct PartOf<SoftmaxWeighting> {
  static SoftmaxWeighting make(const LayerSpec& s) {
    return stateless<SoftmaxWeighting>(s, s.router.weight == Weight::softmax_of_chosen, "SoftmaxWeighting",
                                       "its weights are not a softmax of the chosen");
  }
};
template <>
struct PartOf<SigmoidWeighting> {
  static SigmoidWeighting make(const LayerSpec& s) {
    return stateless<SigmoidWeighting>(s, s.router.weight == Weight::sigmoid_of_chosen, "SigmoidWeighting",
                                       "its weights are not sigmoids of the chosen");
  }
};
template <>
struct PartOf<SparseMixerWeighting> {
  static SparseMixerWeighting make(const LayerSpec& s) {
    require_fit(s, s.router.weight == Weight::sparse_mixer, "SparseMixerWeighting",
                "its weights are not those of SparseMixer");
    return {s.router.outputs, s.router.sparse_mixer_eps};
  }
};

// Losses are off: a checkpoint does not say their coefficients.
template <>
struct PartOf<SelectionBias> {
  static SelectionBias make(const LayerSpec& s) {
    return SelectionBias({.outputs = s.router.outputs, .speed = 0, .enabled = s.router.selection_bias});
  }
};
template <>
struct PartOf<LoadBalance> {
  static LoadBalance make(const LayerSpec&) { return LoadBalance({.coefficient = 0}); }
};
template <>
struct PartOf<ZLoss> {
  static ZLoss make(const LayerSpec&) { return ZLoss(0); }
};
template <>
struct PartOf<SequenceBalance> {
  static SequenceBalance make(const LayerSpec&) { return SequenceBalance(0); }
};
template <>
struct PartOf<DeviceBalance> {
  static DeviceBalance make(const LayerSpec& s) {
    return DeviceBalance({.coefficient = 0, .groups = s.router.groups});
  }
};
template <>
struct PartOf<CommunicationBalance> {
  static CommunicationBalance make(const LayerSpec& s) {
    return CommunicationBalance(
        {.coefficient = 0, .groups = s.router.groups, .reached = s.router.kept_groups});
  }
};
template <class... Parts>
struct PartOf<Balancing<Parts...>> {
  static Balancing<Parts...> make(const LayerSpec& s) {
    require_fit(s, !s.router.selection_bias || (std::is_same_v<Parts, SelectionBias> || ...), "Balancing",
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
    if constexpr (std::is_same_v<Inner, AnyActivation>) {
      return {s.gate.limit, s.gate.offset, model};
    } else {
      require_fit(s, std::string_view(Inner::name()) == model.name(), Inner::name(),
                  "its experts have another activation");
      return {s.gate.limit, s.gate.offset, Inner{}};
    }
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
  static P from(const LayerTensors& t, const LayerSpec& s, const LoadProgress& progress) {
    require_fit(s, s.outputs() == s.experts, "the bank", "it has experts that compute nothing: a Composite");
    P bank = PartOf<P>::make(s, {s.experts, s.expert_width(), s.hidden, s.expert_bias});
    load_bank(bank, t, s, progress);
    return bank;
  }
};
template <class Bank>
struct Loaded<Composite<Bank, ZeroComputation<float>>> {
  static Composite<Bank, ZeroComputation<float>> from(const LayerTensors& t, const LayerSpec& s,
                                                      const LoadProgress& progress) {
    require_fit(s, s.outputs() > s.experts, "Composite", "all its experts compute something");
    Bank bank = PartOf<Bank>::make(s, {s.experts, s.expert_width(), s.hidden, s.expert_bias});
    load_bank(bank, t, s, progress);
    return Composite<Bank, ZeroComputation<float>>(std::move(bank), load_cheap_experts(t, s));
  }
};
template <>
struct Loaded<NoShared> {
  static NoShared from(const LayerTensors&, const LayerSpec& s, const LoadProgress&) {
    return stateless<NoShared>(s, s.shared_hidden == 0, "NoShared", "the model has a shared expert");
  }
};
template <class Bank>
struct Loaded<SharedExperts<Bank>> {
  static SharedExperts<Bank> from(const LayerTensors& t, const LayerSpec& s, const LoadProgress&) {
    require_fit(s, s.shared_hidden > 0, "SharedExperts", "the model has no shared expert");
    Bank bank = PartOf<Bank>::make(s, {1, s.width, s.shared_hidden, false});
    load_shared_bank(bank, t, s);
    SharedExperts<Bank> shared(std::move(bank), s.shared_gate);
    load_shared_gate(shared, t);
    return shared;
  }
};
template <>
struct Loaded<IdentityFrame> {
  static IdentityFrame from(const LayerTensors&, const LayerSpec& s, const LoadProgress&) {
    return stateless<IdentityFrame>(s, s.latent == 0 && !s.output_bias && s.input_scale == 1, "IdentityFrame",
                                    "the model has a latent space, a bias of the sum or scaled rows");
  }
};
template <>
struct Loaded<OutputBias<float>> {
  static OutputBias<float> from(const LayerTensors& t, const LayerSpec& s, const LoadProgress&) {
    require_fit(s, s.output_bias, "OutputBias", "the model has no bias of the sum");
    OutputBias<float> frame(s.width);
    load_parameters(frame, t);
    return frame;
  }
};
template <>
struct Loaded<LatentFrame<float>> {
  static LatentFrame<float> from(const LayerTensors& t, const LayerSpec& s, const LoadProgress&) {
    require_fit(s, s.latent > 0, "LatentFrame", "the model has no latent space");
    LatentFrame<float> frame(s.width, s.latent, s.latent_norm);
    load_parameters(frame, t);
    return frame;
  }
};
template <>
struct Loaded<Dropless> {
  static Dropless from(const LayerTensors&, const LayerSpec& s, const LoadProgress&) {
    return stateless<Dropless>(s, s.tokens_per_expert == 0 && s.capacity_factor == 0, "Dropless",
                               "the model limits the tokens of an expert");
  }
};
template <>
struct Loaded<FixedCapacity> {
  static FixedCapacity from(const LayerTensors&, const LayerSpec& s, const LoadProgress&) {
    require_fit(s, s.tokens_per_expert > 0 || s.capacity_factor > 0, "FixedCapacity",
                "the model drops no tokens");
    return capacity_of(s);
  }
};

template <class R>
R load_router_as(const LayerTensors& tensors, const LayerSpec& spec) {
  R router = PartOf<R>::make(spec);
  load_parameters(router, tensors);
  auto state = [&](const char* name, double* to, Index n) { load_state(tensors, name, to, n); };
  router.visit_state(state);
  return router;
}

template <class Layer>
struct LayerOf;
template <class R, class B, class C, class S, class F>
struct LayerOf<MoeLayer<R, B, C, S, F>> {
  static MoeLayer<R, B, C, S, F> load(const LayerTensors& t, const LayerSpec& s,
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
  const LayerSpec spec = preset_of(config).describe(config, layer);
  const io::Checkpoint checkpoint(folder);
  return impl::LayerOf<Layer>::load(LayerTensors(checkpoint, config, spec), spec, progress);
}

}  // namespace models
MOE_NAMESPACE_END
